"""The leaderboard as text."""

from __future__ import annotations

from typing import Any

import pytest

from results.absent import absent_cells
from results.frames import from_records
from results.markdown import leaderboard_md
from results.tables import leaderboard


def render(
    records: list[dict[str, Any]],
    expected: list[dict[str, Any]] | None = None,
    failures: dict[str, dict[str, Any]] | None = None,
    left_out: int = 0,
) -> str:
    frame = from_records(records)
    board = leaderboard(frame, expected, failures)
    return leaderboard_md(board, absent_cells(frame, expected, failures), left_out)


def test_layout(study: list[dict[str, Any]]) -> None:
    text = render(study)
    assert "| method | 0 shots | 1 shot | 2 shots | 4 shots | 8 shots |" in text
    assert "| class-mean | **48.0 (1)** | — | — | — | — |" in text
    assert "| zero-shot | 42.0 (1) | — | — | — | — |" in text
    assert "| method | recall@5 | trained parameters |" in text
    assert "Chance level: 0.6 %." in text
    assert "200 queries" in text
    assert "Missing" not in text
    for record in study:
        cell, accuracy = record["cell"], record["metrics"]["accuracy"]
        assert f"{cell['seed']}: {100 * accuracy:.2f}" in text


def test_one_bold_cell_per_column(study: list[dict[str, Any]]) -> None:
    table = render(study).split("\n\n")[3].splitlines()[2:]
    columns = zip(*(line.split("|")[2:-1] for line in table), strict=True)
    assert [sum("**" in cell for cell in column) for column in columns] == [1] * 5


def test_missing_and_failed_cells_are_named(study: list[dict[str, Any]]) -> None:
    expected = [{"key": record["key"], **record["cell"]} for record in study]
    gone = [record for record in study if record["cell"]["method"] == "cocoop"]
    failures = {gone[0]["key"]: {"reason": "RuntimeError: a | b\nmore"}}
    text = render([record for record in study if record not in gone], expected, failures)
    assert f"{len(gone) - 1} missing, 1 failed." in text
    for record in gone:
        assert f"| {record['key']} |" in text
    assert "failed: RuntimeError: a \\| b |" in text
    assert "| cocoop | — | missing | missing | missing | missing |" in text


def test_failure_with_unknown_coordinates_is_listed(make_record: Any) -> None:
    text = render([make_record()], failures={"lost": {"reason": "gone"}})
    assert "| ?/? | ? | ? | ? | ? | ? | failed: gone | lost |" in text
    assert "## ?" not in text


def test_notes_become_footnotes_once(make_record: Any) -> None:
    records = [make_record(seed=seed, notes=["inferred: the schedule"]) for seed in (1, 2)]
    assert render(records).count("coop: inferred: the schedule") == 1


def test_nothing_measured(make_record: Any) -> None:
    record = make_record()
    assert "No records yet." in render([])
    text = render([], expected=[{"key": record["key"], **record["cell"]}])
    assert "not measured yet" in text
    assert "| coop | missing |" in text


@pytest.mark.parametrize(("count", "words"), [(1, "1 stored record of"), (2, "2 stored records")])
def test_records_left_out_are_counted(make_record: Any, count: int, words: str) -> None:
    assert words in render([make_record()], left_out=count)
