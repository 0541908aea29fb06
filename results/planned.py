"""The cells of the study that was last run into a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from results.schema import RecordError

PLAN = "plan.json"


def planned_cells(folder: Path) -> list[dict[str, Any]] | None:
    """Key, coordinates and title of every cell; None where no study was run into the folder.

    Raises:
        RecordError: the file is damaged.
    """
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"{path}: not JSON: {error}; run the study again to mend it") from error
    if not isinstance(cells, list) or not all(
        isinstance(cell, dict) and isinstance(cell.get("key"), str) for cell in cells
    ):
        raise RecordError(f"{path}: no list of cells; run the study again to mend it")
    return cells
