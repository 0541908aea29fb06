"""Benchmarks of gangs over Ray: what a next cell costs beside its arithmetic, and two gangs.

Cells: CoOp on openmoji-roles with the demo's backbone, one shot, forty seeds, one thread a rank;
the frozen features are on disk before. A cell's own arithmetic is its training steps, its encoding
and its ranking (`train` and `score` of a record's timings).

`next cell` is the time from one lease to the next on a warm gang, less the arithmetic in between:
lease, method, shots, DeepSpeed's engine, collection, and what the record of the cell before takes
from it. It is the median of the cells of one gang's runs but the first two of each. The baseline is
one `TorchTrainer.fit` for a cell on a Ray that runs already, from the call until the record is
stored (the end of the run is not counted), less the arithmetic.

`40 cells` is the time from the first lease to the last `done`, with one gang and with two, the mean
of two runs each. What is done once is before that and not in it, for one gang as for two: the start
of Ray and of the gangs, their imports, the backbone and the dataset (`bench.warm_up`); it is
printed beside.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from bench.cell import run_cell
from bench.cell_spec import Cell
from bench.plan import Plan, plan
from bench.run import keep, run_plan
from bench.speed_rows import Row
from bench.study import RunOptions, Study
from cluster.ray_session import ray_session
from data_recipes.core.build import build_dataset
from data_recipes.core.registry import recipe
from results.store import RecordStore

CELLS = 40
STEPS = 40  # a second or two
FITS = 3
ORDER = (1, 2, 2, 1)  # numbers of gangs: what the machine does meanwhile meets both alike
COLD = 2  # cells of a run that are not counted as warm
LIMIT_S = 0.25


def rows(folder: Path) -> list[Row]:
    """The next cell's cost, and two gangs against one."""
    planned = study(folder, CELLS)
    finished(planned.cells[0])  # makes the frozen features
    with ray_session(None, cpus=2):
        fits = [one_fit(cell, folder) for cell in planned.cells[:FITS]]
    ran: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for number, count in enumerate(ORDER):
        with ray_session(None, cpus=2):  # its own, as a study's: what ran before leaves processes
            it = gangs(planned, count, folder / f"gangs-{number}")
        ran[count].append(it)
        print(
            f"{count} gang(s): {it['start']:.1f} s to the first lease, {it['seconds']:.1f} s from "
            f"there, {it['whole']:.1f} s in all"
        )
    first = ran[1][0]
    same = all(it["metrics"] == first["metrics"] for it in (*ran[1], *ran[2]))
    same_fits = all(first["metrics"][key] == metrics for key, metrics, _ in fits)
    alone = statistics.median(seconds for *_, seconds in fits)
    following = statistics.median(cost for it in ran[1] for cost in it["overhead"][COLD:])
    one, two = (statistics.median(it["seconds"] for it in ran[count]) for count in (1, 2))
    return [
        Row(
            "next cell beside its arithmetic: warm gang against one TorchTrainer.fit per cell",
            alone,
            following,
            alone / following,
            50.0,
            same_fits,
            limit=LIMIT_S,
        ),
        Row(
            f"{CELLS} equal cells: two gangs against one, one thread a rank",
            one,
            two,
            one / two,
            1.8,
            same,
        ),
    ]


def study(folder: Path, cells: int, steps: int = STEPS) -> Plan:
    """A study of equal cells over a dataset that is built for it."""
    build_dataset(recipe("openmoji-roles")(), folder / "data" / "openmoji-roles")
    asked = {
        "name": "gangs",
        "datasets": ["openmoji-roles"],
        "methods": [{"name": "coop", "config": {"ctx_init": "a photo of a"}}],
        "shots": [1],
        "seeds": list(range(1, cells + 1)),
        "training": {"schedule": "cosine", "steps": steps, "lr": 0.02},
    }
    return plan(Study.model_validate(asked), folder / "data", folder / "cache")


def gangs(planned: Plan, count: int, out: Path) -> dict[str, Any]:
    """Run the cells on `count` gangs of one rank.

    metrics: by key. seconds: from the first lease to the last `done`. start, whole: from the call
    to the first lease, and to the end. overhead: see `beside`; with one gang.
    """
    events: list[dict[str, Any]] = []
    options = RunOptions(gangs=count, ranks_per_cell=1, threads_per_rank=1, gpu=False)
    ran = run_plan(planned, options, out, on_event=events.append)
    if ran.failures or ran.outcome is None:
        raise RuntimeError(f"cells failed: {ran.failures}")
    records = {record["key"]: record for record in RecordStore(out).read_all()}
    own = {key: arithmetic(record) for key, record in records.items()}
    first = min(event["time"] - event["seconds"] for event in events)
    return {
        "metrics": {key: record["metrics"] for key, record in records.items()},
        "seconds": max(event["time"] for event in events) - first,
        "start": ran.outcome.first_lease_s,
        "whole": ran.outcome.total_s,
        "overhead": beside(events, own),
    }


def beside(events: Sequence[Mapping[str, Any]], own: Mapping[str, float]) -> list[float]:
    """Seconds from each lease of one gang to its next, less the arithmetic in between.

    events: `done` events, whose `seconds` are those since the lease. own: key -> arithmetic.
    """
    leased = sorted((event["time"] - event["seconds"], event["key"]) for event in events)
    return [later - start - own[key] for (start, key), (later, _) in pairwise(leased)]


def arithmetic(record: dict[str, Any]) -> float:
    """Seconds of a cell's steps, encoding and ranking."""
    return float(record["timings"]["train"] + record["timings"]["score"])


def one_fit(cell: Cell, folder: Path) -> tuple[str, dict[str, float], float]:
    """Key, metrics and seconds beside the arithmetic of a cell that has a `TorchTrainer.fit`."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    store = RecordStore(folder / "fits")
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    trainer = TorchTrainer(
        run_alone,
        train_loop_config={"cell": cell.model_dump_json(), "store": str(store.root)},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=f"fit-{cell.key}",
            storage_path=str(folder / "ray"),
            worker_runtime_env={"env_vars": threads},
        ),
    )
    start = time.perf_counter()
    thread = threading.Thread(target=trainer.fit, daemon=True)
    thread.start()
    while not store.has(cell.key):
        if not thread.is_alive():
            raise RuntimeError(f"TorchTrainer.fit ended without a record of {cell.title}")
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    end_cleaners()  # else the end of a run takes 12 s more
    thread.join()
    record = store.read(cell.key)
    return cell.key, record["metrics"], seconds - arithmetic(record)


def end_cleaners() -> None:
    """End the placement-group cleaners of the fits; all is done by then.

    A cleaner asks for its controller through Ray's dashboard, which does not run, so that it heeds
    its own stop only after a time-out of 12 s. A fit takes its death in its stride.
    """
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            # A process that is ending has no command line.
            if "".join(process.cmdline()[:1]).startswith("ray::PlacementGroupCleaner"):
                process.terminate()


def run_alone(config: dict[str, str]) -> None:
    """What the one worker of a fit does."""
    import torch

    torch.set_num_threads(1)
    cell = Cell.model_validate_json(config["cell"])
    finished(cell, Path(config["store"]))


def finished(cell: Cell, out: Path | None = None) -> None:
    """Run a cell in this process, and store its record in `out`."""
    result = run_cell(cell)
    if result is not None and out is not None:
        keep(RecordStore(out), cell, result)
