"""What a task's queries name, as arrays of candidate rows: no Python loop is left for ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.metrics import Floats, Ints
from data_recipes.core.model import Query

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """(query row, candidate row) pairs, by query, in the order that a query names them."""

    rows: Ints
    columns: Ints

    @classmethod
    def of(cls, position: Mapping[str, int], named: Sequence[Sequence[str]]) -> Pairs:
        """The pairs of one list of candidate ids for each query. position: id -> candidate row."""
        lengths = np.fromiter(map(len, named), np.int64, len(named))
        found = (position[c] for c in chain.from_iterable(named))
        columns = np.fromiter(found, np.int64, int(lengths.sum()))
        return cls(np.repeat(np.arange(len(named)), lengths), columns)

    def among(self, other: Pairs, candidates: int) -> Bools:
        """Which of these pairs `other` holds too (n,)."""
        return np.isin(
            self.rows * candidates + self.columns, other.rows * candidates + other.columns
        )

    def slots(self) -> Ints:
        """Each pair's place in its query's list (n,)."""
        return np.arange(len(self.rows)) - np.searchsorted(self.rows, self.rows)

    def of_queries(self, start: int, stop: int) -> Pairs:
        """The pairs of queries `start` to `stop`, whose rows count from `start`."""
        low, high = np.searchsorted(self.rows, [start, stop])
        return Pairs(self.rows[low:high] - start, self.columns[low:high])


@dataclass(frozen=True)
class Named:
    """All that ranking needs to know of Q queries against N candidates.

    relevant: (Q, R) candidate rows, by rising credit, padded with -1. credit: (Q, R), 1 as padding.
    pooled, inside: (Q, R) whether a relevant candidate is ranked at all, and in the subset.
    barred: pairs that never stand above. gallery: the pairs of queries with a gallery of their own.
    own: (Q,) whether a query has one. sizes: (Q,) of the galleries, exclusions removed.
    subset: (Q, S) candidate rows, ascending, padded with -1; None: no subsets.
    """

    relevant: Ints
    credit: Floats
    pooled: Bools
    inside: Bools
    barred: Pairs
    gallery: Pairs
    own: Bools
    sizes: Ints
    subset: Ints | None

    @classmethod
    def of(cls, queries: Sequence[Query], position: Mapping[str, int]) -> Named:
        """The arrays of these queries. position: candidate id -> row."""
        count = len(position)
        relevant = Pairs.of(position, [query.relevant for query in queries])
        credit = np.fromiter(_credits(queries), np.float64, len(relevant.rows))
        order = np.lexsort((credit, relevant.rows))  # stable: equal credit keeps its order
        relevant, credit = Pairs(relevant.rows, relevant.columns[order]), credit[order]
        gallery = Pairs.of(position, [query.gallery or () for query in queries])
        own = np.fromiter((q.gallery is not None for q in queries), np.bool_, len(queries))
        barred = Pairs.of(position, [query.excluded for query in queries])
        ranked = ~own[barred.rows] | barred.among(gallery, count)
        barred = Pairs(barred.rows[ranked], barred.columns[ranked])
        pooled = ~own[relevant.rows] | relevant.among(gallery, count)
        pooled &= ~relevant.among(barred, count)
        sizes = np.where(own, np.bincount(gallery.rows, minlength=len(queries)), count)
        sizes = sizes - np.bincount(barred.rows, minlength=len(queries))
        subset, inside = None, np.zeros_like(pooled)
        if queries[0].subset is not None:
            members = Pairs.of(position, [query.subset or () for query in queries])
            order = np.lexsort((members.columns, members.rows))
            members = Pairs(members.rows, members.columns[order])
            subset = _padded(members, members.columns, len(queries), -1)
            inside = relevant.among(members, count)
        return cls(
            _padded(relevant, relevant.columns, len(queries), -1),
            _padded(relevant, credit, len(queries), 1),
            _padded(relevant, pooled, len(queries), False),
            _padded(relevant, inside, len(queries), False),
            barred,
            gallery,
            own,
            sizes,
            subset,
        )

    def of_queries(self, start: int, stop: int) -> Named:
        """The arrays of queries `start` to `stop` alone."""
        part = slice(start, stop)
        return Named(
            self.relevant[part],
            self.credit[part],
            self.pooled[part],
            self.inside[part],
            self.barred.of_queries(start, stop),
            self.gallery.of_queries(start, stop),
            self.own[part],
            self.sizes[part],
            None if self.subset is None else self.subset[part],
        )


def _credits(queries: Iterable[Query]) -> Iterable[float]:
    for query in queries:
        yield from query.credit or (1.0,) * len(query.relevant)


def _padded(pairs: Pairs, values: NDArray[Any], queries: int, empty: float) -> NDArray[Any]:
    """Values of pairs as (queries, the longest list, at least 1)."""
    slots = pairs.slots()
    found = np.full((queries, int(slots.max(initial=0)) + 1), empty, dtype=values.dtype)
    found[pairs.rows, slots] = values
    return found
