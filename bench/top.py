"""The first candidates of every query, as test servers and error analyses want them.

Exact, in blocks of queries like `bench.ranking`. Ties are broken by the order of the task's
candidates (the gallery), the earlier one first: a stated, stable rule. The metrics break ties
against the method instead, so that a list may place a target above an equal candidate that the
metric counts above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from bench.ranking import (
    BLOCK_VALUES,
    Similarity,
    block_size,
    check_finite,
    check_rows,
    compared,
)
from data_recipes.core.model import Query, RetrievalTask


@dataclass(frozen=True)
class TopLists:
    """candidates, subset: one list of candidate ids per query, best first; subset None: none."""

    candidates: list[list[str]]
    subset: list[list[str]] | None


def top_lists(
    task: RetrievalTask,
    queries: Tensor,
    candidates: Tensor,
    k: int,
    subset_k: int,
    block_values: int = BLOCK_VALUES,
    similarity: Similarity | None = None,
) -> TopLists:
    """The first `k` of each query's gallery, and the first `subset_k` of its subset.

    queries: (Q, D), candidates: (N, D), rows in the task's order. similarity: of scores that
    depend on the pair; None: fp32 inner products. A gallery with fewer than `k` candidates gives
    a shorter list.

    Raises:
        NotFiniteError: naming the first query with a similarity that is NaN or infinite.
        ValueError: the numbers of rows do not fit the task, or `similarity` gives another shape.
    """
    check_rows(task, queries, candidates)
    gallery = candidates.float()
    size = block_size(len(candidates), block_values)
    whole: list[list[str]] = []
    subset: list[list[str]] | None = None
    if subset_k and task.queries[0].subset is not None:
        subset = []
    for start in range(0, len(queries), size):
        asked, rows = task.queries[start : start + size], queries[start : start + size]
        if similarity is None:
            scores = rows.float() @ gallery.T
        else:
            with torch.no_grad():
                scores = compared(similarity, rows, gallery)
        check_finite(asked, scores)
        for values, query in zip(scores, asked, strict=True):
            whole.append(_first(task, values, _gallery(task, query, values.device), k))
            if subset is not None:
                members = sorted(task.position[c] for c in query.subset or ())
                inside = torch.tensor(members, dtype=torch.long, device=values.device)
                subset.append(_first(task, values, inside, subset_k))
    return TopLists(whole, subset)


def lists_table(part_name: str, task: RetrievalTask, top: TopLists) -> pd.DataFrame:
    """The lists as `results.store` keeps them: part, query_id, candidates, subset (or None)."""
    return pd.DataFrame(
        {
            "part": part_name,
            "query_id": [query.id for query in task.queries],
            "candidates": top.candidates,
            "subset": top.subset if top.subset is not None else [None] * len(task.queries),
        }
    )


def _gallery(task: RetrievalTask, query: Query, device: torch.device) -> Tensor:
    """Rows of the candidates that `query` is ranked against, ascending."""
    allowed = torch.full((len(task.candidates),), query.gallery is None, device=device)
    if query.gallery is not None:
        allowed[[task.position[c] for c in query.gallery]] = True
    if query.excluded:
        allowed[[task.position[c] for c in query.excluded]] = False
    return allowed.nonzero().flatten()


def _first(task: RetrievalTask, values: Tensor, rows: Tensor, k: int) -> list[str]:
    """Ids of the `k` best of `rows` (ascending), the earlier row first among equals."""
    values = values[rows]
    if len(rows) > k:
        # topk alone picks among equals by chance: all that reach the k-th value stay.
        kept = (values >= values.topk(k).values[-1]).nonzero().flatten()
        values, rows = values[kept], rows[kept]
    order = values.sort(descending=True, stable=True).indices[:k]
    return [task.candidates[row].id for row in rows[order].tolist()]
