"""Batches: every row of an epoch once, whatever the number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.batches import batches_per_epoch, deal, epoch_batches

ROWS = st.integers(1, 60)


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [
        (31, 32, [31]),  # smaller than a batch: one batch
        (32, 32, [32]),
        (33, 32, [32]),  # the last incomplete batch is dropped
        (95, 32, [32, 32]),
        (96, 32, [32, 32, 32]),
        (1, 1, [1]),
    ],
)
def test_dassls_rule_for_the_last_batch(rows: int, batch_size: int, sizes: list[int]) -> None:
    batches = epoch_batches(rows, batch_size, seed=1, epoch=0)
    assert [len(batch) for batch in batches] == sizes
    assert batches_per_epoch(rows, batch_size) == len(sizes)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="the training set is empty"):
        batches_per_epoch(0, 32)


@given(ROWS, st.integers(1, 20), st.integers(0, 2**32), st.integers(0, 300))
def test_no_row_comes_twice_in_an_epoch(rows: int, size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(rows, size, seed, epoch)
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen)
    assert set(seen.tolist()) <= set(range(rows))
    assert len(seen) == (rows if rows < size else rows - rows % size)
    again = epoch_batches(rows, size, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = [epoch_batches(50, 50, s, e)[0].tolist() for s in (1, 2) for e in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_known_order() -> None:
    """The batches are part of every result: this order must not change silently."""
    assert epoch_batches(8, 8, seed=1, epoch=0)[0].tolist() == [5, 0, 1, 4, 2, 6, 3, 7]


@given(ROWS, st.integers(1, 9), st.integers(1, 6))
def test_every_row_is_dealt_once_over_all_ranks(rows: int, world_size: int, parts: int) -> None:
    parts = min(parts, rows)
    batch = np.random.default_rng(0).permutation(rows) + 100
    hands = [deal(batch, parts, rank, world_size) for rank in range(world_size)]
    real = np.concatenate([micro.rows[micro.weight > 0] for hand in hands for micro in hand])
    assert sorted(real.tolist()) == sorted(batch.tolist())
    for hand in hands:
        assert len(hand) == parts
        for micro in hand:
            assert len(micro.rows) == len(micro.weight)
            assert set(micro.weight.tolist()) <= {0.0, 1.0}
            assert set(micro.rows.tolist()) <= set(batch.tolist())
    for column in zip(*hands, strict=True):
        # Equal counts, so that collectives meet; less than one row of padding for each rank.
        (count,) = {len(micro.rows) for micro in column}
        weights = [micro.weight.sum() for micro in column]
        assert max(weights) - min(weights) <= 1
        assert count == max(weights)
        assert len({micro.share for micro in column}) == 1


@given(ROWS, st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_shares_make_the_mean_over_the_batch(
    rows: int, world_size: int, parts: int, seed: int
) -> None:
    """The mean over micro-batches of share * (weighted mean loss) is the mean over the rows."""
    parts = min(parts, rows)
    batch = np.arange(rows)
    loss = np.random.default_rng(seed).normal(size=rows)
    hands = [deal(batch, parts, rank, world_size) for rank in range(world_size)]
    total = 0.0
    for column in zip(*hands, strict=True):
        weight = sum(float(micro.weight.sum()) for micro in column)
        summed = sum(float((loss[micro.rows] * micro.weight).sum()) for micro in column)
        total += column[0].share * summed / weight / parts
    assert total == pytest.approx(loss.mean())


def test_shares_by_hand() -> None:
    """Five rows in two micro-batches of 3 and 2: shares 6/5 and 4/5; they average to 1."""
    dealt = deal(np.array([7, 8, 9, 10, 11]), 2, rank=1, world_size=2)
    assert [micro.rows.tolist() for micro in dealt] == [[8, 7], [11]]
    assert [micro.weight.tolist() for micro in dealt] == [[1, 0], [1]]
    assert [micro.share for micro in dealt] == pytest.approx([6 / 5, 4 / 5])


def test_more_micro_batches_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 rows cannot be cut into 4.*lower training\.accum"):
        deal(np.arange(3), 4, 0, 1)
