"""Which rows make which batch: pure functions, equal on every rank.

An epoch is a seeded permutation. A set of at least `batch_size` rows drops its last incomplete
batch; a smaller set is one batch (Dassl's rule). A batch is cut into micro-batches, and each of
these is dealt to the ranks one row at a time, padded to equal counts with rows of weight 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Dealt:
    """Rows of one rank in one micro-batch. rows, weight: (b,); share, epoch: see `deal`."""

    rows: Rows
    weight: NDArray[np.float32]
    share: float
    epoch: int = 0


def batches_per_epoch(rows: int, batch_size: int) -> int:
    """Number of batches in one epoch; at least one. Raises ValueError for an empty set."""
    if rows < 1:
        raise ValueError("the training set is empty")
    return max(1, rows // batch_size)


def epoch_batches(rows: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """The batches of one epoch: row numbers in seeded order."""
    order = np.random.default_rng([seed, epoch]).permutation(rows).astype(np.int64)
    count = batches_per_epoch(rows, batch_size)
    return [order[i * batch_size : (i + 1) * batch_size] for i in range(count)]


def deal(batch: Rows, accumulation: int, rank: int, world_size: int, epoch: int = 0) -> list[Dealt]:
    """One rank's micro-batches of a batch; `epoch` is passed on.

    `share` is what a micro-batch's mean loss is multiplied by so that the mean over micro-batches
    is the mean over the batch, also where their sizes differ.

    Raises:
        ValueError: fewer rows than micro-batches.
    """
    if len(batch) < accumulation:
        raise ValueError(
            f"a batch of {len(batch)} rows cannot be cut into {accumulation} micro-batches; "
            "lower training.accumulation or raise the shots"
        )
    dealt = []
    for micro in np.array_split(batch, accumulation):
        own = micro[rank::world_size]
        count = -(-len(micro) // world_size)
        weight = np.zeros(count, dtype=np.float32)
        weight[: len(own)] = 1
        padding = np.full(count - len(own), micro[0], dtype=np.int64)
        share = len(micro) * accumulation / len(batch)
        dealt.append(Dealt(np.concatenate([own, padding]), weight, share, epoch))
    return dealt


def deals(
    rows: int, batch_size: int, accumulation: int, steps: int, seed: int, rank: int, world_size: int
) -> Iterator[Dealt]:
    """One rank's micro-batches of all steps, `accumulation` of them for each.

    Raises:
        ValueError: when its step is reached, a batch of fewer rows than micro-batches.
    """
    per_epoch = batches_per_epoch(rows, batch_size)
    for step in range(steps):
        epoch, number = divmod(step, per_epoch)
        if number == 0:
            batches = epoch_batches(rows, batch_size, seed, epoch)
        yield from deal(batches[number], accumulation, rank, world_size, epoch)
