"""Batches hold texts of similar length, in an order that a resumed run repeats, padded to their longest."""

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader

from compressor.training.batches import BucketSampler, Collator
from compressor.training.distill import WithSoftLabels
from compressor.training.masking import Masked, Vocabulary
from compressor.training.rows import Rows
from tests import tiny, training_script

LENGTHS = np.random.default_rng(0).integers(3, 120, 4000)


def batches(sampler: BucketSampler, size: int) -> list[np.ndarray]:
    order = np.fromiter(sampler, dtype=int)
    return [order[start : start + size] for start in range(0, len(order), size)]


def test_each_row_comes_once_an_epoch():
    assert sorted(BucketSampler(LENGTHS, 32, seed=1)) == list(range(4000))


FORMS = np.concatenate([np.arange(90), np.repeat(np.arange(30), 2), np.arange(200, 210)])
"""Thirty texts with two copies each, sixty without, and ten texts that are numbered otherwise."""


def epochs_of(sampler: BucketSampler, count: int) -> list[list[int]]:
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def test_an_epoch_has_one_form_of_each_text_and_the_next_has_the_next():
    sampler = BucketSampler(LENGTHS[: len(FORMS)], 8, seed=1, forms=FORMS)
    seen = epochs_of(sampler, 4)
    assert len(sampler) == 100
    for rows in seen:
        assert sorted(FORMS[rows]) == sorted(set(FORMS.tolist()))
    assert sorted({*seen[0], *seen[1], *seen[2]}) == list(range(160))
    assert sorted(seen[0]) == sorted(seen[3])
    assert seen[0] != seen[3]
    # A first epoch of labelled texts alone would be another training than the ones after it.
    assert 0 < sum(row >= 90 for row in seen[0] if FORMS[row] < 30) < 30
    assert epochs_of(BucketSampler(LENGTHS[: len(FORMS)], 8, seed=1, forms=FORMS), 4) == seen


def test_rows_that_are_texts_of_their_own_come_in_the_order_that_they_had_without_forms():
    plain = BucketSampler(LENGTHS, 32, seed=1)
    assert list(BucketSampler(LENGTHS, 32, seed=1, forms=np.arange(4000) + 7)) == list(plain)
    assert list(BucketSampler([], 32, seed=0, forms=np.zeros(0, np.int64))) == []


def test_a_batch_pads_far_less_than_a_shuffled_one():
    padded = sum(LENGTHS[batch].max() * len(batch) for batch in batches(BucketSampler(LENGTHS, 32, seed=1), 32))
    shuffled = np.random.default_rng(1).permutation(LENGTHS).reshape(-1, 32)
    assert padded < 1.06 * LENGTHS.sum()
    assert (shuffled.max(axis=1) * 32).sum() > 1.6 * LENGTHS.sum()


def test_batches_do_not_come_in_order_of_length():
    means = [LENGTHS[batch].mean() for batch in batches(BucketSampler(LENGTHS, 32, seed=1), 32)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3


def test_the_order_is_a_function_of_seed_and_epoch():
    first, again, other = BucketSampler(LENGTHS, 8, 1), BucketSampler(LENGTHS, 8, 1), BucketSampler(LENGTHS, 8, 2)
    list(first)
    for sampler in (first, again, other):
        sampler.set_epoch(3)
    assert list(first) == list(again)
    assert list(first) != list(other)
    again.set_epoch(4)
    assert list(first) != list(again)


def test_a_smaller_last_batch_stays_last():
    lengths = np.arange(70)
    for batch in batches(BucketSampler(lengths, 32, seed=0), 32)[:-1]:
        assert len(batch) == 32
        assert set(np.diff(np.sort(lengths[batch]))) == {1}


def test_fewer_rows_than_a_batch_and_none_are_fine():
    assert sorted(BucketSampler([5, 2], 32, seed=0)) == [0, 1]
    assert list(BucketSampler([], 32, seed=0)) == []


def test_accelerate_hands_the_epoch_on_to_the_sampler():
    from accelerate import Accelerator

    sampler = BucketSampler(LENGTHS[:64], 8, seed=0)
    loader = Accelerator(cpu=True).prepare(DataLoader(list(range(64)), batch_size=8, sampler=sampler))
    loader.set_epoch(2)
    seen = torch.cat(list(loader)).tolist()
    expected = BucketSampler(LENGTHS[:64], 8, seed=0)
    expected.set_epoch(2)
    assert seen == list(expected)


ROWS = [
    {"input_ids": [2, 7, 3], "token_type_ids": [0, 0, 0], "attention_mask": [1, 1, 1], "labels": 1, "length": 3},
    {"input_ids": [2, 3], "token_type_ids": [0, 0], "attention_mask": [1, 1], "labels": 0, "length": 2},
]


def test_rows_are_padded_to_the_longest_of_the_batch():
    batch = Collator(pad_token_id=9)(ROWS)
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_padding_goes_left_and_to_a_multiple_where_asked():
    batch = Collator(pad_token_id=9, padding_side="left", pad_to_multiple_of=4)(ROWS)
    assert batch["input_ids"].tolist() == [[9, 2, 7, 3], [9, 9, 2, 3]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]


def test_soft_labels_become_one_float_tensor():
    rows = [{**row, "soft_labels": np.array([0.5, -1.0], dtype=np.float32)} for row in ROWS]
    soft = Collator(pad_token_id=0)(rows)["soft_labels"]
    assert soft.dtype == torch.float32
    assert soft.tolist() == [[0.5, -1.0], [0.5, -1.0]]


def test_it_pads_as_transformers_does():
    from transformers import DataCollatorWithPadding

    from tests import tiny

    tokenizer = tiny.tokenizer()
    rows = [dict(tokenizer(text), labels=index % 2) for index, (text, _) in enumerate(tiny.reviews(9))]
    theirs = DataCollatorWithPadding(tokenizer)([dict(row) for row in rows])
    ours = Collator(tokenizer.pad_token_id)(rows)
    assert {name: tensor.tolist() for name, tensor in ours.items()} == {
        name: tensor.tolist() for name, tensor in theirs.items()
    }


def test_rows_read_a_batch_at_a_time_are_the_rows(tmp_path):
    columns = {
        "input_ids": [list(range(index % 5)) for index in range(40)],
        "labels": [[float(index), 0.5] for index in range(40)],
        "number": list(range(40)),
    }
    plain = datasets.Dataset.from_dict(columns)
    halves = datasets.concatenate_datasets([plain.select(range(20)), plain.select(range(20, 40))])
    shuffled = plain.select(list(range(39, -1, -1)))
    for rows in (plain, halves, shuffled):
        read = Rows(rows)
        assert len(read) == 40
        found = read.__getitems__([33, 0, 7, 33])
        for row, index in zip(found, (33, 0, 7, 33), strict=True):
            assert {name: np.asarray(value).tolist() for name, value in row.items()} == rows[index]
            assert {name: np.asarray(value).tolist() for name, value in read[index].items()} == rows[index]
    batch = Collator(0)(Rows(plain.select_columns(["input_ids", "labels"])).__getitems__([3, 4]))
    assert batch["input_ids"].tolist() == [[0, 1, 2, 0], [0, 1, 2, 3]]
    assert batch["labels"].dtype == torch.float32


def test_a_loader_asks_every_kind_of_rows_for_a_batch_at_once():
    data = training_script.tokenized(train_rows=12, other_rows=4)
    said = training_script.answers(data)["train"]
    for rows in (
        WithSoftLabels(Rows(data.splits["train"]), said, data.task),
        Masked(Rows(data.splits["train"]), Vocabulary.of(tiny.tokenizer()), 0),
    ):
        for row, alone in zip(rows.__getitems__([5, 2]), (rows[5], rows[2]), strict=True):
            assert row.keys() == alone.keys()
            assert all(np.array_equal(row[name], alone[name]) for name in row)
