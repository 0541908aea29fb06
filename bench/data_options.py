"""From the flags of `data build` to a recipe with its options, all errors collected."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders, Input, Recipe
from data_recipes.core.registry import recipe
from data_recipes.core.synthesised import synthesised


@dataclass(frozen=True)
class BuildFlags:
    """The flags as given; None or empty: not given. settings: texts "key=value".

    synthesise: draw pictures instead of reading images.
    """

    annotations: Path | None = None
    images: Path | None = None
    image_size: int | None = None
    pad: str | None = None
    splits: Sequence[str] = ()
    settings: Sequence[str] = ()
    synthesise: bool = False


def configured(name: str, flags: BuildFlags) -> Recipe:
    """The recipe of the dataset `name`, with the options and folders of `flags`.

    Raises:
        DataError: with all errors: unknown or wrong options, folders not named, absent or not used.
    """
    kind = synthesised(recipe(name)) if flags.synthesise else recipe(name)
    values, errors = _values(kind, flags)
    errors += _folder_errors(kind, flags)
    try:
        # JSON, so that a list may stand for a tuple; strict all the same.
        config = kind.Config.model_validate_json(json.dumps({k: v for k, (_, v) in values.items()}))
    except ValidationError as error:
        errors += [_line(detail, values) for detail in error.errors()]
    if errors:
        count = f"{len(errors)} error{'s' if len(errors) > 1 else ''}"
        raise DataError(f"data build {name}: {count}\n  - " + "\n  - ".join(errors))
    return kind(config, Folders(flags.annotations, flags.images))


def _values(kind: type[Recipe], flags: BuildFlags) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """Option -> (flag as shown in messages, value), of the options that the recipe has."""
    given: list[tuple[str, str, Any]] = []
    errors: list[str] = []
    if flags.image_size is not None:
        given.append(("image_size", "--image-size", flags.image_size))
    if flags.pad is not None:
        given.append(("pad", "--pad", flags.pad))
    if flags.splits:
        given.append(("splits", "--split", list(flags.splits)))
    for setting in flags.settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            errors.append(f"--set {setting}: write it as --set key=value")
        else:
            try:
                given.append((key, f"--set {key}", _scalar(text)))
            except ValueError as error:
                errors.append(f"--set {setting}: {error}")
    values: dict[str, tuple[str, Any]] = {}
    for key, flag, value in given:
        if key not in kind.Config.model_fields:
            errors.append(f"{flag}: {kind.name} has no option {key!r}{_suggest(key, kind)}")
        elif key in values:
            errors.append(f"{flag}: {key!r} is given twice, the first time by {values[key][0]}")
        else:
            values[key] = (flag, value)
    return values, errors


def _scalar(text: str) -> str | int | float | bool | None:
    """A YAML scalar; unlike YAML 1.1, 1e-3 is a number. Raises ValueError for anything else."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number is expected")
    if isinstance(value, (list, dict)):
        raise ValueError("a single value is expected; quote text, --set 'key=\"[a]\"'")
    return value if isinstance(value, (str, int, float, type(None))) else text


def _folder_errors(kind: type[Recipe], flags: BuildFlags) -> list[str]:
    errors = []
    which: Input
    for which in get_args(Input):
        path: Path | None = getattr(flags, which)
        if path is None and which in kind.inputs:
            errors.append(
                f"--{which}: required, {kind.name} is made from files of yours; name the folder of "
                f"its {which}"
            )
        elif path is not None and which not in kind.inputs:
            errors.append(f"--{which}: {kind.name} reads no {which} of yours; leave it out")
        elif path is not None and not path.is_dir():
            what = "is a file, name its folder" if path.exists() else "no such folder"
            errors.append(f"--{which} {path}: {what}")
    return errors


def _line(detail: Any, values: dict[str, tuple[str, Any]]) -> str:
    """One line for one pydantic error."""
    flag, value = values.get(str(detail["loc"][0]), (str(detail["loc"][0]), None))
    if detail["type"] == "missing":
        return f"{flag}: required; give it with --set {flag}=VALUE"
    if detail["type"] == "value_error":
        return f"{flag}: {detail['ctx']['error']}"
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    # YAML reads no and off as false, 1 as a number, nothing as null.
    quote = "; quote text: --set 'key=\"no\"'" if detail["type"] == "string_type" else ""
    return f"{flag}: {message}, got {value!r}{quote}"


def _suggest(key: str, kind: type[Recipe]) -> str:
    known = list(kind.Config.model_fields)
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f". Did you mean: {near[0]}?"
    return f". It has: {', '.join(sorted(known))}." if known else "; it has no option at all"
