"""A cell: one method on one few-shot split, scored by the dataset's protocol.

`run_cell` is the one place where data, method, engine and protocol meet. It needs no Ray.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bench import fields, keys
from bench.batches import Dealt
from bench.embed import batch as as_batch
from bench.features import ImageFeatures, image_features
from bench.provenance import provenance
from bench.score import score
from bench.train import Engine, ensure_process_group, train
from data_recipes.core.dataset import Dataset, open_dataset
from data_recipes.core.model import Candidate, DataError, Query, Task
from data_recipes.core.protocol import protocol
from data_recipes.core.sampler import few_shot, short_groups
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.config import Training
from methods.core.contract import Method, TaskInfo, TrainBatch
from methods.core.registry import method as registered_method

RECORD_SCHEMA = 1


class Cell(BaseModel):
    """Everything that `run_cell` needs. Identity fields make the key; see `bench.fields`.

    method, config, training: the method, its validated options, its resolved recipe.
    sources: digests of the method's and the engine's source.
    dataset, task, dataset_digest, protocol: what is learned and how it is scored.
    backbone_digest: of the frozen weights. shots, seed: 0 and 0 for training-free methods.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    method: str = fields.identity()
    config: dict[str, Any] = fields.identity()
    training: Training | None = fields.identity()
    sources: dict[str, str] = fields.identity()
    dataset: str = fields.identity()
    dataset_digest: str = fields.identity()
    task: str = fields.identity()
    protocol: str = fields.identity()
    backbone_digest: str = fields.identity()
    shots: int = fields.identity()
    seed: int = fields.identity()
    kind: str = fields.runtime()
    study: str = fields.runtime()
    variant: str | None = fields.runtime()
    backbone: BackboneSpec = fields.runtime()
    data_root: str = fields.runtime()
    cache: str = fields.runtime()
    zero_stage: int = fields.runtime(default=0)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the result, as JSON values."""
        return fields.identity_of(self)

    @property
    def key(self) -> str:
        """The cell's key: hash of its identity."""
        return keys.key(self.identity)

    @property
    def coordinates(self) -> dict[str, Any]:
        """Where the cell stands in tables: the `cell` part of its record."""
        return {
            "study": self.study,
            "method": self.method,
            "variant": self.variant,
            "dataset": self.dataset,
            "task": self.task,
            "shots": self.shots,
            "seed": self.seed,
            "backbone": self.backbone.label,
            "protocol": self.protocol,
            "trains": self.training is not None,
        }

    @property
    def title(self) -> str:
        """For progress lines and error messages."""
        name = self.variant or self.method
        plural = "s" if self.shots > 1 else ""
        draw = f", {self.shots} shot{plural}, seed {self.seed}" if self.shots else ""
        return f"{name} on {self.dataset}/{self.task}{draw}"


@dataclass(frozen=True)
class CellResult:
    """record: JSON-able, schema of `results.schema`. queries: per-query ranks. weights: learned."""

    record: dict[str, Any]
    queries: pd.DataFrame
    weights: dict[str, Tensor]


@lru_cache(maxsize=2)
def _backbone(spec: BackboneSpec, device: str, digest: str) -> Backbone:
    backbone = load_backbone(spec)
    if backbone.digest != digest:
        raise DataError(
            f"backbone {spec.label}: digest {backbone.digest[:12]} here, {digest[:12]} where the "
            "study was planned; the weights differ"
        )
    return backbone.to(device)


@lru_cache(maxsize=4)
def _dataset(folder: str, digest: str) -> Dataset:
    dataset = open_dataset(Path(folder))
    if dataset.manifest.digest != digest:
        raise DataError(
            f"{folder}: digest {dataset.manifest.digest[:12]} on disk, {digest[:12]} where the "
            "study was planned; the dataset was rebuilt in between, so start the study again"
        )
    return dataset


@lru_cache(maxsize=8)
def _task(folder: str, digest: str, name: str) -> Task:
    return _dataset(folder, digest).task(name)


@lru_cache(maxsize=4)
def _features(
    folder: str, digest: str, spec: BackboneSpec, device: str, backbone_digest: str, cache: str
) -> ImageFeatures:
    backbone = _backbone(spec, device, backbone_digest)
    return image_features(_dataset(folder, digest), backbone, Path(cache))


def run_cell(cell: Cell, engine: Engine | None = None) -> CellResult | None:
    """Train and score one cell. With several ranks, all call it; only rank 0 gets the result.

    Raises:
        DataError: dataset or backbone differ from what the cell was planned with.
        DivergedError, NotFiniteError: training or scoring left the finite numbers.
    """
    engine = engine or Engine(zero_stage=cell.zero_stage)
    ensure_process_group(engine)
    clock = _Clock()
    folder = str(Path(cell.data_root) / cell.dataset)
    backbone = _backbone(cell.backbone, engine.device, cell.backbone_digest)
    task = _task(folder, cell.dataset_digest, cell.task)
    features = _features(
        folder,
        cell.dataset_digest,
        cell.backbone,
        engine.device,
        cell.backbone_digest,
        cell.cache,
    )
    clock.lap("load")
    torch.manual_seed(cell.seed)
    method = build_method(cell, backbone, task).to(engine.device)
    trainable = sum(p.numel() for p in method.parameters() if p.requires_grad)
    notes = [f"inferred in {cell.method}: {choice}" for choice in method.inferred]
    curve: list[float] = []
    if cell.training is not None:
        drawn = few_shot(task.training().queries, cell.shots, cell.seed, cell.dataset_digest)
        short = short_groups(task.training().queries, cell.shots)
        if short:
            notes.append(f"{len(short)} group(s) have fewer than {cell.shots} shots: all are used")
        rows, deal_batch = training_batches(task, drawn, features, engine.device)
        curve = train(method, cell.training, cell.shots, rows, deal_batch, cell.seed, engine)
    clock.lap("train")
    if engine.rank != 0:
        dist.barrier()
        return None
    scored = score(method, task, features.at)
    clock.lap("score")
    if engine.world_size > 1:
        dist.barrier()
    rules = protocol(cell.protocol)
    record = {
        "schema": RECORD_SCHEMA,
        "key": cell.key,
        "identity": cell.identity,
        "cell": cell.coordinates,
        "metrics": scored.metrics,
        "headline": rules.headline,
        "n_queries": len(scored.queries),
        "tie_rate": scored.tie_rate,
        "loss_curve": [[step, value] for step, value in enumerate(curve)],
        "trainable_parameters": trainable,
        "timings": clock.seconds,
        "memory": _memory(engine.device),
        "engine": _engine_facts(cell, engine),
        "provenance": provenance(),
        "notes": notes + scored.notes,
    }
    return CellResult(record, scored.queries, _weights(method))


def build_method(cell: Cell, backbone: Backbone, task: Task) -> Method:
    """The cell's method over `backbone`. Seed torch before: parameters may start random."""
    kind = registered_method(cell.method)
    info = TaskInfo(kind=task.kind, class_names=task.class_names, templates=task.templates)
    return kind(kind.Config.model_validate(cell.config), backbone, info)


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


def _weights(method: Method) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items()}


def _engine_facts(cell: Cell, engine: Engine) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "device": torch.device(engine.device).type,
        "world_size": engine.world_size,
        "threads": torch.get_num_threads(),
        "deepspeed": None,
        "zero_stage": None,
    }
    if cell.training is not None:
        import deepspeed

        facts |= {"deepspeed": deepspeed.__version__, "zero_stage": engine.zero_stage}
    return facts


def _memory(device: str) -> dict[str, int]:
    """Peaks in bytes: of this process since its start, and of the GPU since the last reset."""
    peaks = {"process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if device.startswith("cuda"):
        peaks["gpu_peak_bytes"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return peaks


class _Clock:
    """Seconds of each phase of a cell."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now
