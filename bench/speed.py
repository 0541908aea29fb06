"""Speed, as ratios against a baseline in the same run: `make bench`.

Each row names a baseline (what one would otherwise run), our way, the ratio of their median
times, and whether both gave the same numbers. `python -m bench.speed SUBJECT ...` runs some of the
subjects. All of them are written to results/benchmarks.json and .md, the growth of the cost beside.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bench.provenance import provenance
from bench.speed_growth import Curve, curves, section
from bench.speed_rows import Row

OUT = Path(__file__).resolve().parent.parent / "results"
SUBJECTS = (  # each is `rows` of a module bench/speed_SUBJECT.py
    "text",
    "ranking",
    "features",
    "shards",
    "together",
    "gpu",
    "gangs",
    "demo",
    "report",
)
GROWTH = "growth"

Subject = Callable[[Path], list[Row]]


@dataclass
class Report:
    """What was measured. growth: None where it was not asked for. failed: subject -> its error."""

    rows: list[Row] = field(default_factory=list)
    growth: list[Curve] | None = None
    failed: dict[str, str] = field(default_factory=dict)


def subject(name: str) -> Subject:
    """The function behind a subject's name."""
    found: Subject = import_module(f"bench.speed_{name}").rows
    return found


def run(subjects: Mapping[str, Subject], report: Report) -> None:
    """Run subjects one after another, each in an empty folder; one that raises is noted."""
    for name, rows in subjects.items():
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = rows(Path(folder))
        except Exception as error:
            report.failed[name] = f"{type(error).__name__}: {error}"
            print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)
            continue
        report.rows += found
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        if found:
            print(table(found), flush=True)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; what misses its goal or limit is marked."""
    lines = [
        "| what | baseline | ours | unit | ratio | goal | equal |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    lines += [
        f"| {r.name} | {r.baseline:.4g} | {r.ours:.4g} | {r.unit} | {r.ratio:.2f} | {_goal(r)} | "
        f"{'yes' if r.equal else '**NO**'} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def _goal(row: Row) -> str:
    goal = "" if row.goal is None else f"{row.goal:g}"
    limit = "" if row.limit is None else f"<= {row.limit:g} {row.unit}"
    asked = ", ".join(part for part in (goal, limit) if part)
    return f"{asked} **missed**" if row.missed else asked


def markdown(report: Report, machine: Mapping[str, Any]) -> str:
    """The whole report with the machine's description; it names no date."""
    facts = [machine["processor"], f"{machine['cores']} cores"]
    facts.append(f"{machine['memory_bytes'] / 2**30:.0f} GiB of memory")
    facts += machine["gpus"] or ["no GPU"]
    facts.append(f"torch {torch.__version__} with {torch.get_num_threads()} threads")
    lines = ["# Benchmarks", "", f"{', '.join(facts)}; float32. Medians of one run.", ""]
    lines += ["Ratio: baseline / ours, above 1 where ours is better.", "", table(report.rows)]
    lines += [f"Not measured: {name} ({error})\n" for name, error in report.failed.items()]
    if report.growth is not None:
        lines.append(section(report.growth))
    return "\n".join(lines)


def write(report: Report, out: Path, machine: Mapping[str, Any]) -> None:
    """Write benchmarks.md, benchmarks.json (a list of rows) and benchmarks-growth.json."""
    out.mkdir(parents=True, exist_ok=True)
    files = {"benchmarks.json": [asdict(row) for row in report.rows]}
    if report.growth is not None:
        files["benchmarks-growth.json"] = [asdict(curve) for curve in report.growth]
    for name, content in files.items():
        out.joinpath(name).write_text(json.dumps(content, indent=1) + "\n")
    out.joinpath("benchmarks.md").write_text(markdown(report, machine))


def wrong(report: Report) -> str | None:
    """Why the run is no success: rows that differ and subjects that raised; a goal is no such."""
    said = [f"{row.name}: the two ways gave different numbers" for row in report.rows]
    said = [line for line, row in zip(said, report.rows, strict=True) if not row.equal]
    said += [f"{name} failed: {error}" for name, error in report.failed.items()]
    return "\n".join(said) or None


def main(words: Sequence[str] | None = None) -> None:
    """Run subjects, print their tables, write the files; exit 1 if results differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(_names()))
    parser.add_argument("--out", type=Path, help="folder of the files; all subjects: results/")
    given = parser.parse_args(words)
    unknown = [name for name in given.subjects if name not in _names()]
    if unknown:
        parser.error(f"unknown subject {unknown[0]!r}; known: {', '.join(_names())}")
    names = dict.fromkeys(given.subjects or _names())
    out = given.out or (None if given.subjects else OUT)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    report = Report()

    def growth(_: Path) -> list[Row]:
        report.growth = curves()
        print(section(report.growth), flush=True)
        return []

    run({name: growth if name == GROWTH else subject(name) for name in names}, report)
    missed = [row.name for row in report.rows if row.missed]
    if missed:
        print("missed their goal:\n  " + "\n  ".join(missed))
    if out is not None:
        write(report, out, provenance()["hardware"])
        print(f"written: {out / 'benchmarks.md'}")
    reason = wrong(report)
    if reason is not None:
        raise SystemExit(reason)


def _names() -> tuple[str, ...]:
    return (*SUBJECTS, GROWTH)


if __name__ == "__main__":
    main()
