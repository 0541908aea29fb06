"""What there is to know of a method, read from its class: for `promptgrid methods`."""

from __future__ import annotations

import inspect
import re
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from data_recipes.core.model import TASK_KINDS
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import Method, TaskInfo
from methods.core.registry import method as registered_method

CLASSES = ("cat", "dog", "horse", "owl")  # of the task that parameters are counted on
TEMPLATES = ("a photo of a {}.",)


def facts(name: str) -> dict[str, Any]:
    """All of a method as JSON values. Raises UnknownMethodError."""
    kind = registered_method(name)
    count, counted_on, reason = trainable(kind)
    stage = kind.stage
    return {
        "method": name,
        "about": f"{_doc(inspect.getmodule(kind))}\n\n{_doc(kind)}".strip(),
        "paper": kind.paper,
        "tasks": sorted(kind.tasks),
        "trains": kind.trains,
        "trainable_parameters": count,
        "counted_on": counted_on,
        "not_counted": reason,
        "touches_vision": kind.touches_vision,
        "pixels": kind.pixels,
        "stage": None if stage is None else {"kind": kind.stage_kind, **stage.model_dump()},
        "inferred": list(kind.inferred),
        "options": options(kind.Config),
        "recipe": kind.recipe.model_dump() if kind.trains else None,
    }


def _doc(of: object) -> str:
    return inspect.cleandoc(of.__doc__ or "")


def trainable(kind: type[Method]) -> tuple[int | None, str | None, str | None]:
    """Number of trainable parameters over the embedded backbone, the task, or why there is none.

    The method is built with its default options for the first kind of task that it does, with
    `CLASSES` where it classifies; one that trains nothing is not built, for it may fetch gigabytes.
    """
    if not kind.trains:
        return 0, None, None
    tasks = [task for task in TASK_KINDS if task in kind.tasks]
    try:
        config = kind.Config()
        task = next(task for task in tasks if kind.unfit(config, task) is None)
        classes = task == "classification"
        info = TaskInfo(task, CLASSES if classes else (), TEMPLATES if classes else ())
        method = kind(config, _backbone(), info)
    except (ValueError, ImportError, OSError, StopIteration) as error:
        lines = str(error).strip().splitlines() or ["no kind of task fits its default options"]
        return None, None, " ".join(lines)
    return sum(p.numel() for p in method.parameters() if p.requires_grad), task, None


@cache
def _backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def options(config: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, type, default and description of each option.

    Descriptions are read from the docstring, where options stand as `name: text` or
    `name, other: text`; None where there is none.
    """
    said = descriptions(config)
    return [
        {
            "option": name,
            "type": type_name(field.annotation),
            "default": None
            if field.is_required()
            else field.get_default(call_default_factory=True),
            "required": field.is_required(),
            "about": said.get(name),
        }
        for name, field in config.model_fields.items()
    ]


def descriptions(config: type[BaseModel]) -> dict[str, str]:
    """Option -> what the docstring says of it; of one without an entry, the entry that names it."""
    if not config.model_fields:
        return {}
    text = " ".join((config.__doc__ or "").split())
    name = "(?:" + "|".join(map(re.escape, config.model_fields)) + ")"
    entries = [*re.finditer(rf"(?<![\w.])({name}(?:, {name})*): ", text)]
    ends = [*(entry.start() for entry in entries), len(text)][1:]
    found = {
        one: text[entry.end() : end].strip()
        for entry, end in zip(entries, ends, strict=True)
        for one in entry.group(1).split(", ")
    }
    told = list(found.values())
    for one in config.model_fields.keys() - found.keys():
        named = [said for said in told if re.search(rf"\b{re.escape(one)}\b", said)]
        if named:
            found[one] = named[0]
    return found


def type_name(annotation: Any) -> str:
    """A type as a user would write it: "int", "end | middle | front", "str | None"."""
    if annotation is type(None):
        return "None"
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(type_name, get_args(annotation)))
    return inspect.formatannotation(annotation)
