"""Stages have a table of their own and stand nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from results.absent import absent_cells
from results.console import console_stages
from results.frames import from_records
from results.report import write_report
from results.schema import RecordError, to_json
from results.stages import stage_cells, stage_lines
from results.store import RecordStore
from results.tables import leaderboard


def stage(make_record: Any, **changes: Any) -> dict[str, Any]:
    """A stage's record."""
    record: dict[str, Any] = make_record(shots=0, seed=0, dataset="source", **changes)
    cell = {**record["cell"], "trains": True, "stage": True, "trained_on": "source/captions"}
    return {**record, "cell": cell, "trainable_parameters": 2048, "key": "stage"}


def planned(record: dict[str, Any]) -> dict[str, Any]:
    return {"key": record["key"], **record["cell"]}


def test_a_stage_is_in_the_schema_and_older_records_are_none(make_record: Any) -> None:
    to_json(stage(make_record))
    plain = make_record()
    assert "stage" not in plain["cell"]
    to_json(plain)
    to_json({**plain, "cell": {**plain["cell"], "stage": False}})
    assert stage_cells([plain]).empty and len(from_records([plain])) == 2


@pytest.mark.parametrize("changes", [{"shots": 1}, {"seed": 1}, {"trains": False}])
def test_a_stage_takes_all_of_its_source_once(make_record: Any, changes: dict[str, Any]) -> None:
    record = stage(make_record)
    record["cell"] |= changes
    with pytest.raises(RecordError, match="a stage trains on all of its source"):
        to_json(record)


def test_the_type_of_the_mark_is_strict(make_record: Any) -> None:
    record = stage(make_record)
    record["cell"]["stage"] = "yes"
    with pytest.raises(RecordError, match=r"cell\.stage"):
        to_json(record)


def test_a_stage_is_in_no_table_and_never_missing(make_record: Any) -> None:
    first, other = stage(make_record), make_record()
    frame = from_records([first, other])
    assert set(frame["key"]) == {other["key"]}
    expected = [planned(first), planned(other)]
    assert absent_cells(frame, expected).empty
    assert absent_cells(from_records([]), expected)["key"].tolist() == [other["key"]]
    assert set(leaderboard(frame, expected)["dataset"]) == {"roles"}


@pytest.mark.parametrize("known", [True, False])
def test_a_failed_stage_is_named_and_makes_no_table(make_record: Any, known: bool) -> None:
    first, other = stage(make_record), make_record()
    failures = {"stage": {"reason": "out of memory", "cell": first["cell"]}}
    expected = [planned(first), planned(other)] if known else None
    frame = from_records([other])
    absent = absent_cells(frame, expected, failures)
    assert absent[["key", "status", "reason", "stage"]].to_numpy().tolist() == [
        ["stage", "failed", "out of memory", True]
    ]
    assert set(leaderboard(frame, expected, failures)["dataset"]) == {"roles"}


def test_the_line_of_a_stage(make_record: Any) -> None:
    first = stage(make_record, accuracy=0.4321)
    (line,) = stage_lines(stage_cells([first, make_record()]))
    assert line == ["coop", "source/classification", "accuracy 43.2", "11", "2,048"]
    hidden = {**first, "metrics": {}, "withheld": True}
    (line,) = stage_lines(stage_cells([hidden]))
    assert line[2] == "withheld"


def test_stages_of_other_studies_are_left_out_and_counted(tmp_path: Path, make_record: Any) -> None:
    store = RecordStore(tmp_path)
    first, other = stage(make_record), make_record()
    for record in (first, other):
        store.write(record)
    write_report(tmp_path, tmp_path, [planned(other)])
    text = (tmp_path / "tables" / "leaderboard.md").read_text()
    assert "## Stages" not in text and "1 stored record of other studies" in text
    write_report(tmp_path, tmp_path, [planned(other), planned(first) | {"variant": "mine"}])
    text = (tmp_path / "tables" / "leaderboard.md").read_text()
    assert "| mine | source/classification |" in text and "left out" not in text
    write_report(tmp_path, tmp_path)
    assert "## Stages" in (tmp_path / "tables" / "leaderboard.md").read_text()


def test_the_terminal_shows_stages(make_record: Any) -> None:
    assert console_stages(stage_cells([make_record()])) == []
    console = Console(width=100, record=True)
    for table in console_stages(stage_cells([stage(make_record)])):
        console.print(table)
    assert "source/classification" in console.export_text()
