"""From a study to its cells: the grid, with what it leaves out named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.cell_spec import Cell
from bench.grid import Grid
from bench.method_entry import ablations
from bench.study import Study
from bench.study_file import StudyError
from data_recipes.core.remote import Place
from methods.core.backbone import load_backbone


@dataclass(frozen=True)
class Plan:
    """cells: stages, then the others in the study's order, each key once.

    left_out: pairs that cannot be, with why. reproduces: published sources, as the study says.
    """

    cells: list[Cell]
    left_out: list[str]
    reproduces: tuple[str, ...] = ()


def plan(study: Study, data_root: Place, cache: Path) -> Plan:
    """Expand a checked study into cells.

    A training-free method gives one cell per dataset (shots 0, seed 0), one that trains a cell per
    shots, draw and seed; with `evaluate_on` one more for each of those and each target, with
    `source` one for each seed at shots 0 on every one of them. An ablation of `vary:` is a method
    in this. A method with a stage gives one cell for it, before all others. Loads the backbone
    once, for its digest, and builds each method once on each task.

    Raises:
        StudyError: methods that cannot be built on their task with these options, all in one list.
    """
    grid = Grid(study, load_backbone(study.backbone), data_root, cache)
    own = grid.places(study.datasets, "datasets")
    targets = grid.places(study.evaluate_on, "evaluate_on")
    if study.source is not None:
        grid.source = grid.places([study.source], "source")[0]
    listed = [one for entry in study.methods for one in (entry, *ablations(entry, study.training))]
    for place in own:
        for entry in listed:
            if entry.datasets is None or place.named in entry.datasets:
                grid.add(entry, place)
                grid.add_zero_shots(entry, place)
    for place in targets:
        for entry in listed:
            if entry.recipe(study.training) is None:
                grid.add(entry, place)
                continue
            grid.add_zero_shots(entry, place)
            for origin in own:
                if origin.title != place.title and (
                    entry.datasets is None or origin.named in entry.datasets
                ):
                    grid.add(entry, place, origin)
    if not grid.cells and not grid.errors:
        grid.errors.append(
            "no method of the study fits any of its datasets: " + "; ".join(grid.left_out)
        )
    if grid.errors:
        raise StudyError(f"study {study.name}", grid.errors)
    cells = [*grid.stages.values(), *grid.cells.values()]
    return Plan(cells, list(dict.fromkeys(grid.left_out)), tuple(study.reproduces))
