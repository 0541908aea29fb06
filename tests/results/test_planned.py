"""The plan that a run leaves in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.planned import PLAN, planned_cells
from results.schema import RecordError


def test_no_study_no_cells(tmp_path: Path) -> None:
    assert planned_cells(tmp_path) is None


def test_cells_as_they_were_planned(tmp_path: Path) -> None:
    (tmp_path / PLAN).write_text('[{"key": "a", "title": "one"}]')
    assert planned_cells(tmp_path) == [{"key": "a", "title": "one"}]


@pytest.mark.parametrize(
    "text", ['[{"key": ', '{"key": "a"}', '[{"title": "a"}]', "[1]", '[{"key": 3}]']
)
def test_a_damaged_plan_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / PLAN).write_text(text)
    with pytest.raises(RecordError, match=f"{PLAN}.*run the study again"):
        planned_cells(tmp_path)
