"""One cell under torch's profiler: a trace, and a page that says where its time went."""

from __future__ import annotations

import difflib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.cell import CellResult, run_cell
from bench.cell_spec import Cell
from bench.learned import Trained
from bench.marks import PHASES, mark, marking
from bench.train import Engine
from data_recipes.core.model import DataError
from results.store import RecordStore

TRACE, PAGE = "trace.json", "profile.md"
TOP = 10
LISTED = 5  # cells in an error message
MARKED = "promptgrid/"


@dataclass(frozen=True)
class Operator:
    """One of torch's operators over the whole run. seconds: its own, without those it calls."""

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """wall: seconds of the cell and its record. phases: seconds of each, "other" the rest.

    warm_up: seconds of the same cell before, without the profiler. operators: most seconds first,
    `on` says where these were spent. memory: peaks in bytes. facts: of the cell, for its page.
    """

    wall: float
    warm_up: float
    phases: dict[str, float]
    operators: list[Operator]
    on: str
    memory: dict[str, int]
    facts: dict[str, str]


def select(cells: Sequence[Cell], text: str) -> Cell:
    """The one cell whose key begins with `text`, or whose title is or holds it.

    Raises:
        DataError: no cell or several are meant; lists the nearest.
    """
    exact = [c for c in cells if c.title == text or c.key == text]
    found = exact or [c for c in cells if c.key.startswith(text)]
    found = found or [c for c in cells if text.lower() in c.title.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        said, listed = f"names {len(found)} cells; give a whole title or key", found
    else:
        title = {c.title: c for c in cells}
        near = difflib.get_close_matches(text, title, n=LISTED, cutoff=0.0)
        said, listed = "is no cell of the study; the nearest are", [title[name] for name in near]
    lines = [f"  {c.key[:12]} {c.title}" for c in listed[:LISTED]]
    lines += [f"  ... and {len(listed) - LISTED} more"] if len(listed) > LISTED else []
    raise DataError("\n".join([f"--cell {text!r} {said}:", *lines, "(--dry-run lists all)"]))


def profile_cell(cell: Cell, engine: Engine, folder: Path) -> Profile:
    """Run `cell` twice, the second time under the profiler; write its trace into `folder`.

    The first run fills the caches, as the cells before do in a study; where the cell goes on from a
    stage, that is trained before and only its weights are taken. The record that is written (and
    timed) goes to a temporary folder.
    """
    cuda = torch.device(engine.device).type == "cuda"
    finish: Callable[[], object] = torch.cuda.synchronize if cuda else _nothing
    known: dict[str, Trained] = {}
    if cell.after is not None:
        stage = _finished(run_cell(cell.after, engine))
        known[cell.after.training_key] = Trained(cell.after.key, stage.weights)
    with tempfile.TemporaryDirectory() as spare:
        first, second = (RecordStore(Path(spare) / name) for name in ("first", "second"))

        def once(store: RecordStore) -> tuple[float, CellResult]:
            start = time.perf_counter()
            result = _finished(run_cell(cell, engine, known.get))
            with mark("record"):
                store.write(result.record, result.queries, result.weights, result.lists)
            finish()
            return time.perf_counter() - start, result

        warm_up, _ = once(first)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        with profile(activities=activities) as profiler, marking(finish):
            wall, result = once(second)
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(folder / TRACE))
    averages = profiler.key_averages()
    marked = {row.key: row.cpu_time_total / 1e6 for row in averages if row.count}
    spent: dict[str, float] = {name: marked.get(MARKED + name, 0.0) for name in PHASES}
    return Profile(
        wall=wall,
        warm_up=warm_up,
        phases=with_other(spent, wall),
        operators=busiest(averages, cuda),
        on="GPU" if cuda else "CPU",
        memory=result.record["memory"],
        facts=_facts(cell, result.record),
    )


def _nothing() -> None:
    """A CPU has no work outstanding."""


def _finished(result: CellResult | None) -> CellResult:
    assert result is not None, "a profile is made on one rank"
    return result


def with_other(spent: Mapping[str, float], wall: float) -> dict[str, float]:
    """Seconds of the phases and, as "other", of what lies between them: their sum is `wall`."""
    return {**spent, "other": wall - sum(spent.values())}


def busiest(averages: Any, cuda: bool) -> list[Operator]:
    """The operators with the most seconds of their own; marks are none."""
    name = "self_device_time_total" if cuda else "self_cpu_time_total"
    own = [
        Operator(row.key, row.count, getattr(row, name) / 1e6)
        for row in averages
        if not row.key.startswith((MARKED, "ProfilerStep"))
    ]
    return sorted(own, key=lambda one: -one.seconds)[:TOP]


def _facts(cell: Cell, record: Mapping[str, Any]) -> dict[str, str]:
    engine, hardware = record["engine"], record["provenance"]["hardware"]
    device = hardware["gpus"][0] if engine["device"] == "cuda" else hardware["processor"]
    steps = len(record["loss_curve"])
    headline = record["metrics"].get(record["headline"])
    result = "withheld" if headline is None else f"{100 * headline:.2f} %"
    return {
        "cell": cell.title,
        "key": cell.key,
        "backbone": cell.backbone.label,
        "steps": str(steps) if steps else "none: nothing is trained here",
        "trainable parameters": f"{record['trainable_parameters']:,}",
        "queries": f"{record['n_queries']:,}",
        str(record["headline"]): result,
        "device": f"{device}, {engine['threads']} thread(s)",
        "torch": torch.__version__,
    }


def page(found: Profile) -> str:
    """The profile as one page of Markdown."""
    lines = [f"# Profile: {found.facts['cell']}", ""]
    lines += [f"- {name}: {value}" for name, value in found.facts.items() if name != "cell"]
    lines += ["", "## Where the time went", "", "| phase | seconds | share |", "|---|--:|--:|"]
    rows = [*found.phases.items(), ("all", found.wall)]
    lines += [f"| {name} | {took:.4f} | {took / found.wall:.1%} |" for name, took in rows]
    lines += [
        "",
        "Wall time under the profiler, which costs time with every operator; the run before, "
        f"without it, took {found.warm_up:.4f} s, with whatever had to be loaded first.",
        "",
        f"## Operators with the most time of their own on the {found.on}",
        "",
        "| operator | calls | seconds | share |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {one.name[:60]} | {one.calls:,} | {one.seconds:.4f} | {one.seconds / found.wall:.1%} |"
        for one in found.operators
    ]
    lines += ["", "## Peak memory", "", "| of | MiB |", "|---|--:|"]
    names = {
        "process_peak_bytes": "the process, since its start",
        "gpu_peak_bytes": "the GPU, in this cell",
    }
    lines += [f"| {names[key]} | {value / 2**20:,.0f} |" for key, value in found.memory.items()]
    lines += ["", f"The trace, {TRACE}, opens in https://ui.perfetto.dev.", ""]
    return "\n".join(lines)
