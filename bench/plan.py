"""From a study to its cells: the grid, with what it leaves out named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Size

from bench import keys
from bench.cell import Cell, TrainedOn, build_method
from bench.study import MethodEntry, Study
from bench.study_file import StudyError
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import Task
from data_recipes.core.remote import Place
from methods.core.backbone import Backbone, load_backbone
from methods.core.contract import Method
from methods.core.registry import method as registered_method


@dataclass(frozen=True)
class Plan:
    """cells: in the study's order, each key once. left_out: pairs that cannot be, with why."""

    cells: list[Cell]
    left_out: list[str]


@dataclass(frozen=True)
class _Target:
    """One task of one built dataset."""

    dataset: str
    digest: str
    task: Task

    @property
    def title(self) -> str:
        return f"{self.dataset}/{self.task.name}"

    def origin(self, whole: bool) -> TrainedOn:
        return TrainedOn(
            dataset=self.dataset, dataset_digest=self.digest, task=self.task.name, whole=whole
        )


@dataclass
class _Grid:
    """Collects the cells, and everything that cannot be."""

    study: Study
    backbone: Backbone
    data_root: Place
    cache: Path
    cells: dict[str, Cell] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def places(self, names: Sequence[str], where: str) -> list[_Target]:
        """The tasks called `dataset` or `dataset/task`; one that is listed twice is an error."""
        found: dict[str, _Target] = {}
        for text in names:
            name, _, wanted = text.partition("/")
            dataset = open_dataset(self.data_root / name)
            task = dataset.task(wanted or None)
            place = _Target(name, dataset.manifest.digest, task)
            if place.title in found:
                self.errors.append(f"{place.title} is listed twice in {where}; remove one")
            dataset.reader  # noqa: B018  # a missing or cut shard is found before any gang starts
            found[place.title] = place
        return list(found.values())

    def add(
        self, entry: MethodEntry, place: _Target, origin: _Target | None = None, whole: bool = False
    ) -> None:
        """The cells of one method on one task.

        origin: where it is learned instead; whole: on all of it, at shots 0.
        """
        kind, name = registered_method(entry.name), entry.label or entry.name
        recipe = entry.recipe(self.study.training)
        reason = _unfit(entry, place, origin, recipe is not None)
        if reason is not None:
            self.left_out.append(f"{name} on {place.title}: {reason}")
            return
        try:
            weights = kind.weights_digest(kind.Config.model_validate(entry.config))
        except ValueError as error:
            self.errors.append(f"{name} on {place.title}: {error}")
            return
        draws = [(0, 0)]
        if recipe is not None:
            shots = [0] if whole else [n for n in self.study.shots if n > 0]
            draws = [(n, s) for n in shots for s in self.study.seeds]
        drawn = [
            Cell(
                method=entry.name,
                config=entry.options(),
                training=recipe,
                sources={
                    "method": keys.source_digest(kind.__module__),
                    "engine": keys.engine_digest(),
                    **({} if weights is None else {"weights": weights}),
                },
                dataset=place.dataset,
                dataset_digest=place.digest,
                task=place.task.name,
                protocol=place.task.protocol,
                trained_on=None if origin is None else origin.origin(whole),
                backbone_digest=self.backbone.digest,
                shots=shots,
                seed=seed,
                kind=place.task.kind,
                study=self.study.name,
                variant=entry.label,
                backbone=self.study.backbone,
                data_root=str(self.data_root.resolve()),
                cache=str(self.cache.resolve()),
                zero_stage=self.study.run.zero_stage,
            )
            for shots, seed in draws
        ]
        if not drawn:
            return
        try:
            built = build_method(drawn[0], self.backbone, place.task)
            if origin is not None:
                learned = build_method(drawn[0], self.backbone, origin.task)
                if _shapes(learned) != _shapes(built):
                    raise ValueError(f"what it learns on {origin.title} has another shape here")
        except ValueError as error:
            self.errors.append(f"{name} on {place.title}: {error}")
        twin = self.cells.get(drawn[0].key)
        if twin is not None and (twin.variant or twin.method) != name:
            self.errors.append(
                f"{name} and {twin.variant or twin.method} are the same on {place.title}: options "
                "and training are equal; remove one"
            )
        self.cells |= {cell.key: cell for cell in drawn}


def plan(study: Study, data_root: Place, cache: Path) -> Plan:
    """Expand a checked study into cells.

    A training-free method gives one cell per dataset (shots 0, seed 0), one that trains a cell per
    shots and seed; with `evaluate_on` one more for each of those and each target, with `source`
    one for each seed at shots 0 on every one of them. Loads the backbone once, for its digest, and
    builds each method once on each task.

    Raises:
        StudyError: methods that cannot be built on their task with these options, all in one list.
    """
    grid = _Grid(study, load_backbone(study.backbone), data_root, cache)
    own = grid.places(study.datasets, "datasets")
    targets = grid.places(study.evaluate_on, "evaluate_on")
    source = grid.places([study.source], "source")[0] if study.source is not None else None
    for place in own:
        for entry in study.methods:
            grid.add(entry, place)
            if source is not None and entry.recipe(study.training) is not None:
                grid.add(entry, place, source, whole=True)
    for place in targets:
        for entry in study.methods:
            if entry.recipe(study.training) is None:
                grid.add(entry, place)
                continue
            if source is not None:
                grid.add(entry, place, source, whole=True)
            for origin in own:
                if origin.title != place.title:
                    grid.add(entry, place, origin)
    if not grid.cells:
        grid.errors.append(
            "no method of the study fits any of its datasets: " + "; ".join(grid.left_out)
        )
    if grid.errors:
        raise StudyError(f"study {study.name}", grid.errors)
    return Plan(list(grid.cells.values()), list(dict.fromkeys(grid.left_out)))


def _shapes(method: Method) -> dict[str, Size]:
    return {name: value.shape for name, value in method.learned().items()}


def _unfit(entry: MethodEntry, place: _Target, origin: _Target | None, trains: bool) -> str | None:
    """Why a method cannot learn on `origin` (or the task itself) and be scored on `place`."""
    kind = registered_method(entry.name)
    config = kind.Config.model_validate(entry.config)
    home = origin or place
    if trains and home.task.train is None:
        return f"{home.title} has no training split"
    for task in (home.task, place.task):
        reason = kind.unfit(config, task.kind)
        if reason is not None:
            return f"{entry.name} {reason}"
    known = home.task.class_names
    for part in place.task.evaluate:
        names = tuple(c.text or "" for c in part.candidates)
        if known and place.task.kind == "classification" and names != known:
            reason = kind.unfit_classes(config)
            if reason is not None:
                return f"{entry.name} {reason} (part {part.name})"
    return None
