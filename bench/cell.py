"""A cell: one method on one few-shot split, scored by the dataset's protocol.

`run_cell` is the one place where data, method, engine and protocol meet. It needs no Ray.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bench import fields, keys
from bench.learn import learn
from bench.loaded import Inputs
from bench.provenance import provenance
from bench.score import score
from bench.train import Engine, ensure_process_group
from data_recipes.core.model import DataError, Task
from data_recipes.core.protocol import protocol
from methods.core.backbone import Backbone, BackboneSpec
from methods.core.config import Training
from methods.core.contract import Method, TaskInfo
from methods.core.registry import method as registered_method

RECORD_SCHEMA = 1


class TrainedOn(BaseModel):
    """Another dataset that a cell's method learns on before it is scored on the cell's own.

    whole: all its training queries (a `source:`), not the cell's few shots (`evaluate_on:`).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    dataset: str
    dataset_digest: str
    task: str
    whole: bool

    @property
    def label(self) -> str:
        """For tables."""
        return f"{self.dataset}/{self.task}"


class Cell(BaseModel):
    """Everything that `run_cell` needs. Identity fields make the key; see `bench.fields`.

    method, config, training: the method, its validated options, its resolved recipe.
    sources: digests of the method's and the engine's source, and of weights it reads itself.
    dataset, task, dataset_digest, protocol: what is learned and how it is scored.
    trained_on: where it is learned instead, for transfer; None: on `dataset` itself.
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
    trained_on: TrainedOn | None = fields.identity(default=None)
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
    def training_key(self) -> str:
        """Hash of what decides the learned weights: equal for one training scored on many sets."""
        home = self.trained_on or TrainedOn(
            dataset=self.dataset, dataset_digest=self.dataset_digest, task=self.task, whole=False
        )
        scored = ("dataset", "dataset_digest", "task", "protocol", "trained_on")
        own = {k: v for k, v in self.identity.items() if k not in scored}
        return keys.key({**own, "trained_on": home.model_dump()})

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
            "trained_on": self.trained_on.label if self.trained_on else None,
            "trains": self.training is not None,
        }

    @property
    def title(self) -> str:
        """For progress lines and error messages."""
        name = self.variant or self.method
        plural = "" if self.shots == 1 else "s"
        drawn = self.shots or self.trained_on
        draw = f", {self.shots} shot{plural}, seed {self.seed}" if drawn else ""
        origin = f" from {self.trained_on.label}" if self.trained_on else ""
        return f"{name}{origin} on {self.dataset}/{self.task}{draw}"


@dataclass(frozen=True)
class CellResult:
    """record: JSON-able, schema of `results.schema`. queries: per-query ranks. weights: learned.

    lists: the first candidates of every query, where the protocol has files for a test server.
    """

    record: dict[str, Any]
    queries: pd.DataFrame
    weights: dict[str, Tensor]
    lists: pd.DataFrame | None = None


@dataclass(frozen=True)
class Trained:
    """Weights learned in another cell, and that cell's key."""

    key: str
    weights: dict[str, Tensor]


def run_cell(
    cell: Cell,
    engine: Engine | None = None,
    trained: Callable[[str], Trained | None] = lambda _: None,
) -> CellResult | None:
    """Train and score one cell. With several ranks, all call it; only rank 0 gets the result.

    trained: training key -> weights learned in another cell, if there are any. Asked on rank 0,
        for cells that are scored on another dataset than they are trained on.

    Raises:
        DataError: dataset or backbone differ from what the cell was planned with.
        DivergedError, NotFiniteError: training or scoring left the finite numbers.
    """
    engine = engine or Engine(zero_stage=cell.zero_stage)
    ensure_process_group(engine)
    clock = _Clock()
    inputs = Inputs(cell.backbone, cell.backbone_digest, cell.data_root, cell.cache, engine)
    backbone, on = inputs.backbone(), cell.trained_on
    data = inputs.data(cell.dataset, cell.dataset_digest, cell.task)
    home = data if on is None else inputs.data(on.dataset, on.dataset_digest, on.task)
    clock.lap("load")
    torch.manual_seed(cell.seed)
    method = build_method(cell, backbone, home.task).to(engine.device)
    trainable = sum(p.numel() for p in method.parameters() if p.requires_grad)
    notes = [f"inferred in {cell.method}: {choice}" for choice in method.inferred]
    facts = _engine_facts(cell, engine)
    curve: list[float] = []
    if cell.training is not None:
        known = _shared(trained(cell.training_key) if on and engine.rank == 0 else None)
        if known is not None:
            method.load_learned(known.weights)
            facts["trained_in"] = known.key
        else:
            shots = None if on and on.whole else cell.shots
            curve, said = learn(method, cell.training, home, shots, cell.seed, engine)
            notes += said
    if on is not None:
        learned = method.learned()
        method = build_method(cell, backbone, data.task).to(engine.device)
        method.load_learned(learned)
    clock.lap("train")
    scored = score(
        method, data.task, data.images(method), data.missing, engine, data.gallery(method)
    )
    clock.lap("score")
    if engine.world_size > 1:
        dist.barrier()
    if scored is None:
        return None
    record = {
        "schema": RECORD_SCHEMA,
        "key": cell.key,
        "identity": cell.identity,
        "cell": cell.coordinates,
        "metrics": scored.metrics,
        "statistics": scored.statistics,
        "headline": protocol(cell.protocol).headline,
        "withheld": scored.withheld,
        "n_queries": len(scored.queries),
        "n_used": scored.used,
        "tie_rate": scored.tie_rate,
        "loss_curve": [[step, value] for step, value in enumerate(curve)],
        "trainable_parameters": trainable,
        "timings": clock.seconds,
        "memory": _memory(engine.device),
        "engine": facts,
        "provenance": provenance(),
        "notes": [
            *notes,
            *(f"data: {line}" for line in data.dataset.manifest.warnings),
            *scored.notes,
        ],
    }
    return CellResult(record, scored.queries, _weights(method), scored.lists)


def _shared(value: Trained | None) -> Trained | None:
    """Rank 0's value on every rank."""
    if dist.get_world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def build_method(cell: Cell, backbone: Backbone, task: Task) -> Method:
    """The cell's method over `backbone`. Seed torch before: parameters may start random."""
    kind = registered_method(cell.method)
    info = TaskInfo(kind=task.kind, class_names=task.class_names, templates=task.templates)
    config = kind.Config.model_validate(cell.config)
    if kind.weights_digest(config) != cell.sources.get("weights"):
        raise DataError(
            f"method {cell.method!r}: its weights are not those of the plan; start the study again"
        )
    return kind(config, backbone, info)


def _weights(method: Method) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in method.learned().items()}


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
