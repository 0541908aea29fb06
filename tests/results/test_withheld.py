"""Records without targets: no number, no gap in the tables, and named with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results.report import write_report
from results.schema import RecordError, from_json, to_json
from results.store import RecordStore
from results.withheld import to_be_measured, withheld_cells, withheld_lines


def hidden(make_record: Any, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = make_record(dataset="cirr", metrics={}, withheld=True, **changes)
    return record


def planned(record: dict[str, Any]) -> dict[str, Any]:
    return {"key": record["key"], **record["cell"]}


def report(root: Path, expected: Any = None) -> str:
    write_report(root, root / "out", expected)
    return (root / "out/tables/leaderboard.md").read_text()


def test_a_record_is_withheld_or_measured(make_record: Any) -> None:
    record = hidden(make_record)
    assert from_json(to_json(record)) == record
    for wrong, message in (
        ({"withheld": False}, "metrics are empty; a record without targets says withheld"),
        ({"metrics": {"accuracy": 0.5}}, "withheld or measured"),
        ({"withheld": "yes"}, "withheld: Input should be a valid boolean"),
    ):
        with pytest.raises(RecordError, match=message):
            to_json(record | wrong)


def test_the_report_names_them_and_how_to_submit(tmp_path: Path, make_record: Any) -> None:
    store = RecordStore(tmp_path)
    records = [make_record(), hidden(make_record, seed=2, variant="mine")]
    for record in records:
        store.write(record)
    for expected in (None, [planned(record) for record in records]):
        text = report(tmp_path, expected)
        assert "## roles/classification" in text
        assert "## cirr" not in text
        assert "Missing" not in text
        assert "left out" not in text
        _, section = text.split("## Withheld targets")
        assert "`promptgrid submit RUN_FOLDER --key KEY --out DIR`" in section
        key = records[1]["key"]
        cells = ["cirr/classification", "mine", "1", "2", "classification/1", "tiny", "200", key]
        assert f"| {' | '.join(cells)} |" in section
        assert "cirr" not in (tmp_path / "out/tables/leaderboard.csv").read_text()


def test_only_withheld_records_are_no_empty_report(tmp_path: Path, make_record: Any) -> None:
    RecordStore(tmp_path).write(hidden(make_record))
    text = report(tmp_path)
    assert "## Withheld targets" in text
    assert "No records yet" not in text


def test_those_of_another_study_are_left_out_with_their_count(
    tmp_path: Path, make_record: Any
) -> None:
    store = RecordStore(tmp_path)
    ours = hidden(make_record)
    for record in (ours, hidden(make_record, seed=7), make_record(seed=9)):
        store.write(record)
    text = report(tmp_path, [planned(ours) | {"variant": "renamed"}])
    assert "2 stored records of other studies" in text
    section = text.split("## Withheld targets")[1].split("\n## ")[0]
    assert section.count("| cirr/") == 1
    assert "| renamed |" in text


def test_a_cell_that_is_still_missing_stays_missing(tmp_path: Path, make_record: Any) -> None:
    done, lacking = hidden(make_record), hidden(make_record, seed=2)
    RecordStore(tmp_path).write(done)
    text = report(tmp_path, [planned(done), planned(lacking)])
    assert "1 missing, 0 failed" in text
    assert text.count(lacking["key"]) == 1


def test_the_terminal_says_how_many(make_record: Any) -> None:
    assert withheld_lines(withheld_cells([make_record()])) == []
    two = withheld_cells([hidden(make_record), hidden(make_record, seed=2)])
    (line,) = withheld_lines(two)
    assert line.startswith("withheld: 2 cells ran on a split whose targets are not public")
    assert to_be_measured(None, two) is None
