"""A cell's key: the hash of everything that decides its result, and of nothing else.

Paths, worker counts and log levels do not enter. The method's own source does, with all project
modules that it imports, and so do the engine's: a changed line is a different cell.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from data_recipes.core import strict_json

SCHEMA = 1
PACKAGES = ("bench", "methods", "data_recipes")
ENGINE_MODULE = "bench.together"  # with `bench.cell`: every way to run a cell
NOT_DECIDING = frozenset({"bench.provenance", "bench.marks"})  # describe a result, change none


def key(identity: dict[str, Any]) -> str:
    """sha256 (hex, 64 characters) of a cell's identity. Raises ValueError on NaN in it."""
    return strict_json.digest({"schema": SCHEMA, **identity})


@cache
def source_digest(module: str) -> str:
    """sha256 over the source of `module` and of every project module it imports, transitively.

    A module outside the project's packages (a user's own method) is followed by the same rule:
    its own source counts, and the project modules it imports.
    """
    sha = hashlib.sha256()
    for name, path in sorted(_closure(module).items()):
        sha.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()


@cache
def engine_digest() -> str:
    """sha256 over all ways to run a cell and what they import: sampler, training loops, scoring."""
    return source_digest(ENGINE_MODULE)


def _closure(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or name in NOT_DECIDING or path is None:
            continue
        found[name] = path
        waiting += [
            imported
            for imported in _imports(path.read_text(encoding="utf-8"))
            if imported.split(".")[0] in PACKAGES and imported not in found
        ]
    return found


def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


@cache
def _imports(source: str) -> frozenset[str]:
    """Names that a file may import; `from a import b` yields both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)
