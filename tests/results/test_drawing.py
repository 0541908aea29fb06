"""Drawing processes get ready early where a study will have many plots, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from results import drawing


@pytest.mark.parametrize(
    ("tables", "processes", "begun"), [(4, 2, True), (3, 2, False), (4, 1, False), (None, 2, False)]
)
def test_when_it_is_worth_it(
    tables: int | None, processes: int, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[bool] = []
    monkeypatch.setattr(drawing, "_begin", lambda: began.append(True))
    cells: list[dict[str, Any]] | None = None
    if tables is not None:
        cells = [{"dataset": f"d{n}", "task": "t"} for n in range(tables) for _ in range(9)]
    drawing.get_ready(cells, processes)
    assert began == [True] * begun
