"""Scoring a method by a task's protocol: embeddings, rankings, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.embed import BATCH, Images, embed
from bench.metrics import metric_k, of_subset
from bench.ranking import Rankings, rank, settle
from data_recipes.core.model import RetrievalTask, Task
from data_recipes.core.protocol import protocol
from methods.core.contract import Method


@dataclass(frozen=True)
class Score:
    """metrics: name -> fraction; `part/name` too where a protocol has several parts.

    queries: one row per query: query_id, part, rank (1-based, best relevant; 0: none in gallery).
    """

    metrics: dict[str, float]
    queries: pd.DataFrame
    tie_rate: float
    notes: list[str]


def score(method: Method, task: Task, images: Images) -> Score:
    """Score `method` on every evaluated part of `task`.

    images: image ids -> what the method takes for them (features or pixels).

    Raises:
        NotFiniteError: an embedding holds NaN or infinity.
    """
    rules = protocol(task.protocol)
    parts: dict[str, dict[str, float]] = {}
    tables, tied, notes = [], 0, []
    chances = []
    method.eval()
    for part in task.evaluate:
        with torch.no_grad():
            queries = embed(method.query, part.queries, images)
            # A method may treat the list of classes as one (a class-specific context does).
            size = len(part.candidates) if task.kind == "classification" else BATCH
            candidates = embed(method.candidate, part.candidates, images, size)
        first = partial(rank, part, queries, candidates, target_first=True)
        rankings = settle(rank(part, queries, candidates), rules.target_first_ties, first)
        parts[part.name] = {name: float(rankings.per_query(name).mean()) for name in rules.metrics}
        chances.append(chance(rankings, rules.headline))
        notes += clamped(part, rankings, rules.metrics)
        tied += int(rankings.tied.sum())
        tables.append(_table(part, rankings))
    metrics = {
        name: float(np.mean([values[name] for values in parts.values()])) for name in rules.metrics
    }
    if len(parts) > 1:
        metrics |= {f"{p}/{name}": v for p, values in parts.items() for name, v in values.items()}
    notes.append(f"chance: {float(np.mean(chances)):.4g}")
    table = pd.concat(tables, ignore_index=True)
    return Score(metrics, table, tied / len(table), notes)


def clamped(part: RetrievalTask, rankings: Rankings, names: Sequence[str]) -> list[str]:
    """Notes on metrics whose K is not below the size of a gallery: they are 1 by construction."""
    smallest = int(rankings.gallery.min())
    return [
        f"{part.name}: {name} with a gallery of {smallest}: K is clamped to it"
        for name in names
        if not of_subset(name) and metric_k(name) >= smallest
    ]


def chance(rankings: Rankings, metric: str) -> float:
    """Expected headline (accuracy or recall@K) of a random order, queries with one relevant."""
    k = metric_k(metric)
    return float(np.minimum(1.0, k / rankings.gallery).mean())


def _table(part: RetrievalTask, rankings: Rankings) -> pd.DataFrame:
    rows: dict[str, Any] = {
        "query_id": [q.id for q in part.queries],
        "part": part.name,
        "group": [q.group for q in part.queries],
        "cluster": [q.cluster or q.image or q.id for q in part.queries],
        "rank": rankings.ranks[:, 0],
        "gallery": rankings.gallery,
    }
    if rankings.subset_ranks is not None:
        rows["subset_rank"] = rankings.subset_ranks[:, 0]
    return pd.DataFrame(rows)
