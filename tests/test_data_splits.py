"""Samples and held-out rows keep the shares of the labels, by seed."""

import numpy as np
import pytest

from compressor.data.splits import apportion, hold_out, stratified_sample
from compressor.errors import DataError

LABELS = np.repeat([0, 1, 2], [700, 250, 50])
TEXTS = [f"text {index}" for index in range(1000)]


def test_seats_are_divided_by_largest_remainders():
    assert apportion(np.array([47, 16, 15, 22]), 10, least=0).tolist() == [5, 2, 1, 2]
    assert apportion(np.array([97, 1, 2]), 4, least=1).tolist() == [2, 1, 1]
    assert apportion(np.array([3, 4]), 7, least=1).tolist() == [3, 4]


def test_a_sample_keeps_the_shares_and_repeats_by_seed():
    chosen = stratified_sample(LABELS, 100, seed=5)
    assert np.bincount(LABELS[chosen]).tolist() == [70, 25, 5]
    assert len(set(chosen.tolist())) == 100
    assert chosen.tolist() == stratified_sample(LABELS, 100, seed=5).tolist()
    assert chosen.tolist() != stratified_sample(LABELS, 100, seed=6).tolist()


def test_a_sample_has_every_label():
    assert set(LABELS[stratified_sample(LABELS, 3, seed=0)].tolist()) == {0, 1, 2}
    with pytest.raises(DataError, match="2 rows cannot hold all 3 labels"):
        stratified_sample(LABELS, 2, seed=0)


def test_a_sample_larger_than_the_data_is_the_data():
    assert stratified_sample(LABELS, 5000, seed=0).tolist() == list(range(1000))


def test_held_out_rows_keep_the_shares_and_repeat_by_seed():
    held = hold_out(TEXTS, LABELS, 100, seed=5)
    assert np.bincount(LABELS[held]).tolist() == [70, 25, 5]
    assert np.array_equal(held, hold_out(TEXTS, LABELS, 100, seed=5))
    assert not np.array_equal(held, hold_out(TEXTS, LABELS, 100, seed=6))


def test_equal_texts_go_to_the_same_side():
    texts = [f"text {index // 3}" for index in range(1000)]
    held = hold_out(texts, LABELS, 200, seed=0)
    assert 190 < held.sum() <= 200
    assert not {texts[i] for i in np.flatnonzero(held)} & {texts[i] for i in np.flatnonzero(~held)}


def test_the_last_row_of_a_label_is_never_held_out():
    labels = np.array([0] * 8 + [1] + [2])
    for seed in range(20):
        assert set(labels[~hold_out(TEXTS[:10], labels, 5, seed)].tolist()) == {0, 1, 2}


def test_many_small_labels_are_held_out_by_the_total_share():
    labels = np.arange(600) // 4
    assert hold_out(TEXTS[:600], labels, 60, seed=0).sum() == 60


def test_rows_too_few_to_hold_out_are_an_error():
    with pytest.raises(DataError, match="2 rows of 2 labels are too few to hold rows out"):
        hold_out(["a", "b"], np.array([0, 1]), 1, seed=0)
