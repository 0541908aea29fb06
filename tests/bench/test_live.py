"""The lines that a run prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.live import Progression, gang_table


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"kind": "done", "summary": {"metric": "recall@1", "value": 0.125, "seconds": 2.04}},
            "[1/2] first: recall@1 12.5 % (2.0 s)",
        ),
        (
            {"kind": "done", "summary": {"metric": "map@5", "value": None, "seconds": 2.0}},
            "[1/2] first: targets withheld (2.0 s)",
        ),
        (
            {"kind": "failed", "error": "Traceback:\nValueError: bad\n"},
            "[1/2] first: FAILED: ValueError: bad",
        ),
    ],
)
def test_a_line_for_each_settled_cell(tmp_path: Path, event: dict[str, Any], line: str) -> None:
    console = Console(width=100, record=True)
    progression = Progression(console, {"a": "first", "b": "second"}, tmp_path / "status.json")
    progression.event({"key": "a", **event})
    assert console.export_text().strip() == line


def test_a_title_with_options_is_shown_as_it_is() -> None:
    """Brackets are rich's markup elsewhere."""
    gang = {"key": "a", "state": "runs", "since": 0.0, "cells_done": 0, "restarts": 0}
    console = Console(width=200, record=True)
    console.print(gang_table({"gangs": {"gang0": gang}}, {"a": "coop[red] on tiny/composed"}))
    assert "coop[red] on tiny/composed" in console.export_text()
