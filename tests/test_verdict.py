"""The verdict: its error rates on simulated test sets, the rows that it asks for, and its words."""

from functools import lru_cache

import numpy as np
import pytest

from compressor.evaluation import statistics, verdict

SIMULATIONS = 2000
NOMINAL = 0.015  # accepted distance from the nominal rate; three standard errors of 95% over 2,000


def test_a_student_exactly_at_the_margin_is_wrongly_shipped_or_wrongly_refused_in_one_of_forty_test_sets() -> None:
    decisions = decide(broken=0.06, repaired=0.05, rows=1500)
    assert abs(decisions.count("ship") / SIMULATIONS - 0.025) <= NOMINAL
    assert abs(decisions.count("do not ship") / SIMULATIONS - 0.025) <= NOMINAL


def test_a_student_two_points_worse_is_almost_never_shipped() -> None:
    assert decide(broken=0.06, repaired=0.04, rows=1500).count("ship") / SIMULATIONS <= 0.005


@pytest.mark.parametrize(
    ("broken", "repaired", "seen", "decision"),
    [(20, 20, 1000, "ship"), (10, 15, 500, "ship"), (18, 6, 300, "do not ship"), (5, 3, 1000, "ship")],
    ids=["no change", "better", "worse", "few changes"],
)
def test_the_advised_number_of_rows_decides_in_four_of_five_test_sets(
    broken: int, repaired: int, seen: int, decision: str
) -> None:
    rows = verdict.needed_rows(broken, repaired, seen, margin=0.01)
    assert rows is not None
    decisions = decide(broken / seen, repaired / seen, rows)
    assert abs(decisions.count(decision) / SIMULATIONS - 0.8) <= 0.03


def test_the_advised_number_of_rows_is_more_than_were_seen_and_grows_as_the_margin_nears() -> None:
    found = [verdict.needed_rows(30, repaired, 1000, margin=0.01) for repaired in (34, 30, 26, 23)]
    assert all(rows > 1000 for rows in found)
    assert found == sorted(found)
    assert found[-1] > 4 * found[0]


def test_a_student_that_breaks_every_row_is_refused_without_certainty() -> None:
    found = verdict.non_inferiority(900, 0, 900, margin=0.01)
    assert found.decision == "do not ship"
    assert -1 <= found.difference.low < found.difference.high < -0.99


def test_one_test_row_is_never_enough() -> None:
    found = verdict.non_inferiority(0, 0, 1, margin=0.01)
    assert found.decision == "cannot tell"
    assert found.needed_rows is not None
    assert found.sentence.startswith("Cannot tell with 1 test row: its accuracy differs")


def test_an_unchanged_student_ships_where_the_test_is_large() -> None:
    found = verdict.non_inferiority(0, 0, 5000, margin=0.01)
    assert found.decision == "ship"
    assert found.mcnemar_p == 1.0
    assert found.sentence == (
        "Ship: on 5,000 test rows its accuracy differs from the teacher's by 0.0 points "
        "(95% interval −0.1 to +0.1), and a drop beyond the 1.0 points that you allow is ruled out."
    )


def test_a_clear_loss_does_not_ship() -> None:
    assert verdict.non_inferiority(60, 20, 1000, margin=0.01).decision == "do not ship"


def test_where_the_difference_sits_on_the_margin_no_number_of_rows_is_promised() -> None:
    found = verdict.non_inferiority(30, 20, 1000, margin=0.01)
    assert found.needed_rows is None
    assert "more rows alone will hardly decide it" in found.sentence


@pytest.mark.parametrize(("broken", "repaired", "rows"), [(20, 10, 1000), (12, 0, 300), (50, 50, 2000)])
def test_the_power_is_simulated_with_the_interval_that_the_verdict_uses(broken: int, repaired: int, rows: int) -> None:
    low, high = verdict._bca_of_difference(np.array([float(broken)]), np.array([float(repaired)]), rows)
    found = statistics.paired_difference(broken, repaired, rows)
    assert [low[0], high[0]] == pytest.approx([found.low, found.high], abs=0.02 * (found.high - found.low))


def draw_changes(broken: float, repaired: float, rows: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return rng.multinomial(rows, [broken, repaired, 1 - broken - repaired], SIMULATIONS).tolist()


def decide(broken: float, repaired: float, rows: int) -> list[str]:
    decision = lru_cache(None)(lambda lost, won: verdict.decide(statistics.paired_difference(lost, won, rows), 0.01))
    return [decision(*draw[:2]) for draw in draw_changes(broken, repaired, rows)]
