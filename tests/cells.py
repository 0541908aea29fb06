"""Cells over the tiny world, and the same cell on several ranks, for tests of the engine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bench.cell import run_cell
from bench.cell_spec import Cell
from bench.plan import plan
from bench.run import run_leased
from bench.study import Study
from bench.train import Engine
from cluster.gang import RankContext
from results.store import RecordStore
from tests.tiny import TINY_SPEC

QUICK = {"schedule": "constant", "steps": 6, "lr": 0.05, "batch_size": 5}

STAGED: dict[str, Any] = {
    "methods": [{"name": "staged-coop", "config": {"n_ctx": 2}}],
    "datasets": ["tiny/composed"],
    "source": "tiny/image-text",
}


def tiny_cells(data: Path, cache: Path, **fields: Any) -> list[Cell]:
    """Cells of a study over the tiny world; `fields` replace those of the study."""
    study = {
        "name": "tiny",
        "backbone": TINY_SPEC.model_dump(),
        "datasets": ["tiny"],
        "methods": [{"name": "coop", "config": {"n_ctx": 2}}],
        "shots": [2],
        "seeds": [1],
        "training": QUICK,
        **fields,
    }
    return plan(Study.model_validate(study), data, cache).cells


def staged_cells(data: Path, cache: Path, **fields: Any) -> list[Cell]:
    """Cells of a study over the tiny world whose method learns on its captions first.

    The fixture `learners` makes the method known.
    """
    return tiny_cells(data, cache, **{**STAGED, **fields})


def lease(cell: Cell, out: Path) -> dict[str, Any]:
    """The record of a cell that a gang of one rank runs and stores below `out`."""
    stored(cell, out, RankContext(0, 1, 0, "cpu", "gang0"))
    return RecordStore(out).read(cell.key)


def stored(cell: Cell, out: Path, context: RankContext) -> dict[str, Any] | None:
    """What the driver is told of a cell, once its record is stored."""
    result = run_leased({"cell": cell.model_dump_json(), "store": str(out)}, context)
    return result() if callable(result) else result


def run_on_ranks(cells: list[Cell], ranks: int, zero_stage: int, folder: Path) -> list[Any]:
    """The records of `cells`, each run on `ranks` real processes over gloo."""
    out = folder / f"records-{ranks}-{zero_stage}.json"
    texts = [cell.model_dump_json() for cell in cells]
    store = folder / f"rendezvous-{ranks}-{zero_stage}"
    mp.spawn(_rank, (ranks, zero_stage, texts, str(store), str(out)), nprocs=ranks)
    records: list[Any] = json.loads(out.read_text())
    return records


def _rank(rank: int, ranks: int, zero_stage: int, cells: list[str], store: str, out: str) -> None:
    torch.set_num_threads(1)
    names = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "MASTER_PORT": 0}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    engine = Engine(rank=rank, world_size=ranks, zero_stage=zero_stage)
    results = [run_cell(Cell.model_validate_json(text), engine) for text in cells]
    if rank == 0:
        Path(out).write_text(json.dumps([result.record for result in results if result]))
    dist.destroy_process_group()
