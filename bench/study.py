"""The study file: YAML, validated strictly, every error in one list before anything starts.

name: my-study
backbone: openmoji-vit                # or {model: ViT-B-16-quickgelu, pretrained: openai}
datasets: [openmoji-roles, openmoji-roles/image-text, openmoji-composed]
methods:
  - zero-shot
  - coop
  - {name: coop, label: coop-csc, config: {class_specific: true}}
shots: [1, 2, 4, 8]
seeds: [1, 2, 3]
training: {epochs: 20}                # over every method's own recipe
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    field_validator,
    model_validator,
)

from bench import fields
from data_recipes.core.dataset import open_dataset
from data_recipes.core.manifest import MANIFEST
from data_recipes.core.model import DataError
from data_recipes.core.registry import recipes
from data_recipes.core.remote import Place
from methods.core.backbone import DEFAULT, BackboneSpec
from methods.core.config import Training
from methods.core.registry import UnknownMethodError, registered
from methods.core.registry import method as registered_method

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class StudyError(ValueError):
    """A study file is wrong; `errors` holds one line for each thing to mend."""

    def __init__(self, path: Path | str, errors: list[str]) -> None:
        self.errors = errors
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        super().__init__(f"{path}: {count}\n" + "\n".join(f"  - {line}" for line in errors))


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class MethodEntry(_Strict):
    """One method of a study, perhaps with options. label: its name in tables (default: name)."""

    name: str = fields.identity()
    label: str | None = fields.runtime(default=None)
    config: dict[str, Any] = fields.identity(default_factory=dict)
    training: dict[str, Any] = fields.identity(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            registered_method(name)
        except UnknownMethodError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("label")
    @classmethod
    def _plain(cls, label: str | None) -> str | None:
        if label is not None and not _NAME.fullmatch(label):
            raise ValueError("use letters, digits, '.', '_' and '-'")
        return label

    def options(self) -> dict[str, Any]:
        """The validated options with all defaults. Raises pydantic's ValidationError."""
        return registered_method(self.name).Config.model_validate(self.config).model_dump()

    def recipe(self, overrides: dict[str, Any]) -> Training | None:
        """The method's recipe with the study's and this entry's changes; None: trains nothing."""
        kind = registered_method(self.name)
        if not kind.trains:
            return None
        own = kind.recipe.model_dump()
        return Training.model_validate({**own, **overrides, **self.training})


class RunOptions(_Strict):
    """How cells are spread over the machine; nothing here changes a number beyond rounding.

    gangs: groups of ranks that work side by side; None: as many as the machine has room for.
    ranks_per_cell: DeepSpeed ranks that share one cell. threads_per_rank: CPU threads of each.
    gpu: None takes GPUs where there are any. zero_stage: DeepSpeed ZeRO stage.
    """

    gangs: int | None = fields.runtime(default=None, gt=0)
    ranks_per_cell: int = fields.runtime(default=1, gt=0)
    threads_per_rank: int = fields.runtime(default=1, gt=0)
    gpu: bool | None = fields.runtime(default=None)
    zero_stage: int = fields.runtime(default=0, ge=0, le=3)


def _backbone_from_text(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


def _entries_from_text(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{"name": entry} if isinstance(entry, str) else entry for entry in value]


class Study(_Strict):
    """A grid of cells: methods x datasets x shots x seeds over one frozen backbone."""

    name: str = fields.runtime()
    backbone: Annotated[BackboneSpec, BeforeValidator(_backbone_from_text)] = fields.identity(
        default=BackboneSpec(model=DEFAULT)
    )
    datasets: list[str] = fields.identity(min_length=1)
    methods: Annotated[list[MethodEntry], BeforeValidator(_entries_from_text)] = fields.identity(
        min_length=1
    )
    shots: list[int] = fields.identity(min_length=1)
    seeds: list[int] = fields.identity(min_length=1)
    training: dict[str, Any] = fields.identity(default_factory=dict)
    run: RunOptions = fields.runtime(default=RunOptions())

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("use letters, digits, '.', '_' and '-' (it names a folder)")
        return name

    @field_validator("datasets", "shots", "seeds")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        repeated = sorted({v for v in values if values.count(v) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]!r} is listed more than once")
        return values

    @field_validator("shots")
    @classmethod
    def _positive(cls, shots: list[int]) -> list[int]:
        if min(shots) < 1:
            raise ValueError(
                "shots start at 1 (training-free methods run once, without being listed)"
            )
        return shots

    @field_validator("seeds")
    @classmethod
    def _seedable(cls, seeds: list[int]) -> list[int]:
        if min(seeds) < 0:
            raise ValueError("seeds must not be negative")
        return seeds

    @model_validator(mode="after")
    def _labels_differ(self) -> Study:
        labels = [entry.label or entry.name for entry in self.methods]
        repeated = sorted({v for v in labels if labels.count(v) > 1})
        if repeated:
            raise ValueError(f"two methods are called {repeated[0]!r}; give one of them a label")
        return self


def load_study(path: Path, data_root: Place) -> Study:
    """Read and check a study file, its methods' options, recipes and datasets.

    Raises:
        StudyError: with every error found, each with the way out.
    """
    raw = _read_yaml(path)
    errors: list[str] = []
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        errors += [_line(detail, Study) for detail in error.errors()]
    errors += _option_errors(raw) + _dataset_errors(raw, data_root)
    if errors:
        raise StudyError(path, errors)
    return study


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise StudyError(path, ["no such file; the README shows an example of a study"]) from None
    except OSError as error:
        raise StudyError(path, [error.strerror or str(error)]) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or the 13th month
        raise StudyError(path, [" ".join(str(error).split())]) from None
    if not isinstance(raw, dict):
        raise StudyError(path, [f"a study is a mapping of keys to values, not {_kind(raw)}"])
    return raw


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML keeps the last one silently)."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            continue  # construct_mapping refuses it
        name = key_node.value
        if name in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {name!r} is given twice", key_node.start_mark
            )
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def _option_errors(raw: dict[str, Any]) -> list[str]:
    """Errors in options and recipes of the entries whose method is known."""
    found: list[str] = []
    overrides = raw.get("training")
    overrides = overrides if isinstance(overrides, dict) else {}
    entries = _entries_from_text(raw.get("methods"))
    if overrides:
        found += _errors_of(Training, {**Training().model_dump(), **overrides}, "training")
    common = {} if found else overrides  # what is wrong there is not said again for each method
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in registered():
            continue
        kind = registered()[name]
        where = f"methods.{number} ({name})"
        if isinstance(entry.get("config", {}), dict):
            found += _errors_of(kind.Config, entry.get("config", {}), f"{where}.config")
        own = entry.get("training")
        if isinstance(own, dict):
            if not kind.trains:
                found.append(f"{where}.training: this method trains nothing; remove it")
            else:
                merged = {**kind.recipe.model_dump(), **common, **own}
                found += _errors_of(Training, merged, f"{where}.training")
    return found


def _errors_of(model: type[BaseModel], value: dict[str, Any], where: str) -> list[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [_line(detail, model, where) for detail in error.errors()]
    return []


def _dataset_errors(raw: dict[str, Any], data_root: Place) -> list[str]:
    names = raw.get("datasets")
    found = []
    for number, text in enumerate(names if isinstance(names, list) else []):
        if not isinstance(text, str):
            continue
        name, _, task = text.partition("/")
        where = f"datasets.{number}"
        if isinstance(data_root, Path) and not (data_root / name / MANIFEST).is_file():
            known = {*recipes(), *(p.parent.name for p in data_root.glob(f"*/{MANIFEST}"))}
            if name in recipes():
                found.append(
                    f"{where}: dataset {name!r} is not built in {data_root}; run "
                    f"`promptgrid data build {name} --out {data_root}`"
                )
            else:
                found.append(f"{where}: unknown dataset {name!r}{_suggest(name, list(known))}")
            continue
        try:
            open_dataset(data_root / name).manifest.task(task or None)
        except DataError as error:
            found.append(f"{where}: {error}")
    return found


def _line(detail: Any, model: type[BaseModel], prefix: str = "") -> str:
    """One line for one pydantic error."""
    location = [str(part) for part in detail["loc"]]
    where = ".".join([p for p in [prefix, *location] if p]) or "study"
    kind, value = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return f"{where}: unknown key{_suggest(location[-1], _siblings(model, location))}"
    if kind == "missing":
        return f"{where}: required, but not given"
    if kind == "value_error":
        return f"{where}: {detail['ctx']['error']}"
    if kind in ("literal_error", "enum"):
        expected = detail["ctx"]["expected"]
        words = re.findall(r"'([^']*)'", expected)
        return f"{where}: must be one of {expected}, not {value!r}{_suggest(str(value), words)}"
    if kind.endswith(("_type", "_parsing")):
        return f"{where}: {_lower(detail['msg'])}, got {_kind(value)} {value!r}{_yaml_hint(value)}"
    return f"{where}: {_lower(detail['msg'])}, got {value!r}"


def _siblings(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names that could stand where an unknown key was found."""
    kind: Any = {"methods": MethodEntry, "run": RunOptions, "backbone": BackboneSpec}.get(
        location[0] if len(location) > 1 else "", model
    )
    return list(kind.model_fields)


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f". Did you mean: {near[0]}?"
    return f". Known: {', '.join(sorted(known))}." if known else ""


def _kind(value: Any) -> str:
    names = {str: "text", int: "a number", float: "a number", bool: "true/false"}
    names |= {list: "a list", dict: "a mapping", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)


def _yaml_hint(value: Any) -> str:
    """YAML 1.1's two surprises."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        base, _, exponent = value.lower().partition("e")
        sign = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f"; YAML reads {value} as text, write {base if '.' in base else base + '.0'}e{sign}"
    if isinstance(value, bool):
        return "; YAML reads yes, no, on and off as true and false: quote a word"
    return ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
