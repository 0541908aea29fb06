"""What a study would run, where its datasets are not built or its weights are not there.

Keys need both. All else is checked and listed: options and recipes (with the study), tasks as
recipes foresee them, methods against kinds of tasks, the grid of cells, and what to get.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import open_clip
from huggingface_hub import try_to_load_from_cache

from bench.method_entry import MethodEntry, ablations
from bench.study import Study
from bench.study_checks import build_command, is_built
from bench.study_file import StudyError
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import TASK_KINDS
from data_recipes.core.recipe import TaskOutline
from data_recipes.core.registry import recipe
from data_recipes.core.remote import Place
from methods.core.backbone import DEFAULT, BackboneSpec
from methods.core.registry import method as registered_method

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass
class Outline:
    """cells: titles of what would run, in the study's order. left_out: pairs that cannot be.

    missing: what to get or to build, each with the command. unchecked: what only that can tell.
    """

    missing: list[str]
    cells: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Foreseen:
    """A task that a study names. task: None where its recipe cannot tell."""

    named: str
    dataset: str
    task: TaskOutline | None

    @property
    def title(self) -> str:
        """`dataset/task`."""
        name = self.named.partition("/")[2] or "default task"
        return f"{self.dataset}/{name if self.task is None else self.task.name}"


def outline(study: Study, data_root: Place) -> Outline | None:
    """What of a checked study can be said without what is missing; None: nothing is missing.

    Raises:
        StudyError: no method fits any of the study's datasets.
    """
    named = [*study.datasets, *study.evaluate_on, *([study.source] if study.source else [])]
    absent = list(
        dict.fromkeys(name for text in named if not is_built(name := text.split("/")[0], data_root))
    )
    missing = [
        f"dataset {name}: `{build_command(name, data_root)}`{_page(name)}" for name in absent
    ]
    weights = missing_weights(study.backbone)
    missing += [] if weights is None else [weights]
    if not missing:
        return None
    found = Outline(missing)
    _fill(found, study, data_root)
    for name in absent:
        found.unchecked.append(f"{name}: its images and annotations, the shots in each group")
    if weights is not None:
        found.unchecked.append("whether the methods can be built on this backbone")
    if not found.cells:
        raise StudyError(
            f"study {study.name}",
            ["no method of the study fits any of its datasets: " + "; ".join(found.left_out)],
        )
    return found


def outlined(name: str, found: Outline) -> list[str]:
    """The outline as lines for the terminal."""
    return [
        f"study {name}: {len(found.cells)} cells, none of which can run yet (their keys are known "
        "once nothing is missing)",
        *(f"  left out: {line}" for line in found.left_out),
        *(f"  to run   {title}" for title in found.cells),
        *(f"missing: {line}" for line in found.missing),
        *(f"not checked without it: {line}" for line in dict.fromkeys(found.unchecked)),
    ]


def missing_weights(spec: BackboneSpec) -> str | None:
    """How to get the weights of a backbone that are not on this machine; None: they are."""
    if spec.model == DEFAULT or spec.random_seed is not None:
        return None
    if spec.checkpoint is not None:
        there = Path(spec.checkpoint).is_file()
        return None if there else f"weights of {spec.label}: the file {spec.checkpoint}"
    config = open_clip.get_pretrained_cfg(spec.model, spec.pretrained)
    if not config or _cached(config):
        return None  # of an unknown tag open_clip itself says so
    return (
        f"weights of {spec.label}: with a network they are fetched by the run itself, or by "
        f"`python -c \"import open_clip; open_clip.create_model('{spec.model}', "
        f"pretrained='{spec.pretrained}')\"`; without one, give `checkpoint: FILE` in place of "
        "`pretrained:`"
    )


def _cached(config: dict[str, str]) -> bool:
    """Whether open_clip finds these weights without a network, where it keeps them."""
    repository, _, file = config.get("hf_hub", "").rpartition("/")
    names = (file,) if file else _HUB_FILES
    if repository and any(isinstance(try_to_load_from_cache(repository, n), str) for n in names):
        return True
    file = config.get("file", "")
    url = config.get("url", "").rpartition("/")[2]
    kept = Path("~/.cache/clip").expanduser() / url
    return bool(file and Path(file).is_file()) or bool(url and kept.is_file())


def _page(name: str) -> str:
    """Where the files come from, of a dataset that is made from the user's."""
    kind = recipe(name)
    return f" (files: {kind.source})" if kind.inputs else ""


def _foreseen(text: str, data_root: Place) -> Foreseen:
    name, _, wanted = text.partition("/")
    if is_built(name, data_root):
        entry = open_dataset(data_root / name).manifest.task(wanted or None)
        kind = next(k for k in TASK_KINDS if k == entry.kind)
        return Foreseen(text, name, TaskOutline(entry.name, kind, entry.protocol, entry.trains))
    known = recipe(name).outline()
    named = [task for task in known if task.name == wanted or not wanted]
    return Foreseen(text, name, named[0] if named else None)


def _fill(found: Outline, study: Study, data_root: Place) -> None:
    """The cells in the order of `plan`."""
    own = [_foreseen(text, data_root) for text in study.datasets]
    targets = [_foreseen(text, data_root) for text in study.evaluate_on]
    source = None if study.source is None else _foreseen(study.source, data_root)
    listed = [one for entry in study.methods for one in (entry, *ablations(entry, study.training))]

    def home(entry: MethodEntry, place: Foreseen) -> bool:
        return entry.datasets is None or place.named in entry.datasets

    def drawn(entry: MethodEntry, place: Foreseen, origin: Foreseen | None = None) -> None:
        trains = entry.recipe(study.training) is not None
        _add(found, entry, place, origin, [*_drawn(entry, study)] if trains else [""], trains)

    def zero_shots(entry: MethodEntry, place: Foreseen) -> None:
        trains = entry.recipe(study.training) is not None
        if source is None or not trains or 0 not in (entry.shots or study.shots):
            return
        if registered_method(entry.name).stage is not None:
            _add(found, entry, place, source, [""], trains=False)  # the stage has learned
        else:
            seeds = [f", 0 shots, seed {seed}" for seed in study.seeds]
            _add(found, entry, place, source, seeds, trains)

    for place in own:
        for entry in listed:
            if home(entry, place):
                drawn(entry, place)
                zero_shots(entry, place)
    for place in targets:
        for entry in listed:
            if entry.recipe(study.training) is None:
                drawn(entry, place)
                continue
            zero_shots(entry, place)
            for origin in own:
                if origin.title != place.title and home(entry, origin):
                    drawn(entry, place, origin)
    staged = [e.called for e in listed if registered_method(e.name).stage is not None]
    first = [f"{name}, stage on {source.title}" for name in staged if source is not None]
    found.cells[:] = dict.fromkeys([*first, *found.cells])
    found.left_out[:] = dict.fromkeys(found.left_out)


def _drawn(entry: MethodEntry, study: Study) -> Iterator[str]:
    """What the cells of a method that trains differ in."""
    for shots in study.shots if entry.shots is None else entry.shots:
        for draw in study.draws or (None,):
            for seed in study.seeds:
                crossed = "" if draw is None else f", draw {draw}"
                if shots:
                    yield f", {shots} shot{'' if shots == 1 else 's'}{crossed}, seed {seed}"


def _add(
    found: Outline,
    entry: MethodEntry,
    place: Foreseen,
    origin: Foreseen | None,
    lines: Sequence[str],
    trains: bool,
) -> None:
    """The cells of one method on one task, or the reason why it is left out.

    origin: where it is learned instead. lines: what the cells differ in.
    """
    kind, home = registered_method(entry.name), origin or place
    reason = None
    if trains and home.task is not None and not home.task.trains:
        reason = f"{home.title} has no training split"
    for task in (home.task, place.task) if trains else (place.task,):
        if task is None:
            found.unchecked.append(f"whether {entry.called} does the task of {place.title}")
        elif reason is None:
            unfit = kind.unfit(entry.checked(), task.kind)
            reason = None if unfit is None else f"{entry.name} {unfit}"
    if reason is not None:
        found.left_out.append(f"{entry.called} on {place.title}: {reason}")
        return
    came = "" if origin is None else f" from {origin.title}"
    found.cells += [f"{entry.called}{came} on {place.title}{line}" for line in lines]
