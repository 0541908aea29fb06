"""From a study to its cells: the grid, with what it leaves out named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import keys
from bench.cell import Cell, build_method
from bench.study import Study, StudyError
from data_recipes.core.dataset import open_dataset
from data_recipes.core.remote import Place
from methods.core.backbone import load_backbone
from methods.core.registry import method as registered_method


@dataclass(frozen=True)
class Plan:
    """cells: in the study's order, each key once. left_out: pairs that cannot be, with why."""

    cells: list[Cell]
    left_out: list[str]


def plan(study: Study, data_root: Place, cache: Path) -> Plan:
    """Expand a checked study into cells.

    A training-free method gives one cell per dataset (shots 0, seed 0). Loads the backbone once,
    for its digest, and builds each method once on each task.

    Raises:
        StudyError: methods that cannot be built on their task with these options, all in one list.
    """
    backbone = load_backbone(study.backbone)
    cells: dict[str, Cell] = {}
    left_out, errors = [], []
    seen: set[tuple[str, str]] = set()
    for text in study.datasets:
        name, _, wanted = text.partition("/")
        dataset = open_dataset(data_root / name)
        task = dataset.manifest.task(wanted or None)
        if (name, task.name) in seen:
            errors.append(f"{name}/{task.name} is listed twice in datasets; remove one")
            continue
        seen.add((name, task.name))
        content = dataset.task(task.name)
        dataset.reader  # noqa: B018  # a missing or cut shard is found here, before any gang starts
        for entry in study.methods:
            kind = registered_method(entry.name)
            reason = kind.unfit(kind.Config.model_validate(entry.config), content.kind)
            if reason is not None:
                label = entry.label or entry.name
                left_out.append(f"{label} on {name}/{task.name}: {entry.name} {reason}")
                continue
            recipe = entry.recipe(study.training)
            if recipe is not None and content.train is None:
                label = entry.label or entry.name
                left_out.append(f"{label} on {name}/{task.name}: it has no training split")
                continue
            draws = (
                [(0, 0)] if recipe is None else [(n, s) for n in study.shots for s in study.seeds]
            )
            drawn = [
                Cell(
                    method=entry.name,
                    config=entry.options(),
                    training=recipe,
                    sources={
                        "method": keys.source_digest(kind.__module__),
                        "engine": keys.engine_digest(),
                    },
                    dataset=name,
                    dataset_digest=dataset.manifest.digest,
                    task=task.name,
                    protocol=task.protocol,
                    backbone_digest=backbone.digest,
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
                for shots, seed in draws
            ]
            try:
                build_method(drawn[0], backbone, content)
            except ValueError as error:
                errors.append(f"{drawn[0].variant or entry.name} on {name}/{task.name}: {error}")
            twin = cells.get(drawn[0].key)
            if twin is not None:
                errors.append(
                    f"{drawn[0].variant or entry.name} and {twin.variant or twin.method} are the "
                    f"same on {name}/{task.name}: options and training are equal; remove one"
                )
            cells |= {cell.key: cell for cell in drawn}
    if not cells:
        errors.append("no method of the study fits any of its datasets: " + "; ".join(left_out))
    if errors:
        raise StudyError(f"study {study.name}", errors)
    return Plan(list(cells.values()), left_out)
