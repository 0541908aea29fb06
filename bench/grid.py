"""The cells of a study's methods on its tasks, one pair at a time, and what stands against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Size

from bench import keys
from bench.cell_spec import Cell, TrainedOn
from bench.described import Described, descriptions_of, undescribed
from bench.learned import build_method
from bench.method_entry import Ablation, MethodEntry
from bench.study import Study
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import Task
from data_recipes.core.remote import Place
from methods.core.backbone import Backbone
from methods.core.config import Training
from methods.core.contract import Method
from methods.core.registry import method as registered_method


@dataclass(frozen=True)
class Target:
    """One task of one built dataset. named: as the study names it."""

    named: str
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


class Drawn(NamedTuple):
    """What the cells of one method on one task differ in; see `Cell`."""

    shots: int = 0
    seed: int = 0
    draw: int | None = None


@dataclass
class Grid:
    """Collects the cells, and everything that cannot be."""

    study: Study
    backbone: Backbone
    data_root: Place
    cache: Path
    source: Target | None = None
    cells: dict[str, Cell] = field(default_factory=dict)
    stages: dict[str, Cell] = field(default_factory=dict)
    stage_shapes: dict[str, dict[str, Size]] = field(default_factory=dict)
    descriptions: dict[str, Described | None] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def places(self, names: Sequence[str], where: str) -> list[Target]:
        """The tasks called `dataset` or `dataset/task`; one that is listed twice is an error."""
        found: dict[str, Target] = {}
        for text in names:
            name, _, wanted = text.partition("/")
            dataset = open_dataset(self.data_root / name)
            task = dataset.task(wanted or None)
            place = Target(text, name, dataset.manifest.digest, task)
            if place.title in found:
                self.errors.append(f"{place.title} is listed twice in {where}; remove one")
            dataset.reader  # noqa: B018  # a missing or cut shard is found before any gang starts
            found[place.title] = place
        return list(found.values())

    def add(self, entry: MethodEntry, place: Target, origin: Target | None = None) -> None:
        """One method on one task, a cell for each shots and seed; one if it trains nothing.

        origin: where it is learned instead.
        """
        recipe = entry.recipe(self.study.training)
        draws = [Drawn()]
        if recipe is not None:
            draws = [
                Drawn(shots, seed, draw)
                for shots in self._shots(entry)
                if shots > 0
                for draw in self.study.draws or (None,)
                for seed in self.study.seeds
            ]
        self._add(entry, place, recipe, draws, origin)

    def add_zero_shots(self, entry: MethodEntry, place: Target) -> None:
        """A method that trains, on a task that it never learns on: on all of the source instead.

        For a method with a stage that is its stage, once; else a cell for each seed.
        """
        recipe = entry.recipe(self.study.training)
        if 0 not in self._shots(entry) or recipe is None:
            return
        if registered_method(entry.name).stage is not None:
            self._add(entry, place, None, [Drawn()])
        else:
            draws = [Drawn(seed=seed) for seed in self.study.seeds]
            self._add(entry, place, recipe, draws, self.source, whole=True)

    def _add(
        self,
        entry: MethodEntry,
        place: Target,
        training: Training | None,
        draws: Sequence[Drawn],
        origin: Target | None = None,
        whole: bool = False,
    ) -> None:
        name, home = entry.called, origin or place
        if not draws:
            return
        reason = _unfit(entry, place, origin, training is not None)
        if reason is not None:
            base = entry.ablation_of if isinstance(entry, Ablation) else name
            if f"{base} on {place.title}: {reason}" not in self.left_out:  # else said of its base
                self.left_out.append(f"{name} on {place.title}: {reason}")
            return
        after = None
        if registered_method(entry.name).stage is not None:
            after = self._stage(entry)
            if after is None:
                return
        described = self._described(entry, home) if training is not None else None
        on = None if origin is None else origin.origin(whole)
        try:
            drawn = [
                self._cell(entry, place, training, draw, on, described, after=after)
                for draw in draws
            ]
        except ValueError as error:  # weights of the method's own that cannot be read
            self._say(f"{name}: {error}")
            return
        try:
            built = _shapes(build_method(drawn[0], self.backbone, place.task))
            if origin is not None:
                learned = _shapes(build_method(drawn[0], self.backbone, origin.task))
                if learned != built:
                    raise ValueError(f"what it learns on {origin.title} has another shape here")
            if after is not None and self.stage_shapes[after.key] != built:
                raise ValueError(f"what its stage learns ({after.title}) has another shape here")
        except ValueError as error:
            self.errors.append(f"{name} on {place.title}: {error}")
        twin = next((self.cells[c.key] for c in drawn if c.key in self.cells), None)
        other = None if twin is None else twin.variant or twin.method
        # What two trainings go on from is one result: it keeps the name of the first.
        shared = training is None and entry.recipe(self.study.training) is not None
        if other not in (None, name) and not (shared and max(self.study.shots) > 0):
            self.errors.append(
                f"{name} and {other} are the same on {place.title}: options and training are "
                "equal; remove one"
            )
        for cell in drawn:
            self.cells.setdefault(cell.key, cell)

    def _stage(self, entry: MethodEntry) -> Cell | None:
        """The cell of a method's stage, planned when first asked for; None: an error was noted."""
        name, place = entry.called, self.source
        assert place is not None, "a study with stages has a source"
        recipe = entry.stage_recipe()
        reason = _unfit_stage(entry, place)
        if reason is not None:
            self._say(f"{name}: {reason}")
            return None
        described = self._described(entry, place)
        on = place.origin(whole=True)
        try:
            cell = self._cell(entry, place, recipe, Drawn(), on, described, stage=True)
        except ValueError as error:
            self._say(f"{name}: {error}")
            return None
        if cell.key not in self.stages:
            try:
                method = build_method(cell, self.backbone, place.task)
            except ValueError as error:
                self._say(f"{cell.title}: {error}")
                return None
            self.stages[cell.key] = cell
            self.stage_shapes[cell.key] = _shapes(method)
        return self.stages[cell.key]

    def _described(self, entry: MethodEntry, home: Target) -> Described | None:
        """The descriptions that a method reads when it learns on `home`; None: it reads none."""
        kind = registered_method(entry.name)
        if not kind.describes(kind.Config.model_validate(entry.config), home.task.kind):
            return None
        where = f"{entry.called} on {home.title}"
        give = f"give them with `descriptions: {{{home.dataset}: FILE}}`"
        if home.dataset not in self.descriptions:
            dataset = open_dataset(self.data_root / home.dataset)
            file = self.study.descriptions.get(home.dataset)
            self.descriptions[home.dataset] = descriptions_of(dataset, file)
        found = self.descriptions[home.dataset]
        if found is None:
            self._say(f"{where}: it learns from descriptions, {home.dataset} has none; {give}")
            return None
        lacking = undescribed(home.task, found.texts)
        if lacking:
            source = found.file or f"the dataset {home.dataset}"
            self._say(
                f"{where}: {source} has no description of {lacking[0]!r} ({len(lacking)} of those "
                f"that training meets lack one); {give}"
            )
        return found

    def _shots(self, entry: MethodEntry) -> list[int]:
        return self.study.shots if entry.shots is None else entry.shots

    def _say(self, error: str) -> None:
        """Note an error once, however many cells run into it."""
        if error not in self.errors:
            self.errors.append(error)

    def _cell(
        self,
        entry: MethodEntry,
        place: Target,
        training: Training | None,
        drawn: Drawn,
        trained_on: TrainedOn | None,
        described: Described | None,
        after: Cell | None = None,
        stage: bool = False,
    ) -> Cell:
        kind = registered_method(entry.name)
        weights = kind.weights_digest(entry.checked())
        selection = entry.selection or self.study.selection
        return Cell(
            method=entry.name,
            config=entry.options(),
            training=training,
            sources={
                "method": keys.source_digest(kind.__module__),
                "engine": keys.engine_digest(),
                **({} if weights is None else {"weights": weights}),
            },
            dataset=place.dataset,
            dataset_digest=place.digest,
            task=place.task.name,
            protocol=place.task.protocol,
            trained_on=trained_on,
            stage=stage,
            after=after,
            descriptions=described.sha256 if described else None,
            descriptions_file=described.file if described else None,
            backbone_digest=self.backbone.digest,
            few_shot=self.study.few_shot if drawn.shots else "nested",
            shots=drawn.shots,
            seed=drawn.seed,
            draw=drawn.draw,
            kind=place.task.kind,
            study=self.study.name,
            variant=entry.label,
            backbone=self.study.backbone,
            data_root=str(self.data_root.resolve()),
            cache=str(self.cache.resolve()),
            zero_stage=self.study.run.zero_stage,
            compile=self.study.run.compile,
            selection=selection.rule,
            selection_split=selection.split,
            ablation_of=entry.ablation_of if isinstance(entry, Ablation) else None,
            varied=entry.varied if isinstance(entry, Ablation) else {},
        )


def _shapes(method: Method) -> dict[str, Size]:
    return {name: value.shape for name, value in method.learned().items()}


def _unfit(entry: MethodEntry, place: Target, origin: Target | None, trains: bool) -> str | None:
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


def _unfit_stage(entry: MethodEntry, source: Target) -> str | None:
    """Why a method's stage cannot learn on the source."""
    kind = registered_method(entry.name)
    task = source.task
    if task.kind != kind.stage_kind:
        return (
            f"its stage learns on {kind.stage_kind} data, and the source {source.title} is "
            f"{task.kind}; name another task or dataset with `source:`"
        )
    if task.train is None:
        return (
            f"its stage has nothing to learn on: the source {source.title} has no training split; "
            "name another task or dataset with `source:`"
        )
    reason = kind.unfit(kind.Config.model_validate(entry.config), task.kind)
    return None if reason is None else f"its stage on {source.title}: {entry.name} {reason}"
