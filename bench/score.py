"""Scoring a method by a task's protocol: embeddings, rankings, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from bench.available import available, with_misses
from bench.embed import Images
from bench.embedded import Once, embedded_part
from bench.gather import ALONE
from bench.metrics import metric_k, of_subset
from bench.ranking import NEVER, Found, Rankings, Similarity, search, settle
from bench.summary import RankedPart, is_fraction, of_task, over_folds
from bench.top import lists_table, named
from bench.train import Engine
from data_recipes.core.model import DataError, RetrievalTask, Task
from data_recipes.core.protocol import Protocol, protocol
from methods.core.contract import Method


@dataclass(frozen=True)
class Score:
    """metrics: name -> fraction; `part/name` too where a protocol has several parts.

    statistics: what is no fraction: rsum, medr, meanr.
    queries: one row per query: query_id, part, rank (1-based, best relevant; 0: never), value
        (the headline, or what it is made of, of this query alone).
    lists: the first candidates of every query (`bench.top`), where the protocol keeps them.
    used: queries that could be asked; the others lack an image and are misses.
    withheld: the labels are with a test server: no metric can be computed.
    """

    metrics: dict[str, float]
    statistics: dict[str, float]
    queries: pd.DataFrame
    lists: pd.DataFrame | None
    tie_rate: float
    used: int
    withheld: bool
    notes: list[str]


def score(
    method: Method,
    task: Task,
    images: Images,
    missing: AbstractSet[str] = frozenset(),
    engine: Engine = ALONE,
    gallery: Images | None = None,
) -> Score | None:
    """Score `method` on every evaluated part of `task`.

    With several ranks all call it and share encoding and ranking; rank 0 gets the score, others
    None.

    images: image ids -> what the method takes for them (features or pixels).
    missing: ids of images that the dataset lacks.
    gallery: the same for candidates, where that differs.

    Raises:
        NotFiniteError: an embedding holds NaN or infinity.
        DataError: no query of a part can be asked.
    """
    rules = protocol(task.protocol)
    method.eval()
    once = {"image": Once(), "text": Once()}
    gallery = gallery or images
    embedded = {
        p.name: embedded_part(method, p, images, gallery, missing, engine, once)
        for p in task.evaluate
    }
    similarity = pairwise(method)
    metrics: list[dict[str, float | None]] = []
    tables, lists, notes, chances, used, tied = [], [], list(rules.notes), [], 0, 0
    for fold in folds(task.evaluate, rules.fold):
        ranked = []
        for part in fold:
            whole = any(part is one for one in task.evaluate)
            asked = embedded[part.name].asked if whole else available(part, missing)
            seen = _search(rules, asked, *embedded[part.name].of(asked), similarity, engine)
            if seen is None:
                continue
            found, said = _settled(rules, asked, seen)
            used += len(asked.queries)
            tied += int(found.tied.sum())
            if missing:
                found = with_misses(part, asked, found)
            ranked.append(RankedPart(part, found))
            chances.append(chance(found, rules.headline))
            notes += said + clamped(part, found, rules.metrics)
            tables.append(query_table(rules, part, found))
            if rules.kept is not None:
                lists.append(lists_table(part.name, asked, named(asked, seen)))
        if engine.rank == 0:
            metrics.append(of_task(rules, ranked))
    if engine.rank != 0:
        return None
    table = pd.concat(tables, ignore_index=True)
    if used < len(table):
        notes.append(f"{used} of {len(table)} queries could be asked; the others are misses")
    notes += _lost(task, missing)
    if all(value is not None for value in chances):
        notes.append(f"chance: {float(np.mean([v for v in chances if v is not None])):.4g}")
    withheld = not any(query.relevant for part in task.evaluate for query in part.queries)
    found_all = {} if withheld else over_folds(metrics)
    notes += [f"{name}: no query has it" for name, value in found_all.items() if value is None]
    values = {name: value for name, value in found_all.items() if value is not None}
    return Score(
        metrics={n: v for n, v in values.items() if is_fraction(n)},
        statistics={n: v for n, v in values.items() if not is_fraction(n)},
        queries=table,
        lists=pd.concat(lists, ignore_index=True) if lists else None,
        tie_rate=tied / max(1, used),
        used=used,
        withheld=withheld,
        notes=list(dict.fromkeys(notes)),
    )


def folds(parts: Sequence[RetrievalTask], size: int | None) -> list[tuple[RetrievalTask, ...]]:
    """The parts cut into consecutive folds of `size` images (Karpathy's 1K protocol).

    The images are those of the part whose queries are images; a part's caption belongs to the fold
    of its image. No size, or no more images than that, gives one fold: the parts themselves.

    Raises:
        DataError: the number of images is no multiple of `size`.
    """
    by_image = [part for part in parts if all(query.image for query in part.queries)]
    if size is None or not by_image or len(by_image[0].queries) <= size:
        return [tuple(parts)]
    images = [query.image for query in by_image[0].queries]
    if len(images) % size:
        raise DataError(
            f"{len(images)} images are no whole number of folds of {size}; use the protocol that "
            "takes all of them as one gallery"
        )
    fold_of = {image: number // size for number, image in enumerate(images)}
    for query in by_image[0].queries:  # captions lie in the fold of their image
        fold_of |= dict.fromkeys(query.relevant, fold_of[query.image])
    return [
        tuple(
            replace(
                part,
                queries=tuple(
                    q for q in part.queries if fold_of.get(q.image or q.relevant[0]) == fold
                ),
                candidates=tuple(
                    c for c in part.candidates if fold_of.get(c.image or c.id) == fold
                ),
            )
            for part in parts
        )
        for fold in range(len(images) // size)
    ]


def clamped(part: RetrievalTask, rankings: Rankings, names: Sequence[str]) -> list[str]:
    """Notes on metrics whose K is not below the size of a gallery: they are 1 by construction."""
    smallest = int(rankings.gallery.min())
    return [
        f"{part.name}: {name} with a gallery of {smallest}: K is clamped to it"
        for name in names
        if not of_subset(name) and metric_k(name) >= smallest
    ]


def chance(rankings: Rankings, metric: str) -> float | None:
    """Expected accuracy or recall@K of a random order, queries with one relevant; None for others.

    Several relevant candidates make the true value higher.
    """
    if metric != "accuracy" and not metric.lower().startswith(("recall@", "r@")):
        return None
    return float(np.minimum(1.0, metric_k(metric) / rankings.gallery).mean())


def pairwise(method: Method) -> Similarity | None:
    """The method's own similarity; None where it is the inner product of the contract."""
    return None if type(method).similarity is Method.similarity else method.similarity


def _search(
    rules: Protocol,
    part: RetrievalTask,
    queries: Tensor,
    candidates: Tensor,
    similarity: Similarity | None,
    engine: Engine,
) -> Found | None:
    """Ranks and the lists that the protocol keeps, in one pass; on rank 0."""
    k, subset_k = rules.kept or (0, 0)
    return search(
        part,
        queries,
        candidates,
        k=k,
        subset_k=subset_k,
        favoured=rules.target_first_ties > 0,
        similarity=similarity,
        engine=engine,
    )


def _settled(rules: Protocol, part: RetrievalTask, seen: Found) -> tuple[Rankings, list[str]]:
    """Rankings by the protocol's rule for ties; a note where that is not the pessimistic one."""
    hard = seen.rankings
    found = settle(hard, rules.target_first_ties, lambda: seen.favoured)
    if found is hard:
        return found, []
    value = float(hard.per_query(rules.metrics[0]).mean())
    return found, [
        f"{part.name}: the target wins the ties of {int(hard.tied.sum())} queries, as in the "
        f"official code; with ties against it {rules.metrics[0]} is {100 * value:.2f} %"
    ]


def _lost(task: Task, missing: AbstractSet[str]) -> list[str]:
    """The note on missing images."""
    named = dict.fromkeys(i for part in task.evaluate for i in part.image_ids())
    lost = sum(image in missing for image in named)
    return [f"{lost} of {len(named)} images are missing from the shards"] if lost else []


def query_table(rules: Protocol, part: RetrievalTask, rankings: Rankings) -> pd.DataFrame:
    """One row per query, as a record keeps them; see `Score.queries`."""
    best = rankings.ranks[:, 0]
    metric = rules.headline if rules.headline in rules.metrics else rules.metrics[0]
    rows: dict[str, Any] = {
        "query_id": [q.id for q in part.queries],
        "part": part.name,
        "group": [q.group for q in part.queries],
        "cluster": [q.cluster or q.image or q.id for q in part.queries],
        "rank": np.where(best == NEVER, 0, best),
        "value": rankings.per_query(metric),
        "gallery": rankings.gallery,
    }
    if rankings.subset_ranks is not None:
        nearest = rankings.subset_ranks[:, 0]
        rows["subset_rank"] = np.where(nearest == NEVER, 0, nearest)
    return pd.DataFrame(rows)
