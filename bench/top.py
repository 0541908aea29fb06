"""The first candidates of every query, as test servers and error analyses want them.

Ties are broken by the order of the task's candidates (the gallery), the earlier one first: a
stated, stable rule. The metrics break ties against the method instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from bench.metrics import Ints
from bench.ranking import Found, Similarity, search
from data_recipes.core.model import RetrievalTask


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
    block_values: int | None = None,
    similarity: Similarity | None = None,
) -> TopLists:
    """The first `k` of each query's gallery, and the first `subset_k` of its subset.

    A gallery with fewer than `k` candidates gives a shorter list. Arguments and errors are those
    of `bench.ranking.search`, which makes ranks in the same pass.
    """
    found = search(
        task,
        queries,
        candidates,
        k=k,
        subset_k=subset_k,
        block_values=block_values,
        similarity=similarity,
    )
    assert found is not None  # one rank
    return named(task, found)


def named(task: RetrievalTask, found: Found) -> TopLists:
    """The lists of a search that asked for them, as candidate ids."""
    assert found.first is not None
    ids = np.array([candidate.id for candidate in task.candidates], dtype=object)
    subset = None if found.subset_first is None else _lists(ids, found.subset_first)
    return TopLists(_lists(ids, found.first), subset)


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


def _lists(ids: np.ndarray, rows: Ints) -> list[list[str]]:
    lengths = (rows >= 0).sum(axis=1).tolist()
    return [row[:n] for row, n in zip(ids[rows].tolist(), lengths, strict=True)]
