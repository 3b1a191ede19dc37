"""Numbers as the report prints them: one way for each kind, shared by all renderers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compressor.evaluation.statistics import points


def percent(share: float | None, decimals: int = 1) -> str:
    """A share as in ``93.1%``."""
    return "–" if share is None else f"{100 * share:.{decimals}f}%"


def percents(interval: Sequence[float] | None) -> str:
    """An interval of shares as in ``91.8–94.2%``."""
    return "–" if interval is None else f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}%"


def score(value: float | None, share: bool = True, decimals: int = 1) -> str:
    """A metric as in ``93.1%``, or ``0.874`` where it is no share."""
    if value is None:
        return "–"
    return percent(value, decimals) if share else f"{value:.3f}"


def scores(interval: Sequence[float] | None, share: bool = True) -> str:
    """An interval of a metric as in ``91.8–94.2%`` or ``0.861–0.880``."""
    if interval is None or interval[0] is None:
        return "–"
    if share:
        return percents(interval)
    return f"{interval[0]:.3f}{'–' if interval[0] >= 0 else ' to '}{interval[1]:.3f}"


def signed(share: float | None) -> str:
    """A difference of shares in points, as in ``−0.4``."""
    return "–" if share is None else points(share)


def changed(difference: float, share: bool = True) -> str:
    """A difference of a metric: in points, as in ``−0.4``, or as in ``+0.012`` where it is no share."""
    return points(difference) if share else f"{difference:+.3f}".replace("-", "−")


def count_change(number: int) -> str:
    """A difference of counts with its sign, as in ``+3`` or ``−12``."""
    return f"{number:+,d}".replace("-", "−") if number else "0"


def megabytes(size: float | None) -> str:
    """Bytes as in ``67.6 MB``, a megabyte being 10^6."""
    return "–" if size is None else f"{size / 1e6:,.1f} MB"


def millis(value: float | None) -> str:
    """Milliseconds to three digits, as in ``8.12 ms``."""
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def times(ratio: float | None) -> str:
    """A ratio as in ``3.0×``."""
    return "–" if ratio is None else f"{ratio:.1f}×" if ratio >= 2 else f"{ratio:.2f}×"


def times_between(interval: Sequence[float] | None) -> str:
    """An interval of ratios as in ``2.9–3.1×``."""
    return "–" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}×"


def seconds(value: float) -> str:
    """A duration as in ``28 min 30 s``."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def p_value(value: float | None) -> str:
    """A p-value as in ``0.03`` or ``<0.001``."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def p_is(value: float) -> str:
    """A p-value in a sentence, as in ``p = 0.03`` or ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {p_value(value)}"


def addition(part: Mapping[str, Any]) -> str:
    """Which rows joined the training rows without labels.

    Args:
        part: As ``report.json`` has it under ``data.added``.
    """
    origin = f"of {part['source']}" if part["kind"] == "unlabelled" else f"altered ({part['source']})"
    left = [
        f"{count:,} {reason}"
        for count, reason in (
            (part["held_out"], "equal to validation or test rows"),
            (part["repeated"], "equal to other training rows"),
        )
        if count
    ]
    return f"{part['rows']:,} rows {origin} were learnt from without labels, by the teacher's answers alone" + (
        f"; left out: {' and '.join(left)}." if left else "."
    )


def by_heart(known: float, unknown: float, *, is_altered: bool) -> str:
    """What a teacher's uncertainty decided about the texts that its student reads.

    Args:
        known: Mean entropy of its answers about training texts, in nats.
        unknown: About validation texts.
        is_altered: Whether the student reads altered copies of the training texts.
    """
    entropies = f"entropy of its answers {known:.3g} nats, and {unknown:.3g} about validation texts"
    if is_altered:
        return f"The teacher knows its training texts by heart ({entropies}): every epoch has other copies of them."
    return f"The teacher does not know its training texts by heart ({entropies}): every epoch has them as they are."


def unsure(right: float, sure: float) -> str:
    """What is known of a teacher that was trained for too short.

    Args:
        right: Share of the validation texts that it is right about.
        sure: Mean probability of what it answers to them.
    """
    return (
        f"The teacher is right about {percent(right)} of the validation texts, but sure of its answers by "
        f"{percent(sure)} only: it has learnt too little to judge a student by. Train it for longer (--teacher-epochs) "
        "or in larger steps (--teacher-learning-rate)."
    )


def vocabulary(found: Mapping[str, Any]) -> str:
    """What was taken out of a vocabulary, and what that changes.

    Args:
        found: As ``report.json`` has it under ``vocabulary``.
    """
    share = found["changed_texts"] / found["texts"] if found["texts"] else 0.0
    return (
        f"The vocabulary went from {found['pieces_before']:,} to {found['pieces_after']:,} pieces, which saves "
        f"{megabytes(found['saved_bytes'])} of fp32 weights: {percent(share)} of {found['texts']:,} held-out texts are "
        "cut in another way. On texts that are cut as before, outputs differed by at most "
        f"{found['max_abs_difference']:.1g} before the training."
    )
