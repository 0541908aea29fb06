"""Ranks from ranked lists of ids, as official prediction files hold them.

What a list does not name was not retrieved: its rank is beyond every K. A list that is shorter than
K therefore gives a lower bound of the metric, as the official code counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.metrics import Floats, Ints
from bench.ranking import NEVER, Rankings
from data_recipes.core.model import Query, RetrievalTask

T = TypeVar("T", np.int64, np.float64)


def rank_lists(
    task: RetrievalTask,
    lists: Mapping[str, Sequence[str]],
    subset_lists: Mapping[str, Sequence[str]] | None = None,
) -> Rankings:
    """Rank every query of `task`; a query without a list retrieves nothing.

    lists: query id -> candidate ids, best first, none twice. Excluded ids and ids outside the
        query's gallery are passed over.
    subset_lists: the same for the subsets; None takes the order inside `lists`.
    """
    everything = {c.id for c in task.candidates}
    width = max(1, max(len(q.relevant) for q in task.queries))
    whole, sizes = [], []
    for query in task.queries:
        allowed = _gallery(query, everything)
        whole.append(_ranks(query, lists.get(query.id, ()), allowed, width))
        sizes.append(len(allowed))
    subsets = None
    if task.queries[0].subset is not None:
        order = lists if subset_lists is None else subset_lists
        subsets = [_ranks(q, order.get(q.id, ()), set(q.subset or ()), width) for q in task.queries]
    graded = any(q.credit for q in task.queries)
    return Rankings(
        ranks=_stack([ranks for ranks, _ in whole]),
        subset_ranks=_stack([ranks for ranks, _ in subsets]) if subsets is not None else None,
        gallery=np.array(sizes, dtype=np.int64),
        tied=np.zeros(len(whole), dtype=np.bool_),
        credit=np.array([pays for _, pays in whole]) if graded else None,
        subset_credit=np.array([p for _, p in subsets]) if graded and subsets is not None else None,
    )


def together(one: Rankings, other: Rankings) -> Rankings:
    """The rankings of two disjoint sets of queries as one."""
    credit = one.credit is not None or other.credit is not None
    subset_credit = one.subset_credit is not None or other.subset_credit is not None
    subsets = one.subset_ranks is not None and other.subset_ranks is not None
    return Rankings(
        ranks=_below(one.ranks, other.ranks),
        subset_ranks=_below(one.subset_ranks, other.subset_ranks)
        if one.subset_ranks is not None and other.subset_ranks is not None
        else None,
        gallery=np.concatenate([one.gallery, other.gallery]),
        tied=np.concatenate([one.tied, other.tied]),
        credit=_below(_pays(one.credit, one), _pays(other.credit, other)) if credit else None,
        subset_credit=(
            _below(_pays(one.subset_credit, one), _pays(other.subset_credit, other))
            if subset_credit and subsets
            else None
        ),
    )


def _below(one: NDArray[T], other: NDArray[T]) -> NDArray[T]:
    """(Q1, R1) above (Q2, R2), padded with 0 to the same width."""
    width = max(one.shape[1], other.shape[1])
    wide = [np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (one, other)]
    return np.concatenate(wide)


def _pays(credit: Floats | None, rankings: Rankings) -> Floats:
    return np.ones(rankings.ranks.shape) if credit is None else credit


def _gallery(query: Query, everything: set[str]) -> set[str]:
    allowed = everything if query.gallery is None else set(query.gallery)
    return allowed - set(query.excluded) if query.excluded else allowed


def _ranks(
    query: Query, names: Sequence[str], allowed: set[str], width: int
) -> tuple[list[int], list[float]]:
    """Ranks and credits of the relevant candidates, best first, padded to `width` with 0."""
    pays = dict(zip(query.relevant, query.credit or (1.0,) * len(query.relevant), strict=True))
    ranks, credit, place = [], [], 0
    for name in names:
        if name in allowed:
            place += 1
            if name in pays:
                ranks.append(place)
                credit.append(pays.pop(name))
    lost = [value for name, value in pays.items() if name in allowed]
    filled = len(ranks) + len(lost)
    ranks += [NEVER] * len(lost) + [0] * (width - filled)
    credit += lost + [0.0] * (width - filled)
    return ranks, credit


def _stack(rows: Sequence[Sequence[int]]) -> Ints:
    return np.array(rows, dtype=np.int64)
