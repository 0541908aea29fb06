"""Similarities of a block of queries with all candidates, a tile of candidates at a time.

A product's last bits depend on its shape: one row goes to another kernel than many, a few columns
to another than hundreds. So that equal candidates tie wherever they stand, and nothing depends on
the size of a block or on the number of ranks, no product here has fewer than `LEAST` rows or
columns; smaller ones are filled up with zeros. (Measured with MKL, 1 and 2 threads: from 200 rows
and 128 columns on, a similarity's bits depend on its two vectors alone.)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from bench.taken import most_rows

LEAST = 256
TILE_VALUES = 3_000_000  # similarities in a tile: long rows are compared faster than short ones
SHARE = 1_000_000  # similarities of a block that is there whole in a tile, for threads to share it
ROWS = 1_024  # queries in a block; fewer make the product slower
_NAMED = 4_096  # columns in a product of what queries name
_LARGEST = 1e37  # far below float32's largest number


class Block(Protocol):
    """The similarities (b, N) of the queries start to stop.

    edges: of the tiles. private: whether a tile may be written into.
    """

    start: int
    stop: int
    edges: list[tuple[int, int]]
    private: bool

    def at(self, first: int, columns: Tensor) -> Tensor:
        """The similarities (n, R) of the block's queries from row `first` on with `columns`.

        columns: (n, R) of each query, n at most LEAST; -1 gives -infinity.
        """
        ...

    def tile(self, low: int, high: int) -> Tensor:
        """(b, high - low) similarities; they live until the thread's next tile."""
        ...

    def surely_finite(self) -> bool:
        """Whether, after a look at all tiles, no similarity can be NaN or infinite."""
        ...


class Whole:
    """A block that is there in one piece. values: (b, N)."""

    private = False

    def __init__(self, start: int, stop: int, values: Tensor) -> None:
        self.start, self.stop, self.values = start, stop, values
        self.edges = _edges(values.shape[1], max(1, SHARE // len(values)))

    def at(self, first: int, columns: Tensor) -> Tensor:
        """See `Block`."""
        values = self.values[first : first + len(columns)].gather(1, columns.clamp(min=0))
        return values.masked_fill_(columns < 0, float("-inf"))

    def tile(self, low: int, high: int) -> Tensor:
        """See `Block`."""
        return self.values[:, low:high]

    def surely_finite(self) -> bool:
        """See `Block`."""
        return False


class Product:
    """A block of inner products, made as they are asked for.

    queries: (b, D), gallery: (N, D) with zeros up to LEAST rows; room: each thread's buffer.
    squares: sums over the tiles of the gallery that were looked at, by their first candidate.
    """

    private = True

    def __init__(
        self,
        start: int,
        stop: int,
        queries: Tensor,
        gallery: Tensor,
        edges: list[tuple[int, int]],
        room: threading.local,
        squares: dict[int, Tensor],
    ) -> None:
        self.start, self.stop, self.edges = start, stop, edges
        self._queries, self._gallery, self._room = _filled(queries), gallery, room
        self._squares = squares

    def at(self, first: int, columns: Tensor) -> Tensor:
        """See `Block`. Its bits are those of the tiles; `bench.counted` makes sure."""
        found = torch.full(columns.shape, float("-inf"), device=columns.device)
        asked = _filled(self._queries[first : first + LEAST])
        named = torch.unique(columns[columns >= 0])
        for begin in range(0, len(named), _NAMED):
            some = named[begin : begin + _NAMED]
            near = (asked @ _filled(self._gallery[some]).T)[: len(columns)]
            place = torch.searchsorted(some, columns).clamp_(max=len(some) - 1)
            found = torch.where(some[place] == columns, near.gather(1, place), found)
        return found

    def tile(self, low: int, high: int) -> Tensor:
        """See `Block`."""
        rows, width = len(self._queries), max(high - low, LEAST)
        if getattr(self._room, "buffer", None) is None or self._room.buffer.numel() < rows * width:
            self._room.buffer = self._queries.new_empty(rows * width)
        made = self._room.buffer[: rows * width].view(rows, width)
        torch.mm(self._queries, self._gallery[low : low + width].T, out=made)
        if low not in self._squares:  # now that the product has brought them near
            self._squares[low] = _squared(self._gallery[low:high])
        found: Tensor = made[: self.stop - self.start, : high - low]
        return found

    def surely_finite(self) -> bool:
        """See `Block`. |q . c| is at most |q| |c|, and so is any part of the sum."""
        gallery = math.fsum(self._squares[low].item() for low, _ in self.edges)
        return math.sqrt(_squared(self._queries).item()) * math.sqrt(gallery) < _LARGEST


def products(queries: Tensor, gallery: Tensor, tile_values: int) -> Iterator[Product]:
    """All inner products of float32 `queries` (Q, D) and `gallery` (N, D), in blocks of queries.

    tile_values: similarities in a tile, as far as LEAST allows.
    """
    count = len(gallery)
    rows = min(len(queries), ROWS, most_rows(count), max(1, tile_values // min(count, LEAST)))
    rows = -(-len(queries) // -(-len(queries) // rows))  # equal blocks
    edges = _edges(count, max(2 * LEAST, tile_values // max(rows, LEAST)), torch.get_num_threads())
    squares: dict[int, Tensor] = {}
    filled, room = _filled(gallery), threading.local()
    for start in range(0, len(queries), rows):
        stop = min(start + rows, len(queries))
        yield Product(start, stop, queries[start:stop], filled, edges, room, squares)


def wholes(
    block: Callable[[slice], Tensor], queries: int, candidates: int, block_values: int
) -> Iterator[Whole]:
    """Blocks of at most `block_values` similarities that `block` makes (rows -> (rows, N))."""
    size = min(most_rows(candidates), max(1, block_values // max(1, candidates)))
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        yield Whole(start, stop, block(slice(start, stop)))


def _squared(rows: Tensor) -> Tensor:
    flat = rows.contiguous().view(-1)
    return torch.dot(flat, flat)


def _edges(count: int, width: int, threads: int = 1) -> list[tuple[int, int]]:
    """Tiles of about equal width, at most `width`; if several, as many for each thread."""
    parts = -(-count // width)
    shared = -(-parts // threads) * threads
    if parts > 1 and count // shared >= 2 * LEAST:
        parts = shared
    edges = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def _filled(rows: Tensor) -> Tensor:
    """`rows` (n, D) with zeros up to LEAST rows."""
    if len(rows) >= LEAST:
        return rows
    return torch.cat([rows, rows.new_zeros(LEAST - len(rows), rows.shape[1])])
