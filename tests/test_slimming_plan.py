"""What goes next, when, and what layers cost: shares, latencies, the schedule."""

from __future__ import annotations

import numpy as np
import pytest

from compressor.errors import RecipeError
from compressor.events import Warned
from compressor.recipe import PruneRecipe
from compressor.slimming.latency import LatencyTable, Point, kept_table, points, table_from, target_ms
from compressor.slimming.plan import by_latency, by_share, choice_for, least_neurons, sizes
from compressor.slimming.schedule import RISE_END, RISE_START, last_choice, rise
from compressor.slimming.units import Units, everything


def importance(heads, neurons) -> Units:
    return Units(tuple(map(np.array, heads)), tuple(map(np.array, neurons)))


def falling(count: int, first: float = 1.0):
    """Scores of which the last unit's is the smallest."""
    return first * np.arange(count, 0, -1.0)


# --- shares ---------------------------------------------------------------------------------


def test_the_least_important_heads_of_all_layers_go_first():
    scores = importance([[5.0, 4.0, 0.5, 0.5], [2.6, 2.55, 2.5, 2.4]], [falling(16), falling(16)])
    kept = by_share(0.5, 0.0, even=False)(scores, everything((4, 4), (16, 16)), 1.0)
    assert [mask.tolist() for mask in kept.heads] == [[True, True, False, False], [True, True, False, False]]
    assert sizes(kept)[1] == (16, 16)


def test_the_last_head_and_the_last_group_of_neurons_stay():
    scores = importance([[1.0, 2.0], [3.0, 4.0]], [falling(64), falling(64)])
    kept = by_share(0.99, 0.99, even=False)(scores, everything((2, 2), (64, 64)), 1.0)
    assert sizes(kept) == ((1, 1), (16, 16))
    assert kept.heads[0].tolist() == [False, True]
    assert kept.neurons[0][:16].all()


def test_even_neurons_are_the_same_number_in_every_layer_chosen_within_each():
    backwards = falling(64)[::-1]
    scores = importance([[1.0], [1.0]], [falling(64, 1e-6), backwards * 1e6])
    kept = by_share(0.0, 0.5, even=True)(scores, everything((1, 1), (64, 64)), 1.0)
    assert sizes(kept)[1] == (32, 32)
    assert kept.neurons[0][:32].all()
    assert kept.neurons[1][32:].all()


def test_uneven_neurons_go_where_they_matter_least():
    flat = np.ones(64)
    steep = np.concatenate([np.full(48, 1e-3), np.full(16, 10.0)])
    scores = importance([[1.0], [1.0]], [flat, steep])
    kept = by_share(0.1, 0.375, even=False)(scores, everything((1, 1), (64, 64)), 1.0)
    assert sizes(kept)[1] == (64, 16)


def test_widths_are_whole_groups_however_odd_the_share():
    scores = importance([[1.0]], [falling(3072)])
    for share in (0.1, 0.37, 0.66):
        left = sizes(by_share(0.0, share, even=True)(scores, everything((1,), (3072,)), 1.0))[1][0]
        assert left % 16 == 0
        assert left == pytest.approx(3072 * (1 - share), abs=8)


def test_a_width_that_is_no_whole_number_of_groups_keeps_what_is_left_over():
    assert [least_neurons(count) for count in (16, 32, 40, 41, 7)] == [16, 16, 8, 9, 7]
    scores = importance([[1.0]], [falling(40)])
    assert sizes(by_share(0.0, 0.9, even=True)(scores, everything((1,), (40,)), 1.0))[1] == (8,)


def test_what_is_gone_stays_gone_whatever_is_important_later():
    whole = everything((4, 4), (64, 64))
    choose = by_share(0.5, 0.5, even=False)
    rng = np.random.default_rng(0)
    kept = whole
    for due in (0.3, 0.6, 1.0):
        scores = Units(tuple(rng.random(4) for _ in range(2)), tuple(rng.random(64) for _ in range(2)))
        after = choose(scores, kept, due)
        assert all((new <= old).all() for new, old in zip(after.heads, kept.heads, strict=True))
        assert all((new <= old).all() for new, old in zip(after.neurons, kept.neurons, strict=True))
        kept = after
    assert (sum(sizes(kept)[0]), sum(sizes(kept)[1])) == (4, 64)


def test_nothing_is_cut_before_anything_is_due():
    scores = importance([[1.0, 2.0]], [falling(64)])
    assert sizes(by_share(0.5, 0.5, even=True)(scores, everything((2,), (64,)), 0.0)) == ((2,), (64,))


# --- latency --------------------------------------------------------------------------------


def table(teacher_ms: float = 40.0) -> LatencyTable:
    """Two layers: a head costs 1 ms, 16 neurons cost 0.5 ms, and a layer and the rest 1 ms each."""
    return LatencyTable((1, 4), (2.0, 5.0), (16, 64), (0.0, 1.5), 1.0, 2, teacher_ms)


def test_a_model_costs_the_rest_and_its_layers():
    assert table().total([4, 4], [64, 64]) == pytest.approx(1 + 2 * (5 + 1.5))
    assert table().total([2, 4], [32, 64]) == pytest.approx(1 + 3 + 0.5 + 5 + 1.5)
    assert table().least() == pytest.approx(1 + 2 * 2)


def test_a_layer_that_is_run_twice_costs_twice():
    assert table().total([2], [32]) == pytest.approx(table().total([2, 2], [32, 32]))


def test_the_cut_is_spent_where_a_millisecond_costs_least():
    # All heads and all neurons matter alike, but heads save 1 ms for a quarter of a block, neurons half of that.
    scores = importance([np.ones(4)] * 2, [np.ones(64)] * 2)
    kept = by_latency(table(), target_ms=10.0)(scores, everything((4, 4), (64, 64)), 1.0)
    assert sum(sizes(kept)[0]) == 4
    assert sizes(kept)[1] == (64, 64)


def test_the_cut_is_spent_where_little_is_lost():
    scores = importance([np.ones(4)] * 2, [np.concatenate([np.ones(16), np.full(48, 1e-6)])] * 2)
    kept = by_latency(table(), target_ms=11.0)(scores, everything((4, 4), (64, 64)), 1.0)
    assert sizes(kept) == ((4, 4), (16, 16))


@pytest.mark.parametrize("target", [13.0, 9.3, 6.1, 5.0])
def test_the_target_is_reached_and_hardly_passed(target):
    rng = np.random.default_rng(1)
    scores = Units(tuple(rng.random(4) for _ in range(2)), tuple(rng.random(64) for _ in range(2)))
    kept = by_latency(table(), target)(scores, everything((4, 4), (64, 64)), 1.0)
    assert target - 1 < table().total(*sizes(kept)) <= target + 1e-9


def test_half_of_the_cut_is_half_of_the_milliseconds():
    scores = importance([np.ones(4)] * 2, [np.ones(64)] * 2)
    kept = by_latency(table(), target_ms=10.0)(scores, everything((4, 4), (64, 64)), 0.5)
    assert table().total(*sizes(kept)) == pytest.approx(12.0)


def test_a_student_that_is_fast_enough_is_left_whole():
    scores = importance([np.ones(4)] * 2, [np.ones(64)] * 2)
    kept = by_latency(table(), target_ms=20.0)(scores, everything((4, 4), (64, 64)), 1.0)
    assert sizes(kept) == ((4, 4), (64, 64))


def test_a_speed_out_of_reach_is_refused_with_what_is_in_reach():
    assert target_ms(table(), 4) == 10
    with pytest.raises(RecipeError, match=r"--target-speedup 10: with 2 layers.* 8\.0 times as fast") as caught:
        target_ms(table(), 10)
    assert "--layers" in caught.value.remedy


def test_measured_models_form_a_cross_and_one_small_layer():
    found = points(6, 12, 3072, 16)
    assert {point.heads for point in found if point.neurons == 3072} == {1, 4, 8, 12}
    assert {point.neurons for point in found if point.heads == 12} == {16, 1008, 2064, 3072}
    assert [point for point in found if point.layers != 6] == [Point(1, 1, 16)]
    assert len({point.name for point in found}) == len(found) == 8
    assert points(1, 2, 8, 16) == (Point(1, 1, 8), Point(1, 2, 8))


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_the_costs_that_make_up_the_measurements_are_found_again(layers):
    def cost(point: Point) -> float:
        return 0.7 + point.layers * (0.3 + 0.2 * point.heads + 0.01 * point.neurons)

    made = table_from({point: cost(point) for point in points(layers, 12, 3072, 16)}, teacher_ms=500.0)
    assert made.rest_ms == pytest.approx(0.7 if layers > 1 else 0.0)
    widths = [7] * layers, [512] * layers
    assert made.total(*widths) == pytest.approx(cost(Point(layers, 7, 512)))
    assert made.heads_ms(8) - made.heads_ms(4) == pytest.approx(0.8)


def test_noise_never_makes_a_larger_layer_cheaper():
    noisy = {
        Point(2, 1, 64): 5.0,
        Point(2, 2, 64): 4.0,
        Point(2, 4, 64): 8.0,
        Point(2, 4, 16): 9.0,
        Point(1, 1, 16): 9.0,
    }
    made = table_from(noisy, 20.0)
    assert list(made.head_ms) == sorted(made.head_ms)
    assert list(made.neuron_ms) == sorted(made.neuron_ms)
    assert made.rest_ms >= 0


def test_latencies_are_measured_once_for_the_same_machine_and_shapes(tmp_path):
    wanted = points(2, 4, 64, 16)
    calls = []

    def measure(asked):
        calls.append(asked)
        return {point: float(point.layers * (point.heads + point.neurons)) for point in asked}, 300.0

    notes = []
    first = kept_table(tmp_path, {"length": 12}, wanted, measure, notes.append)
    again = kept_table(tmp_path, {"length": 12}, wanted, measure, notes.append)
    assert first == again
    assert len(calls) == 1
    assert notes[0].text.startswith("Latencies of 6 layer sizes were measured on this machine")
    assert notes[1].text.startswith("Latencies that an earlier run measured on this machine are used")
    kept_table(tmp_path, {"length": 32}, wanted, measure)
    assert len(calls) == 2


def test_latencies_that_contradict_each_other_are_told_and_kept_for_what_is_trained_by_them(tmp_path):
    wanted, events, measured = points(2, 4, 64, 16), [], []

    def disturbed(asked):
        measured.append(asked)
        return {point: 1.0 if (point.heads, point.neurons) == (4, 64) else 5.0 for point in asked}, 9.0

    one, two = (kept_table(tmp_path, {}, wanted, disturbed, events.append) for _ in range(2))
    (place,) = (tmp_path / "latencies").glob("[!.]*")
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert ["contradict each other by up to" in text and f"remove {place}." in text for text in warnings] == [True] * 2
    assert (one, len(measured)) == (two, 1)


# --- the recipe -----------------------------------------------------------------------------


def test_a_recipe_without_structured_pruning_asks_for_none():
    assert choice_for(PruneRecipe(sparsity=0.5)) is None


@pytest.mark.parametrize(("heads", "even"), [(0.0, True), (0.25, False)])
def test_feed_forward_nets_stay_even_unless_heads_go_too(heads, even):
    flat = np.ones(64)
    steep = np.concatenate([np.full(48, 1e-3), np.full(16, 10.0)])
    scores = importance([np.ones(4)] * 2, [flat, steep])
    choose = choice_for(PruneRecipe(heads=heads, ffn=0.375))
    assert choose is not None
    left = sizes(choose(scores, everything((4, 4), (64, 64)), 1.0))[1]
    assert (left[0] == left[1]) is even


def test_a_target_speedup_is_checked_against_the_measured_table():
    choose = choice_for(PruneRecipe(target_speedup=4), table())
    assert choose is not None
    kept = choose(importance([np.ones(4)] * 2, [np.ones(64)] * 2), everything((4, 4), (64, 64)), 1.0)
    assert table().total(*sizes(kept)) <= 10
    with pytest.raises(RecipeError, match="--target-speedup 30"):
        choice_for(PruneRecipe(target_speedup=30), table())


def test_a_target_and_shares_exclude_each_other():
    with pytest.raises(ValueError, match="give it or the shares"):
        PruneRecipe(target_speedup=4, ffn=0.5)


# --- the schedule ---------------------------------------------------------------------------


def test_the_cut_rises_as_a_cube_between_its_ends():
    assert rise(RISE_START) == 0
    assert rise((RISE_START + RISE_END) / 2) == pytest.approx(1 - 0.5**3)
    assert rise(RISE_END) == rise(1.0) == 1


@pytest.mark.parametrize("steps", [1, 7, 100, 999])
def test_the_whole_cut_is_chosen_at_a_step_that_comes(steps):
    due = [last_choice(step, steps) for step in range(1, steps + 1)]
    chosen = [share for step, (at, share) in enumerate(due, 1) if at == step]
    assert chosen[-1] == 1 or due[-1][1] == 1
    assert max(chosen) == 1
    assert [share for _, share in due] == sorted(share for _, share in due)
