"""The first k candidates of every query, kept while similarities come by in tiles.

A candidate is one whole number: its similarity's bits above its place in the gallery turned round.
So all numbers differ, the larger one is first, and among equal similarities the earlier candidate;
and the result does not depend on the tiles.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NOTHING = torch.iinfo(torch.int64).min
_LOW = 2**32 - 1
_LEAST = torch.finfo(torch.float32).min  # above -infinity, which is no candidate


class Best:
    """The running best `k` of each of `rows` queries.

    bar: (rows,) similarities that k candidates of the row are known to reach, -infinity to begin
    with; each `Best` of the same rows that shares it raises it.
    """

    def __init__(self, k: int, bar: Tensor) -> None:
        rows, device = len(bar), bar.device
        self.k, self._bar = k, bar
        self.keys = torch.full((rows, k), NOTHING, device=device)
        self._own = torch.full((rows,), _LEAST, device=device)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # rows, slots, keys
        self._count = torch.zeros(rows, dtype=torch.int64, device=device)

    def floor(self) -> Tensor:
        """(rows,) the least similarity of a later candidate that may be among the best."""
        return torch.maximum(self._own, self._bar)

    def start(self, values: Tensor) -> None:
        """Raise the bar by some candidates (rows, w), which are still to be added."""
        if values.shape[1] >= self.k:
            self._raise(_largest(values, self.k).amin(dim=1))

    def add(self, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Later candidates (n,) of some rows, by row."""
        kept = (values >= self.floor().index_select(0, rows)).nonzero()[:, 0]
        rows, columns, values = (part.index_select(0, kept) for part in (rows, columns, values))
        several = torch.bincount(rows, minlength=len(self._count))
        shift = self._count - (several.cumsum(0) - several)
        slots = torch.arange(len(rows), device=rows.device) + shift.index_select(0, rows)
        self._waiting.append((rows, slots, _keys(values, columns)))
        self._count += several
        if int(self._count.max()) > 4 * self.k or int(self._count.sum()) > self.k * len(self.keys):
            self.settle()

    def settle(self) -> None:
        """Merge what waits."""
        widest = int(self._count.max())
        if widest:
            rows, slots, keys = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            table = torch.full((len(self.keys), widest), NOTHING, device=rows.device)
            table[rows, slots] = keys
            self.merge(table)
        self._waiting.clear()
        self._count.zero_()

    def merge(self, keys: Tensor) -> None:
        """Take other keys (rows, n), such as those of a `Best` that has seen other tiles."""
        self.keys = _largest(torch.cat([self.keys, keys], dim=1), self.k)
        last = self.keys.amin(dim=1)
        bits = (last >> 32).to(torch.int32)
        bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        known = bits.view(torch.float32).masked_fill(last == NOTHING, float("-inf"))
        self._own = torch.nextafter(known, torch.full_like(known, float("inf")))
        self._raise(known)

    def _raise(self, known: Tensor) -> None:
        """Another thread's raise may be lost: the bar is then lower, and only time is."""
        torch.maximum(self._bar, known, out=self._bar)

    def columns(self) -> Tensor:
        """The columns (rows, k) of the best, best first, -1 where there is none."""
        keys = self.keys.sort(dim=1, descending=True).values
        return torch.where(keys == NOTHING, -1, _LOW - (keys & _LOW))


def _largest(values: Tensor, k: int) -> Tensor:
    """The `k` largest of each row, in any order; numpy is several times as fast on a CPU."""
    if values.device.type != "cpu":
        return values.topk(k, dim=1).values
    found = np.partition(values.numpy(), values.shape[1] - k, axis=1)
    return torch.from_numpy(found[:, -k:].copy())


def ordered(values: Tensor) -> Tensor:
    """float32 numbers as int64 in the same order, from -2**31 to 2**31; minus zero is zero."""
    bits = (values + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)


def _keys(values: Tensor, columns: Tensor) -> Tensor:
    return (ordered(values) << 32) | (_LOW - columns)
