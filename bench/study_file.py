"""Reading a study's YAML and saying what is wrong with it: one line for each error."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel


class StudyError(ValueError):
    """A study file is wrong; `errors` holds one line for each thing to mend."""

    def __init__(self, path: Path | str, errors: list[str]) -> None:
        self.errors = errors
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        super().__init__(f"{path}: {count}\n" + "\n".join(f"  - {line}" for line in errors))


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's mapping. Raises StudyError: no such file, not YAML, or a key given twice."""
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


def study_datasets(path: Path) -> list[str]:
    """Names of the datasets that a study file names, without their tasks, each once."""
    raw = read_yaml(path)
    named = [*raw.get("datasets", ()), *raw.get("evaluate_on", ()), raw.get("source")]
    return list(dict.fromkeys(text.partition("/")[0] for text in named if text))


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


def line(
    detail: Any,
    model: type[BaseModel],
    prefix: str = "",
    nested: Mapping[str, type[BaseModel]] | None = None,
) -> str:
    """One line for one pydantic error.

    nested: key -> the model below it, whose fields an unknown key is compared with.
    """
    location = [str(part) for part in detail["loc"]]
    where = ".".join([p for p in [prefix, *location] if p]) or "study"
    kind, value = detail["type"], detail.get("input")
    below = [nested[part] for part in location[:-1] if part in nested] if nested else []
    kind_of = below[-1] if below else model
    if kind == "extra_forbidden":
        return f"{where}: unknown key{suggest(location[-1], list(kind_of.model_fields))}"
    if kind == "missing":
        return f"{where}: required, but not given"
    if kind == "value_error":
        return f"{where}: {detail['ctx']['error']}"
    if kind in ("literal_error", "enum"):
        expected = detail["ctx"]["expected"]
        words = re.findall(r"'([^']*)'", expected)
        return f"{where}: must be one of {expected}, not {value!r}{suggest(str(value), words)}"
    if kind.endswith(("_type", "_parsing")):
        return f"{where}: {_lower(detail['msg'])}, got {_kind(value)} {value!r}{_yaml_hint(value)}"
    return f"{where}: {_lower(detail['msg'])}, got {value!r}"


def suggest(name: str, known: list[str]) -> str:
    """The nearest known name, or all of them, as the end of a message."""
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
