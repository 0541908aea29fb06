"""Speed, as ratios against a baseline in the same run: `make bench`.

Each row names a baseline (what one would otherwise run), our way, the ratio of their median
times, and whether both gave the same numbers. Written to results/benchmarks.json and .md.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench import speed_features, speed_ranking, speed_shards, speed_text
from bench.provenance import provenance
from bench.speed_rows import Row

OUT = Path(__file__).resolve().parent.parent / "results"
SUBJECTS: dict[str, Callable[[Path], list[Row]]] = {
    "text": speed_text.rows,
    "ranking": speed_ranking.rows,
    "features": speed_features.rows,
    "shards": speed_shards.rows,
}


def markdown(rows: list[Row], machine: dict[str, Any]) -> str:
    """The table with the machine's description."""
    facts = f"{machine['processor']}, {machine['cores']} cores; torch {torch.__version__}"
    lines = [
        "# Benchmarks",
        "",
        f"{facts}, {torch.get_num_threads()} threads, float32. Medians of one run.",
        "",
        "| what | baseline | ours | unit | ratio | goal | equal |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    lines += [
        f"| {r.name} | {r.baseline:.4g} | {r.ours:.4g} | {r.unit} | {r.ratio:.2f} | {r.goal:g} | "
        f"{'yes' if r.equal else 'NO'} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all benchmarks, print the table, write both files; exit 1 if results differ."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for subject in SUBJECTS.values() for row in subject(Path(folder))]
    text = markdown(rows, provenance()["hardware"])
    print(text)
    OUT.joinpath("benchmarks.md").write_text(text)
    OUT.joinpath("benchmarks.json").write_text(json.dumps([asdict(r) for r in rows], indent=1))
    if not all(row.equal for row in rows):
        raise SystemExit("a benchmark's two ways gave different numbers")


if __name__ == "__main__":
    main()
