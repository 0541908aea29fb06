"""A cell: one method on one few-shot split, scored by the dataset's protocol.

`run_cell` is the one place where data, method, engine and protocol meet. It needs no Ray.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor

from bench.cell_spec import Cell
from bench.clock import Clock
from bench.learned import Learned, Pool, build_method, home_of, learned
from bench.loaded import Inputs
from bench.marks import mark
from bench.provenance import provenance
from bench.score import score
from bench.train import Engine, ensure_process_group
from data_recipes.core.protocol import protocol
from methods.core.contract import Method

RECORD_SCHEMA = 1


@dataclass(frozen=True)
class CellResult:
    """record: JSON-able, schema of `results.schema`. queries: per-query ranks. weights: learned.

    lists: the first candidates of every query, where the protocol has files for a test server.
    """

    record: dict[str, Any]
    queries: pd.DataFrame
    weights: dict[str, Tensor]
    lists: pd.DataFrame | None = None


def run_cell(
    cell: Cell,
    engine: Engine | None = None,
    trained: Pool = lambda _: None,
) -> CellResult | None:
    """Train and score one cell. With several ranks, all call it; only rank 0 gets the result.

    trained: training key -> weights learned in another cell, if there are any; see `learned`.

    Raises:
        DataError: dataset or backbone differ from what the cell was planned with.
        DivergedError, NotFiniteError: training or scoring left the finite numbers.
    """
    engine = engine or Engine(zero_stage=cell.zero_stage, compile=cell.compile)
    ensure_process_group(engine)
    clock = Clock()
    inputs = Inputs(cell.backbone, cell.backbone_digest, cell.data_root, cell.cache, engine)
    with mark("load"):
        inputs.backbone()
        inputs.data(cell.dataset, cell.dataset_digest, cell.task)
        home_of(cell, inputs)  # kept, and so no part of the training's seconds
    clock.lap("load")
    return scored_cell(cell, learned(cell, inputs, trained, clock), inputs, clock)


def scored_cell(cell: Cell, found: Learned, inputs: Inputs, clock: Clock) -> CellResult | None:
    """The result of a cell whose method has learned. All ranks call it; rank 0 gets the result."""
    engine, backbone = inputs.engine, inputs.backbone()
    data = inputs.data(cell.dataset, cell.dataset_digest, cell.task)
    method = found.method
    trainable = sum(p.numel() for p in method.parameters() if p.requires_grad)
    if cell.trained_on is not None and not cell.stage:
        method = build_method(cell, backbone, data.task).to(engine.device)
        method.load_learned(found.method.learned())
    clock.lap("setup")
    with mark("evaluation"):
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
        "loss_curve": [[step, value] for step, value in enumerate(found.curve)],
        "trainable_parameters": trainable,
        "timings": clock.seconds,
        "memory": _memory(engine.device),
        "engine": {**_engine_facts(cell, engine), **found.facts},
        "provenance": provenance(),
        "notes": [
            *(f"inferred: {choice}" for choice in method.inferred),
            *method.remarks,
            *found.notes,
            *(f"data: {line}" for line in data.dataset.manifest.warnings),
            *scored.notes,
        ],
    }
    return CellResult(record, scored.queries, _weights(method), scored.lists)


def _weights(method: Method) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in method.learned().items()}


def _engine_facts(cell: Cell, engine: Engine) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "device": torch.device(engine.device).type,
        "world_size": engine.world_size,
        "threads": torch.get_num_threads(),
        "compile": engine.compiles,
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
