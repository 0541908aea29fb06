"""What a task can ask when images are missing: the rest counts as misses, never as left out.

A dataset built with `--allow-missing` lacks images. A query whose own image is missing cannot be
asked; a candidate whose image is missing cannot be retrieved. Both keep their place in every mean:
the number of queries is the official one, and AP@K divides by all ground truths.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from bench.metrics import Floats, Ints
from bench.ranking import NEVER, Rankings
from data_recipes.core.model import Query, RetrievalTask


def available(part: RetrievalTask, missing: AbstractSet[str]) -> RetrievalTask:
    """The queries that can be asked, against the candidates that can be retrieved."""
    if not missing:
        return part
    candidates = tuple(c for c in part.candidates if c.image is None or c.image not in missing)
    there = {c.id for c in candidates}
    queries = tuple(
        _restricted(query, there)
        for query in part.queries
        if query.image is None or query.image not in missing
    )
    return replace(part, queries=queries, candidates=candidates)


def with_misses(part: RetrievalTask, asked: RetrievalTask, found: Rankings) -> Rankings:
    """The rankings of all queries of `part`, from those of `asked` = `available(part, ...)`.

    A relevant candidate that cannot be retrieved, or of a query that cannot be asked, gets the
    rank NEVER.
    """
    row = {query.id: number for number, query in enumerate(asked.queries)}
    width = max(1, max(len(query.relevant) for query in part.queries))
    ranks = np.zeros((len(part.queries), width), dtype=np.int64)
    subset = None if found.subset_ranks is None else ranks.copy()
    credit = None if found.credit is None else np.zeros(ranks.shape)
    subset_credit = None if found.subset_credit is None else np.zeros(ranks.shape)
    largest = int(found.gallery.max())
    gallery = np.full(len(part.queries), largest, dtype=np.int64)
    tied = np.zeros(len(part.queries), dtype=np.bool_)
    for number, query in enumerate(part.queries):
        at = row.get(query.id)
        if at is not None:
            gallery[number], tied[number] = found.gallery[at], found.tied[at]
        _fill(ranks, credit, number, len(query.relevant), at, found.ranks, found.credit)
        if subset is not None and found.subset_ranks is not None:
            inside = len(set(query.relevant) & set(query.subset or ()))
            pays = found.subset_credit
            _fill(subset, subset_credit, number, inside, at, found.subset_ranks, pays)
    return Rankings(ranks, subset, gallery, tied, credit, subset_credit)


def _fill(
    ranks: Ints,
    credit: Floats | None,
    number: int,
    wanted: int,
    at: int | None,
    found: Ints,
    pays: Floats | None,
) -> None:
    """One query's row: what was found, then NEVER up to the number of its relevant candidates."""
    known = 0
    if at is not None:
        kept = found[at] > 0
        known = int(kept.sum())
        ranks[number, :known] = found[at][kept]
        if credit is not None and pays is not None:
            credit[number, :known] = pays[at][kept]
    ranks[number, known:wanted] = NEVER


def _restricted(query: Query, there: AbstractSet[str]) -> Query:
    kept = [number for number, c in enumerate(query.relevant) if c in there]
    return replace(
        query,
        relevant=tuple(query.relevant[number] for number in kept),
        credit=tuple(query.credit[number] for number in kept) if query.credit else (),
        excluded=tuple(c for c in query.excluded if c in there),
        subset=None if query.subset is None else tuple(c for c in query.subset if c in there),
        gallery=None if query.gallery is None else tuple(c for c in query.gallery if c in there),
    )
