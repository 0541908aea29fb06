"""Dropout whose masks are a function of the seed, the epoch and the row alone.

torch's draws come in the order of the calls, which several ranks, or several trainings in one pass,
do not have in common. Here each number is a hash of where it stands, so that a row's mask is the
same in whatever batch, on whatever rank or device, and beside whatever other training it runs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

GOLDEN_64, GOLDEN_32 = 0x9E3779B97F4A7C15, 0x9E3779B9


def row_masks(
    seed: int, epoch: int, rows: ArrayLike, number: ArrayLike, units: int, rate: float
) -> Tensor:
    """What to multiply by: 0 with probability `rate`, 1 / (1 - rate) otherwise; (B, units).

    rows: (B,) places in the lesson. number: (B,) tells vectors of one row apart. float32, on the
    host.
    """
    key = np.zeros(1, dtype=np.uint64)
    for part in (seed, epoch, rows, number):
        key = _mixed_64(key ^ np.asarray(part).astype(np.uint64))
    step = np.arange(units, dtype=np.uint32) * np.uint32(GOLDEN_32)
    drawn = _mixed_32((key >> np.uint64(32)).astype(np.uint32)[:, None] + step)
    kept = (drawn >= np.uint32(min(round(rate * 2**32), 2**32 - 1))).astype(np.float32)
    kept *= np.float32(1 / (1 - rate))
    return torch.from_numpy(kept)


def _mixed_64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64 (Steele et al., Fast Splittable Pseudorandom Number Generators, 2014)."""
    x = x + np.uint64(GOLDEN_64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mixed_32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Wellons's lowbias32 (nullprogram.com/blog/2018/07/31), in place."""
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x
