"""JSON read strictly and written canonically.

Python's parser keeps the last of two equal keys and accepts NaN; both hide damaged files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from data_recipes.core.model import DataError


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} occurs twice in one object")
        seen[key] = value
    return seen


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large a number")
    return value


def loads(text: str, source: str) -> Any:
    """Parse `text`; `source` (file name, perhaps with a line) starts every error message.

    Raises:
        DataError: not JSON, NaN or an infinity, or a key that occurs twice in one object.
    """
    if not text.strip():
        raise DataError(f"{source}: the file is empty; fetch or build it again")
    try:
        return json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise DataError(
            f"{source}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}; "
            "fetch or build the file again"
        ) from None
    except ValueError as error:
        raise DataError(f"{source}: {error}; fetch or build the file again") from None


def read(path: Path) -> Any:
    """Parse the file at `path` (UTF-8). Raises DataError naming it when that fails."""
    try:
        return loads(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from None


def read_lines(path: Path) -> Iterator[Any]:
    """Parse a JSON-lines file, one value a line; errors name the line."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield loads(line, f"{path}:{number}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; build the dataset again") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8") from None


def canonical(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no blanks. Raises ValueError on NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical text of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a JSON-lines file in canonical form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        for value in values:
            lines.write(canonical(value) + "\n")
