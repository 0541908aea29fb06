"""What is wrong in a study file beyond its own form: options, recipes, datasets, descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.method_entry import MethodEntry, ablations, changed
from bench.study_file import line, suggest
from bench.vary import RECIPE, combinations, words
from data_recipes.core.dataset import open_dataset
from data_recipes.core.descriptions import read_descriptions
from data_recipes.core.manifest import MANIFEST
from data_recipes.core.model import DataError
from data_recipes.core.registry import recipes
from data_recipes.core.remote import Place
from methods.core.config import Training
from methods.core.contract import Method
from methods.core.registry import registered


def entries(value: Any) -> Any:
    """A study's list of methods, in which a name alone stands for an entry without options."""
    if not isinstance(value, list):
        return value
    return [{"name": entry} if isinstance(entry, str) else entry for entry in value]


def option_errors(raw: dict[str, Any]) -> list[str]:
    """Errors in options and recipes of the entries whose method is known."""
    found: list[str] = []
    overrides = raw.get("training")
    overrides = overrides if isinstance(overrides, dict) else {}
    listed = entries(raw.get("methods"))
    if overrides:
        found += _errors_of(Training, {**Training().model_dump(), **overrides}, "training")
    common = {} if found else overrides  # what is wrong there is not said again for each method
    for number, entry in enumerate(listed if isinstance(listed, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in registered():
            continue
        kind = registered()[name]
        where, before = f"methods.{number} ({name})", len(found)
        config, learns = entry.get("config", {}), kind.trains
        if isinstance(config, dict):
            wrong = _errors_of(kind.Config, config, f"{where}.config")
            found += wrong
            learns = learns if wrong else kind.learns(kind.Config.model_validate(config))
        own = entry.get("training")
        if isinstance(own, dict):
            if not learns:
                but = "" if kind.stage is None else " but its stage (`stage_training:`)"
                found.append(f"{where}.training: this method trains nothing{but}; remove it")
            else:
                merged = {**kind.recipe.model_dump(), **common, **own}
                found += _errors_of(Training, merged, f"{where}.training")
        own = entry.get("stage_training")
        if isinstance(own, dict):
            if kind.stage is None:
                found.append(f"{where}.stage_training: this method has no stage; remove it")
            else:
                merged = {**kind.stage.model_dump(), **own}
                found += _errors_of(Training, merged, f"{where}.stage_training")
        if len(found) == before and isinstance(config, dict):
            found += vary_errors(entry, kind, common, where)
    return found


def vary_errors(
    entry: dict[str, Any], kind: type[Method], overrides: dict[str, Any], where: str
) -> list[str]:
    """Errors in the ablations of an entry whose options are sound; each value's once.

    overrides: the study's changes to all recipes.
    """
    if entry.get("vary") is None:
        return []
    base = {key: entry.get(key, {}) for key in ("name", "config", "training", "vary")}
    try:
        checked = MethodEntry.model_validate(base)
    except ValidationError:
        return []  # said where the study's form is checked
    vary = checked.vary
    assert vary is not None
    recipe = {**kind.recipe.model_dump(), **overrides, **checked.training}
    if kind.learns(checked.checked()) and (wrong := _errors_of(Training, recipe, where)):
        return wrong
    where = f"{where}.vary"
    known = [*kind.Config.model_fields, *(RECIPE + name for name in Training.model_fields)]
    found = [
        f"{where}.{place}: unknown option{suggest(name, known)}"
        for name, place in vary.options.items()
        if name not in known
    ]
    for options in [] if found else combinations(vary):
        one, this = changed(checked, options), f"{where}[{words(options)}]"
        wrong = _errors_of(kind.Config, one.config, where, this)
        if not wrong and any(name.startswith(RECIPE) for name in options):
            merged = {**recipe, **one.training}
            if kind.learns(one.checked()):
                wrong = _errors_of(Training, merged, f"{where}.training", this)
            else:
                wrong = [f"{this}: this method trains nothing; leave its recipe out"]
        found += [error for error in wrong if error not in found]
    if not found and not ablations(checked, overrides):
        found.append(
            f"{where}: names no combination of options other than the method's own; give some "
            "under grid, each or cases"
        )
    return found


def _errors_of(
    model: type[BaseModel], value: dict[str, Any], where: str, together: str | None = None
) -> list[str]:
    """together: stands for `where` in errors of several fields together."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [
            line(detail, model, where if detail["loc"] else together or where)
            for detail in error.errors()
        ]
    return []


def dataset_errors(raw: dict[str, Any], data_root: Place, built: bool = True) -> list[str]:
    """Datasets that are named anywhere and are not built, or lack the task.

    built: False where the recipe of a dataset will do, which is asked for the task.
    """
    named: list[tuple[str, Any]] = []
    for key in ("datasets", "evaluate_on"):
        texts = raw.get(key)
        named += [
            (f"{key}.{n}", text) for n, text in enumerate(texts if isinstance(texts, list) else [])
        ]
    named.append(("source", raw.get("source")))
    return [
        error
        for where, text in named
        if isinstance(text, str) and (error := _dataset_error(where, text, data_root, built))
    ]


def is_built(name: str, data_root: Place) -> bool:
    """Whether a dataset's manifest is there; a remote one is taken to be."""
    return not isinstance(data_root, Path) or (data_root / name / MANIFEST).is_file()


def build_command(name: str, data_root: Place) -> str:
    """The command that builds a dataset of a known recipe."""
    folders = "".join(f"--{which} DIR " for which in recipes()[name].inputs)
    return f"promptgrid data build {name} {folders}--out {data_root}"


def _dataset_error(where: str, text: str, data_root: Place, built: bool) -> str | None:
    name, _, task = text.partition("/")
    if isinstance(data_root, Path) and not is_built(name, data_root):
        if name not in recipes():
            there = {path.parent.name for path in data_root.glob(f"*/{MANIFEST}")}
            return f"{where}: unknown dataset {name!r}{suggest(name, [*recipes(), *there])}"
        if built:
            return (
                f"{where}: dataset {name!r} is not built in {data_root}; run "
                f"`{build_command(name, data_root)}`"
            )
        tasks = [known.name for known in recipes()[name].outline()]
        if task and tasks and task not in tasks:
            return f"{where}: dataset {name!r} has no task {task!r}; it has: {', '.join(tasks)}"
        return None
    try:
        open_dataset(data_root / name).manifest.task(task or None)
    except DataError as error:
        return f"{where}: {error}"
    return None


def description_errors(raw: dict[str, Any], folder: Path) -> list[str]:
    """Descriptions of what the study does not learn on, and files that cannot be read.

    folder: of the study file.
    """
    given, named = raw.get("descriptions"), raw.get("datasets")
    if not isinstance(given, dict):
        return []
    known = [*(named if isinstance(named, list) else []), raw.get("source")]
    names = list(dict.fromkeys(t.partition("/")[0] for t in known if isinstance(t, str)))
    found = []
    for name, text in given.items():
        where = f"descriptions.{name}"
        if name not in names:
            near = suggest(str(name), names)
            found.append(f"{where}: not among the study's datasets, nor its source{near}")
        if isinstance(text, str):
            try:
                read_descriptions(described_file(text, folder))
            except (DataError, OSError) as error:
                found.append(f"{where}: {error}")
    return found


def described_file(text: str, folder: Path) -> Path:
    """A file of descriptions: beside the study file in `folder`, else from the working folder.

    Raises:
        DataError: in neither.
    """
    for path in (folder / text, Path(text)):
        if path.is_file():
            return path.resolve()
    raise DataError(f"{text}: no such file, neither in {folder} nor in the working folder")
