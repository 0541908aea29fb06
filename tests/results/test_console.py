"""The leaderboard in a terminal of 100 columns."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from results.console import console_leaderboard
from results.frames import from_records
from results.tables import leaderboard


def printed(records: list[dict[str, Any]], **options: Any) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    for table in console_leaderboard(leaderboard(from_records(records), **options)):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_one_table_per_dataset(study: list[dict[str, Any]]) -> None:
    text = printed(study)
    assert "roles/classification: accuracy in %" in text
    assert "gestures/classification: accuracy in %" in text
    assert text.count("0 shots") == 2
    assert "95 % Student-t, 3 seeds" in text


def test_fits_100_columns_uncut(make_record: Any) -> None:
    doublings = range(9)
    name = "a-method-with-a-rather-long-name"
    records = [
        make_record(name, shots=2**k, seed=s, accuracy=0.3 + 0.1 * s)
        for k in doublings
        for s in (1, 2)
    ]
    text = printed([*records, make_record("zero-shot", shots=0, seed=0)])
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text
    assert "256 shots" in text
    assert "0 shots" in text


def test_absent_cells_are_marked(make_record: Any) -> None:
    records = [make_record(seed=seed) for seed in (1, 2)]
    expected = [{"key": record["key"], **record["cell"]} for record in records]
    text = printed(records[:1], expected=expected)
    assert "50.0*" in text
    assert "* 1 cell" in text
