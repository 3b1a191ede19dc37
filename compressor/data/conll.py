"""Read CoNLL files: a word and its tag on each line, a blank line between sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressor.data.columns import Chooser
from compressor.data.rows import INCOMPLETE, Rows, gather, read_text
from compressor.errors import DataError

SUFFIXES = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".txt", ".tsv")

_BLANK = " \t\r\ufeff"  # str.strip() would also take U+0085, which may be a word
_DOCUMENT = "-DOCSTART-"
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_SNIFFED_BYTES = 1 << 16
_SNIFFED_SHARE = 0.9


@dataclass(frozen=True)
class _Line:
    number: int
    fields: tuple[str, ...]


def read_conll(path: Path, choose: Chooser) -> Rows:
    """Read sentences: tab or blanks between the columns, the word in the first and the tag in the last.

    ``-DOCSTART-`` lines and comments (``# `` before a sentence) are passed over.

    Args:
        path: The file.
        choose: Gets the numbers of the columns as their names, ``"1"`` first.

    Raises:
        DataError: A line of another number of columns than the first; it is named.
    """
    text = read_text(path)
    separator = re.compile(r"\t" if "\t" in text else r" +")
    sentences = _sentences(path, text, separator)
    if not sentences:
        raise DataError(f"{path} has no words.", INCOMPLETE)
    width = len(sentences[0][0].fields)
    names = [str(number) for number in range(1, width + 1)]
    if width < 2:
        raise DataError(
            f"{path}, line {sentences[0][0].number}: expected a word and its tag, found {sentences[0][0].fields[0]!r}.",
            "Write one word and its tag on each line, with a tab or a blank between them.",
        )
    chosen = choose(str(path), names)
    places = {name: names.index(name) for name in chosen.names}
    values: dict[str, list[object]] = {
        name: [[line.fields[place] for line in sentence] for sentence in sentences] for name, place in places.items()
    }
    # A blank word has no place in a text, and would shift the lines below it.
    for sentence in sentences:
        for line in sentence:
            if not all(line.fields[place].strip() for place in places.values()):
                raise DataError(
                    f"{path}, line {line.number}: a word or a tag is blank.", "Remove the line, or write both."
                )
    note = (
        f"{path.name} has {width} columns: words were read from column {chosen.text}, tags from column {chosen.label}."
        if width > 2
        else ""
    )
    numbers = [sentence[0].number for sentence in sentences]
    return gather(path, "line", numbers, values, chosen, names, note=note, stacked=True)


def _sentences(path: Path, text: str, separator: re.Pattern[str]) -> list[list[_Line]]:
    found: list[list[_Line]] = [[]]
    width = 0
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip(_BLANK) if separator.pattern != r"\t" else raw.rstrip("\r")
        if not line.strip(_BLANK):
            found.append([])
            continue
        fields = tuple(part.strip(_BLANK) for part in separator.split(line))
        if fields[0].startswith(_DOCUMENT) or (not found[-1] and _is_comment(line, fields, width)):
            continue
        if width and len(fields) != width:
            raise DataError(
                f"{path}, line {number}: {len(fields)} column{'s' * (len(fields) != 1)} where the first line has "
                f"{width}: {line[:40]!r}.",
                "Write one word and its tag on each line, with a tab or a blank between them, and a blank line "
                "between sentences.",
            )
        width = width or len(fields)
        found[-1].append(_Line(number, fields))
    return [sentence for sentence in found if sentence]


def _is_comment(line: str, fields: Sequence[str], width: int) -> bool:
    """Tell a comment before a sentence from the word ``#``, whose line ends in a tag."""
    if not line.startswith("# ") or "\t" in line:
        return False
    return len(fields) != (width or 2) or not _TAG.fullmatch(fields[-1])


def looks_like_conll(path: Path) -> bool:
    """Tell by its beginning whether a file of an unknown extension is a CoNLL file."""
    with path.open("rb") as stream:
        start = stream.read(_SNIFFED_BYTES)
    try:
        text = start[: start.rfind(b"\n") + 1].decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    lines = [re.split(r"[ \t]+", line.strip(_BLANK)) for line in text.split("\n") if line.strip(_BLANK)]
    widths = Counter(map(len, lines))
    width, most = widths.most_common(1)[0] if widths else (0, 0)
    tagged = sum(1 for fields in lines if _TAG.fullmatch(fields[-1]))
    return width > 1 and min(most, tagged) >= _SNIFFED_SHARE * len(lines)
