"""Learning: a task's few shots become training pairs, and the method is trained on them."""

from __future__ import annotations

from typing import Any

import torch

from bench.batches import Dealt
from bench.embed import batch as as_batch
from bench.features import ImageFeatures
from bench.loaded import Data
from bench.train import Engine, train
from data_recipes.core.model import Candidate, Query, Task
from data_recipes.core.sampler import few_shot, short_groups
from methods.core.config import Training
from methods.core.contract import Method, TrainBatch


def learn(
    method: Method,
    training: Training,
    data: Data,
    shots: int | None,
    seed: int,
    engine: Engine,
) -> tuple[list[float], list[str]]:
    """Train `method` in place on `shots` of each group; returns the loss curve and notes.

    shots: None for all training queries (a source dataset).

    Raises:
        DataError: the task has no training split.
    """
    queries = data.task.training().queries
    notes = []
    if shots is None:
        drawn = [*queries]
    else:
        drawn = few_shot(queries, shots, seed, data.digest)
        short = short_groups(queries, shots)
        if short:
            notes.append(f"{len(short)} group(s) have fewer than {shots} shots: all are used")
    rows, deal_batch = training_batches(data.task, drawn, data.features, engine.device)
    return train(method, training, shots or 0, rows, deal_batch, seed, engine), notes


def training_batches(
    task: Task, drawn: list[Query], features: ImageFeatures, device: str
) -> tuple[int, Any]:
    """Number of training pairs, and the function from dealt rows to a TrainBatch.

    A pair is a drawn query with one of its relevant candidates.
    """
    part = task.training()
    pairs = [(q, part.candidates[part.position[c]]) for q in drawn for c in q.relevant]
    if task.kind == "classification":
        target = torch.tensor([part.position[c.id] for _, c in pairs])
        classes = as_batch(part.candidates, features.at)
    else:
        same: dict[str, int] = {}
        target = torch.tensor([same.setdefault(_content(c), len(same)) for _, c in pairs])

    def deal_batch(dealt: Dealt) -> TrainBatch:
        own = [pairs[row] for row in dealt.rows]
        return TrainBatch(
            queries=as_batch([q for q, _ in own], features.at),
            candidates=classes
            if task.kind == "classification"
            else as_batch([c for _, c in own], features.at),
            target=target[torch.from_numpy(dealt.rows)].to(device),
            weight=torch.from_numpy(dealt.weight).to(device),
        )

    return len(pairs), deal_batch


def _content(candidate: Candidate) -> str:
    """Equal for candidates that no method can tell apart: same image, or same caption."""
    return f"image {candidate.image}" if candidate.image else f"text {candidate.text}"
