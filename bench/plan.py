"""From a study to its cells: the grid, with what it leaves out named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import keys
from bench.cell import Cell
from bench.study import Study
from data_recipes.core.dataset import open_dataset
from methods.core.backbone import load_backbone
from methods.core.registry import method as registered_method


@dataclass(frozen=True)
class Plan:
    """cells: in the study's order, each key once. left_out: pairs that cannot be, with why."""

    cells: list[Cell]
    left_out: list[str]


def plan(study: Study, data_root: Path, cache: Path) -> Plan:
    """Expand a checked study into cells.

    A training-free method gives one cell per dataset (shots 0, seed 0). Loads the backbone once,
    for its digest.
    """
    digest = load_backbone(study.backbone).digest
    cells: dict[str, Cell] = {}
    left_out = []
    for text in study.datasets:
        name, _, wanted = text.partition("/")
        manifest = open_dataset(data_root / name).manifest
        task = manifest.task(wanted or None)
        for entry in study.methods:
            kind = registered_method(entry.name)
            if task.kind not in kind.tasks:
                left_out.append(
                    f"{entry.label or entry.name} on {name}/{task.name}: the method does "
                    f"{', '.join(sorted(kind.tasks))}, the task is {task.kind}"
                )
                continue
            recipe = entry.recipe(study.training)
            draws = (
                [(0, 0)] if recipe is None else [(n, s) for n in study.shots for s in study.seeds]
            )
            for shots, seed in draws:
                cell = Cell(
                    method=entry.name,
                    config=entry.options(),
                    training=recipe,
                    sources={
                        "method": keys.source_digest(kind.__module__),
                        "engine": keys.engine_digest(),
                    },
                    dataset=name,
                    dataset_digest=manifest.digest,
                    task=task.name,
                    protocol=task.protocol,
                    backbone_digest=digest,
                    shots=shots,
                    seed=seed,
                    kind=task.kind,
                    study=study.name,
                    variant=entry.label,
                    backbone=study.backbone,
                    data_root=str(data_root.resolve()),
                    cache=str(cache.resolve()),
                    zero_stage=study.run.zero_stage,
                )
                cells.setdefault(cell.key, cell)
    return Plan(list(cells.values()), left_out)
