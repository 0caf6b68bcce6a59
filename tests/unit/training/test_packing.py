"""Rows hold samples end to end: no padding, nothing cut, every target once."""

from __future__ import annotations

from itertools import chain

from distillery.training.packing import pack_rows, plan_batches
from distillery.training.samples import Sample


def sample(number: int, length: int) -> Sample:
    return Sample(number, tuple(range(100 * number, 100 * number + length)), tuple(range(2, length)), "")


SAMPLES = [sample(number, length) for number, length in enumerate([5, 30, 12, 18, 7, 40, 3], 1)]


def test_every_token_stands_in_exactly_one_row():
    rows = pack_rows(SAMPLES, 50)
    assert sorted(token for row in rows for token in row.ids) == sorted(t for s in SAMPLES for t in s.ids)
    assert all(len(row.ids) <= 50 for row in rows)


def test_rows_are_nearly_full():
    rows = pack_rows(SAMPLES, 50)
    assert len(rows) == 3  # 115 tokens


def test_row_is_full_at_exactly_its_length():
    samples = [sample(1, 30), sample(2, 20)]
    assert [len(row.ids) for row in pack_rows(samples, 50)] == [50]
    assert [len(row.ids) for row in pack_rows(samples, 49)] == [30, 20]


def test_positions_begin_at_0_in_each_sample():
    (row,) = pack_rows(SAMPLES[:1] + SAMPLES[2:3], 50)
    assert row.positions == [*range(12), *range(5)]


def test_each_label_follows_its_predictor():
    for row in pack_rows(SAMPLES, 50):
        assert [row.ids[place + 1] for place in row.predictors] == row.labels
        assert all(row.positions[place + 1] > 0 for place in row.predictors)


def test_pack_gives_a_sample_longer_than_a_row_a_row_of_its_own():
    rows = pack_rows(SAMPLES, 20)
    assert [len(row.ids) for row in rows][:2] == [40, 30]
    assert all(len(row.ids) <= 20 for row in rows[2:])
    assert sorted(token for row in rows for token in row.ids) == sorted(t for s in SAMPLES for t in s.ids)


def test_every_epoch_sees_every_sample_once_in_a_new_order():
    batches = plan_batches(10, batch_size=4, epochs=2, seed=1)
    epochs = [list(chain.from_iterable(half)) for half in (batches[:3], batches[3:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]
    assert batches == plan_batches(10, batch_size=4, epochs=2, seed=1)
