"""The leaderboard in a terminal of 100 columns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from results.collapse import flags
from results.compare import comparisons
from results.console import console_leaderboard, next_lines
from results.frames import from_records
from results.standings import standings
from results.tables import leaderboard


def printed(records: list[dict[str, Any]], **options: Any) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    frame = from_records(records)
    board = leaderboard(frame, **options)
    stands = standings(board, comparisons(frame, lambda key: None))
    for table in console_leaderboard(board, stands, flags(frame, {})):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_one_table_per_dataset(study: list[dict[str, Any]]) -> None:
    text = printed(study)
    assert "roles/classification · tiny: accuracy in %" in text
    assert "gestures/classification · tiny: accuracy in %" in text
    assert "0 shots" not in text
    assert text.count("1 shot ") == 2
    assert "95 % Student-t, 3 runs" in text


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
    assert "5 smaller shot counts in leaderboard.md" in " ".join(text.split())


def test_absent_cells_are_marked(make_record: Any) -> None:
    records = [make_record(seed=seed) for seed in (1, 2)]
    expected = [{"key": record["key"], **record["cell"]} for record in records]
    text = printed(records[:1], expected=expected)
    assert "50.0*" in text
    assert "* 1 cell" in text


def test_ties_are_bold_and_ranks_are_intervals(make_record: Any) -> None:
    scores = {"coop": 0.60, "cocoop": 0.601, "weak": 0.2}
    records = [
        make_record(method, seed=seed, accuracy=score + 0.001 * ((seed * len(method)) % 3))
        for method, score in scores.items()
        for seed in (1, 2, 3, 4, 5)
    ]
    frame = from_records(records)
    board = leaderboard(frame)
    stands = standings(board, comparisons(frame, lambda key: None))
    (table,) = console_leaderboard(board, stands)
    cells = {
        str(label): cell
        for label, cell in zip(table.columns[0].cells, table.columns[1].cells, strict=True)
    }
    assert {name: cell.style for name, cell in cells.items()} == {
        "coop": "bold",
        "cocoop": "bold",
        "weak": "",
    }
    assert cells["coop"].plain.endswith(" 1-2")
    assert cells["weak"].plain.endswith(" 3")
    assert cells["coop"].plain.startswith("=")
    assert not cells["weak"].plain.startswith("=")
    assert "= and bold: tied with the best" in str(table.caption)


def test_names_print_as_text(make_record: Any) -> None:
    text = printed([make_record("[red]x[/red]"), make_record("b\x1b[31m\n")])
    assert "[red]x[/red]" in text
    assert "b[U+001B][31m" in text


def test_what_to_do_next() -> None:
    lines = next_lines(Path("runs/demo"), compared=True)
    assert "runs/demo/tables/leaderboard.html" in lines[0]
    assert "comparisons.csv" in lines[0]
    assert lines[1].endswith("promptgrid report runs/demo")
    assert "comparisons" not in next_lines(Path("runs/demo"), compared=False)[0]
