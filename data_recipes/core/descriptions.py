"""Natural-language descriptions of classes and images, read in training only.

CuPL's released files (github.com/sarahpratt/CuPL) have this form: a JSON object from a name to a
list of sentences. A built dataset holds them in `descriptions.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from data_recipes.core import strict_json
from data_recipes.core.model import DataError, Task
from data_recipes.core.write import file_sha256, write_whole

DESCRIPTIONS = "descriptions.json"


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Class name or image id -> its sentences, at least one each.

    Raises:
        DataError: no such file, not JSON, a key that occurs twice, or a value that is no list of
            sentences; names the file and the key.
    """
    raw = strict_json.read(path)
    if not isinstance(raw, dict):
        raise DataError(
            f"{path}: holds {_kind(raw)}; descriptions are one object from class names or image "
            'ids to lists of sentences: {"farmer": ["a person who grows food.", ...]}'
        )
    lines = wrong(raw)
    if lines:
        raise DataError(f"{path}: {lines[0]}")
    return {key: tuple(texts) for key, texts in raw.items()}


def write_descriptions(descriptions: Mapping[str, Sequence[str]], folder: Path) -> str | None:
    """Write a dataset's descriptions into `folder`; returns the file's sha256, None for none."""
    if not descriptions:
        return None
    content = {key: list(texts) for key, texts in descriptions.items()}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    write_whole(folder / DESCRIPTIONS, f"{text}\n".encode())
    return file_sha256(folder / DESCRIPTIONS)


def strangers(
    descriptions: Mapping[str, Any], tasks: Sequence[Task], images: AbstractSet[str]
) -> list[str]:
    """One line for each description of what is neither a class of the tasks nor an image."""
    known = {*images}
    for task in tasks:
        if task.kind == "classification":
            known |= {c.text or "" for part in task.parts() for c in part.candidates}
    return [
        f"descriptions of {key!r}: neither a class nor an image has this name"
        for key in descriptions
        if key not in known
    ]


def wrong(descriptions: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no list of sentences."""
    found = []
    for key, texts in descriptions.items():
        if not isinstance(texts, (list, tuple)):
            what = _kind(texts)
        elif not texts:
            what = "an empty list"
        else:
            bad = [text for text in texts if not (isinstance(text, str) and text.strip())]
            what = f"{bad[0]!r} in its list" if bad else ""
        if what:
            found.append(
                f"descriptions of {key!r}: {what}; give a list of sentences, or leave the key out"
            )
    return found


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), repr(value))
