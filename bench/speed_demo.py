"""Benchmark of the demo study: gangs and shared work against one process per cell.

`python -m bench.speed_demo FOLDER` is the script that the baseline runs for every cell, as the
field's scripts are run, one after another, each with all cores: it starts, imports, loads backbone
and dataset, computes the image features that its cell needs, trains, scores, writes and ends. It
runs the same `run_cell` with the same method, so that what differs is what is done again.

FOLDER holds `cell.json` and, for cells behind a stage, `stage.safetensors`, what the stage's own
process has learned; the script adds `record.json`, `features.json`, `weights.safetensors` and its
own cache of features.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bench.cell import run_cell
from bench.cell_spec import Cell
from bench.learned import Trained, build_method
from bench.loaded import Inputs
from bench.plan import plan
from bench.speed_rows import Row
from bench.study import load_study
from bench.study_file import study_datasets
from bench.train import Engine
from data_recipes.core.build import build_dataset
from data_recipes.core.registry import recipe
from results.store import RecordStore

DEMO = Path(__file__).with_name("demo.yaml")
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Alone:
    """A cell's own process. count: how many cells of the study it stands for (its seeds).

    seconds: from its start to its end. features_s: of these for image features; files: their names
    in its cache.
    """

    cell: Cell
    count: int
    seconds: float
    features_s: float
    files: frozenset[str]
    metrics: Mapping[str, float]


def rows(folder: Path) -> list[Row]:
    """The demo study from nothing, against the sum of its cells' own processes.

    Of each (method, dataset, shots) the first seed is run and counts as often as there are seeds.
    """
    data, cache, out = (folder / name for name in ("data", "cache", "out"))
    for name in study_datasets(DEMO):
        build_dataset(recipe(name)(), data / name)
    words = ["run", str(DEMO), "--data", str(data), "--cache", str(cache), "--out", str(out)]
    start = time.perf_counter()
    _python("bench.cli", words)
    seconds = time.perf_counter() - start
    cells = plan(load_study(DEMO, data), data, cache).cells
    store = RecordStore(out)
    alone = [*run_alone(cells, folder / "alone")]
    equal = all(same(run.metrics, store.read(run.cell.key)["metrics"]) for run in alone)
    name = f"demo study, {len(cells)} cells, against one process per cell"
    return [
        _row(f"{name} (one seed of each run, times its seeds)", summed(alone), seconds, 8.0, equal),
        _row(f"{name} that share their features on disk", shared(alone), seconds, None, equal),
    ]


def _row(name: str, baseline: float, ours: float, goal: float | None, equal: bool) -> Row:
    return Row(name, baseline, ours, baseline / ours, goal, equal)


def kinds(cells: Sequence[Cell]) -> list[tuple[Cell, int]]:
    """The first cell of each that differ in their seed alone, and their number; stages first."""
    found: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        where = (cell.method, cell.variant, cell.stage, cell.dataset, cell.task, cell.shots)
        found.setdefault(where, []).append(cell)
    return [(alike[0], len(alike)) for alike in found.values()]


def run_alone(cells: Sequence[Cell], folder: Path) -> list[Alone]:
    """One process after another, for the first seed of every kind; each in a folder of its own."""
    done: list[Alone] = []
    for cell, count in kinds(cells):
        own = folder / cell.key
        own.mkdir(parents=True)
        (own / "cell.json").write_text(cell.model_dump_json())
        if cell.after is not None:
            learned = folder / cell.after.key / "weights.safetensors"
            (own / "stage.safetensors").symlink_to(learned)
        start = time.perf_counter()
        _python("bench.speed_demo", [str(own)])
        seconds = time.perf_counter() - start
        done.append(
            Alone(
                cell=cell,
                count=count,
                seconds=seconds,
                features_s=json.loads((own / "features.json").read_text()),
                files=frozenset(path.name for path in (own / "cache").glob("*.npy")),
                metrics=json.loads((own / "record.json").read_text())["metrics"],
            )
        )
    return done


def summed(alone: Sequence[Alone]) -> float:
    """Seconds of all cells, one process each."""
    return sum(run.count * run.seconds for run in alone)


def shared(alone: Sequence[Alone]) -> float:
    """The same where each file of features is made once and then found by all others."""
    first = {run.files: run.features_s for run in reversed(alone)}
    return summed(alone) - sum(r.count * r.features_s for r in alone) + sum(first.values())


def same(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    """Whether two cells' metrics are equal up to rounding."""
    return first.keys() == second.keys() and all(
        abs(first[name] - second[name]) <= TOLERANCE for name in first
    )


def _python(module: str, words: Sequence[str]) -> None:
    """Run a module in a new process. Raises RuntimeError with its last words where it fails."""
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")


def main(folder: Path) -> None:
    """Run the cell of a folder in this process."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    cell = Cell.model_validate_json((folder / "cell.json").read_text())
    cell = cell.model_copy(update={"cache": str(folder / "cache")})
    learned, after = folder / "stage.safetensors", cell.after
    known: dict[str, Trained] = {}
    if after is not None:
        known[after.training_key] = Trained(after.key, load_file(learned))
    inputs = Inputs(cell.backbone, cell.backbone_digest, cell.data_root, cell.cache, Engine())
    data = inputs.data(cell.dataset, cell.dataset_digest, cell.task)
    method = build_method(cell, inputs.backbone(), data.task)
    start = time.perf_counter()
    data.images(method), data.gallery(method)  # made here, and found by the cell
    seconds = time.perf_counter() - start
    result = run_cell(cell, trained=known.get)
    assert result is not None, "one rank gets the result"
    (folder / "record.json").write_text(json.dumps(result.record))
    (folder / "features.json").write_text(json.dumps(seconds))
    save_file(result.weights, folder / "weights.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
