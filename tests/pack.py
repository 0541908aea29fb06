"""The official annotation files and expected scores beside the repository, where there are any.

They may not be copied into the project (two data sets are CC BY-NC, two carry no licence), so the
tests that need them skip elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
DATA = SHARED / "data"
EXPECTED = SHARED / "expected"
needs_pack = pytest.mark.skipif(
    not (DATA.is_dir() and EXPECTED.is_dir()),
    reason=f"the official annotation files are not at {SHARED}",
)


def expected(name: str) -> Any:
    """An expected-scores file, "cirr" for `cirr.json`."""
    return json.loads((EXPECTED / f"{name}.json").read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> Path:
    """A JSON file for a test."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
