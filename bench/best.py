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


class Best:
    """The running best `k` of each of `rows` queries.

    bound: (rows,) what a later candidate must exceed; -infinity while fewer than k are known.
    """

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        self.k = k
        self.keys = torch.full((rows, k), NOTHING, device=device)
        self.bound = torch.full((rows,), float("-inf"), device=device)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._count = torch.zeros(rows, dtype=torch.int64, device=device)

    def start(self, first: int, values: Tensor) -> None:
        """Take all columns (rows, w) from `first` on; -infinity is no candidate."""
        columns = torch.arange(first, first + values.shape[1], device=values.device)
        self.merge(_keys(values, columns).masked_fill_(values == float("-inf"), NOTHING))

    def floor(self) -> Tensor:
        """(rows,) the least similarity above the bound."""
        return torch.nextafter(self.bound, torch.full_like(self.bound, float("inf")))

    def add(self, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Later candidates (n,) of some rows, by row."""
        kept = values > self.bound[rows]
        rows, columns, values = rows[kept], columns[kept], values[kept]
        self._waiting.append((rows, _keys(values, columns)))
        self._count += torch.bincount(rows, minlength=len(self._count))
        if int(self._count.max()) > 4 * self.k or int(self._count.sum()) > self.k * len(self.keys):
            self.settle()

    def settle(self) -> None:
        """Merge what waits."""
        widest = int(self._count.max())
        if widest:
            rows = torch.cat([rows for rows, _ in self._waiting])
            keys = torch.cat([keys for _, keys in self._waiting])
            order = rows.argsort(stable=True)
            rows, keys = rows[order], keys[order]
            first = self._count.cumsum(0) - self._count
            slots = torch.arange(len(rows), device=rows.device) - first[rows]
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
        self.bound = bits.view(torch.float32).masked_fill(last == NOTHING, float("-inf"))

    def columns(self) -> Tensor:
        """The columns (rows, k) of the best, best first, -1 where there is none."""
        keys = self.keys.sort(dim=1, descending=True).values
        return torch.where(keys == NOTHING, -1, _LOW - (keys & _LOW))


def _largest(keys: Tensor, k: int) -> Tensor:
    """The `k` largest of each row, in any order; numpy is several times as fast on a CPU."""
    if keys.device.type != "cpu":
        return keys.topk(k, dim=1).values
    return torch.from_numpy(np.partition(keys.numpy(), keys.shape[1] - k, axis=1)[:, -k:].copy())


def ordered(values: Tensor) -> Tensor:
    """float32 numbers as int64 in the same order, from -2**31 to 2**31; minus zero is zero."""
    bits = (values + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)


def _keys(values: Tensor, columns: Tensor) -> Tensor:
    return (ordered(values) << 32) | (_LOW - columns)
