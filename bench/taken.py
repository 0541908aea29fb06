"""Candidates taken out of tiles: the first k of every query, and how many reach its thresholds.

A candidate is one whole number: its query's row, above its similarity's bits, above its place in
the gallery turned round. So all numbers differ, one sort brings a query's candidates together, the
last of them is its best, and among equal similarities the earlier candidate is the better one. The
result does not depend on the tiles.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.scan import rising

WAITING = 2_000_000  # candidates taken out before they are counted
NOTHING = torch.iinfo(torch.int64).min
_BITS = 31  # of a row and a place
_NONE = float("-inf")
_LEAST = torch.finfo(torch.float32).min  # above -infinity, which is no candidate


def most_rows(candidates: int) -> int:
    """How many queries a block may have, so that a row and a place fit into a whole number."""
    return 1 << max(0, _BITS - candidates.bit_length())


class Taken:
    """What the tiles of one thread give, in order.

    k: how many to keep of each row; 0: none. rows, marks: (n,) thresholds; reach, above: (n,) how
    many candidates reach and exceed them. bar: (b,) similarities that k candidates of the row are
    known to reach, -infinity to begin with; all threads that share it raise it. keys: (b, k) the
    best candidates, NOTHING where there is none.
    """

    def __init__(
        self, k: int, bar: Tensor, rows: Tensor, thresholds: Tensor, candidates: int
    ) -> None:
        self.k, self._bar = k, bar
        self._shift = candidates.bit_length()
        self._last = (1 << self._shift) - 1
        self._rows = torch.arange(len(bar) + 1, device=bar.device)
        self._limits = ((self._rows << 32) - 2**31) << self._shift  # where each row begins
        self._thresholds = ((rows << 32) + _ordered(thresholds)) << self._shift
        self._ends = rows + 1
        self.reach, self.above = torch.zeros_like(rows), torch.zeros_like(rows)
        self.keys = torch.full((len(bar), k), NOTHING, device=bar.device)
        low = torch.full_like(bar, float("inf"))
        self._low = low.scatter_reduce(0, rows, thresholds, "amin")
        self._own = torch.full_like(bar, _LEAST if k else float("inf"))
        self._waiting: list[Tensor] = []
        self._count = 0
        self._most = min(WAITING, 2 * self.keys.numel()) if k else WAITING

    @property
    def idle(self) -> bool:
        """Nothing is wanted."""
        return not self.k and not len(self._thresholds)

    def start(self, values: Tensor) -> None:
        """Raise the bar by some candidates (b, w), which are still to be added."""
        if self.k and values.shape[1] >= self.k:
            self._raise(_largest(values, self.k).amin(dim=1))

    def floor(self) -> Tensor:
        """(b,) the least similarity of a later candidate that matters."""
        return torch.minimum(
            self._low, torch.maximum(self._own, self._bar) if self.k else self._own
        )

    def add(self, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Later candidates (n,) of some rows: all that reach the floor."""
        keys = (rows << 32).add_(_ordered(values))
        self._waiting.append(keys.bitwise_left_shift_(self._shift).add_(self._last).sub_(columns))
        self._count += len(keys)
        if self._count > self._most:
            self.settle()

    def settle(self) -> None:
        """Count and keep what waits."""
        if not self._count:
            return
        taken = rising(torch.cat(self._waiting))
        self._waiting.clear()
        self._count = 0
        limits = torch.searchsorted(taken, self._limits)
        ends = limits[self._ends]
        self.reach += ends - torch.searchsorted(taken, self._thresholds)
        self.above += ends - torch.searchsorted(taken, self._thresholds + self._last, right=True)
        if self.k:
            place = limits[1:, None] - torch.arange(1, self.k + 1, device=taken.device)
            found = taken[place.clamp(min=0)]
            self.merge(found.masked_fill_(place < limits[:-1, None], NOTHING))

    def merge(self, keys: Tensor) -> None:
        """Take other keys (b, n), such as those of a thread that has seen other tiles."""
        self.keys = _largest(torch.cat([self.keys, keys], dim=1), self.k)
        last = self.keys.amin(dim=1)
        bits = ((last >> self._shift) - (self._rows[:-1] << 32)).to(torch.int32)
        bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        known = bits.view(torch.float32).masked_fill(last == NOTHING, _NONE)
        self._own = torch.nextafter(known, torch.full_like(known, float("inf")))
        self._raise(known)

    def _raise(self, known: Tensor) -> None:
        """Another thread's raise may be lost: the bar is then lower, and only time is."""
        torch.maximum(self._bar, known, out=self._bar)

    def columns(self) -> Tensor:
        """The columns (b, k) of the best, best first, -1 where there is none."""
        keys = self.keys.sort(dim=1, descending=True).values
        return torch.where(keys == NOTHING, -1, self._last - (keys & self._last))


def _largest(values: Tensor, k: int) -> Tensor:
    """The `k` largest of each row, in any order; numpy is several times as fast on a CPU."""
    if values.device.type != "cpu":
        return values.topk(k, dim=1).values
    found = np.partition(values.numpy(), values.shape[1] - k, axis=1)
    return torch.from_numpy(found[:, -k:].copy())


def _ordered(values: Tensor) -> Tensor:
    """float32 numbers as int64 in the same order, from -2**31 to 2**31; minus zero is zero."""
    bits = (values + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
