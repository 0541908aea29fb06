"""Writing raw data for tests: small pictures, JSON, JSON lines, and what the user would name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from data_recipes.core.recipe import Folders


@dataclass(frozen=True)
class World:
    """What the user would name. images: how many are built; options: fields of the Config."""

    folders: Folders
    images: int
    options: dict[str, Any] = field(default_factory=dict)


def pictures(root: Path, names: Iterable[str]) -> int:
    """Write a small picture of its own colour for every name; returns how many."""
    count = 0
    for count, name in enumerate(names, 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = hashlib.sha256(name.encode()).digest()
        kind = "PNG" if path.suffix == ".png" else "JPEG"
        Image.new("RGB", (10 + count % 3, 8), (colour[0], colour[1], colour[2])).save(path, kind)
    return count


def write(path: Path, value: Any) -> Path:
    """A JSON file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def lines(path: Path, rows: Iterable[Any]) -> Path:
    """A file of lines: texts as they are, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def both(root: Path) -> Folders:
    """The two folders that `root` has."""
    return Folders(annotations=root / "annotations", images=root / "images")
