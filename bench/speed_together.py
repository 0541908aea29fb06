"""Benchmark of seeds that train in one pass: 8 cells together against one after another."""

from __future__ import annotations

from pathlib import Path

from bench.cell import CellResult, run_cell
from bench.cell_spec import Cell
from bench.plan import plan
from bench.speed_rows import Row, compare
from bench.study import Study
from bench.together import run_together
from data_recipes.core.build import build_dataset
from data_recipes.core.registry import recipe

SEEDS = [1, 2, 3, 4, 5, 6, 7, 8]
COOP = {
    "name": "coop",
    "config": {"ctx_init": "a photo of a"},
    "training": {"schedule": "cosine", "epochs": 6, "lr": 0.02},
}
GOAL = 1 / 0.6


def rows(folder: Path) -> list[Row]:
    """Cells of the demo's CoOp, recipe and backbone, in a process that is warm.

    What is gained: texts are laid out in blocks, so that equal first words run once and attention
    is a few products (`methods/core/word_blocks.py`); what surrounds a step is paid once; and each
    thread has seeds of its own. The first is most of it, and no matter of several seeds: a cell
    alone, which keeps its bits, does without and would gain a quarter to a third by it. On composed
    data much of a cell is scoring, whose texts are encoded once; on roles 138 classes run through
    the tower in each step.
    """
    data = folder / "together"
    composed, roles = "openmoji-composed", "openmoji-roles"
    for name in (composed, roles):
        build_dataset(recipe(name)(), data / name)
    cache = folder / "cache"
    return [row(composed, 8, GOAL, 3, data, cache), row(roles, 1, GOAL, 3, data, cache)]


def row(dataset: str, shots: int, goal: float, repeats: int, data: Path, cache: Path) -> Row:
    """8 seeds in one pass. The baseline: the same 8 cells, one after another in this process."""
    fields = {"datasets": [dataset], "methods": [COOP], "shots": [shots], "seeds": SEEDS}
    cells = plan(Study.model_validate({"name": "speed", **fields}), data, cache).cells
    plural = "" if shots == 1 else "s"
    return compare(
        f"8 seeds together: CoOp, {dataset}, {shots} shot{plural}",
        lambda: separate(cells),
        lambda: run_together(cells),
        alike,
        goal,
        repeats,
    )


def separate(cells: list[Cell]) -> list[CellResult | None]:
    """As a warm gang runs them."""
    return [run_cell(cell) for cell in cells]


def alike(one: list[CellResult | None], other: list[CellResult | None]) -> bool:
    """Weights equal to 1e-4 of their norm, and metrics within one query of each other."""
    for first, second in zip(one, other, strict=True):
        if first is None or second is None:
            return False
        off = 1.001 / first.record["n_queries"]
        for name, value in first.record["metrics"].items():
            if abs(value - second.record["metrics"][name]) > off:
                return False
        for name, weights in first.weights.items():
            if (weights - second.weights[name]).norm() > 1e-4 * weights.norm():
                return False
    return True
