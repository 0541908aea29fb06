"""The frame of the benchmarks: what it runs, prints and writes, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import speed
from bench.speed import Report, main, markdown, run, table, write, wrong
from bench.speed_growth import Curve, Point
from bench.speed_rows import Row, close, compare

MACHINE: dict[str, Any] = {"processor": "P", "cores": 3, "memory_bytes": 2**34, "gpus": []}
CURVE = Curve("step", "classes", "32 rows", (Point(1, 0.5, 1.0, 1.0), Point(9, 4.0, 8.0, 9.0)))


def row(name: str = "a", **fields: Any) -> Row:
    known: dict[str, Any] = {"baseline": 3.0, "ours": 1.5, "ratio": 2.0, "goal": 1.5, "equal": True}
    return Row(name, **{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "missed"),
    [
        ({}, False),
        ({"goal": 2.0}, False),
        ({"goal": 2.1}, True),
        ({"goal": None, "ratio": 0.1}, False),
        ({"limit": 1.5}, False),
        ({"limit": 1.4}, True),
        ({"goal": None, "limit": 1.0}, True),
    ],
)
def test_a_goal_is_met_or_missed(fields: dict[str, Any], missed: bool) -> None:
    found = row(**fields)
    assert found.missed is missed
    assert ("**missed**" in table([found])) is missed


def test_the_table_shows_goal_limit_and_what_differs() -> None:
    lines = table([row("x", goal=8.0, limit=1.0, unit="MB"), row("y", equal=False, goal=None)])
    assert "| x | 3 | 1.5 | MB | 2.00 | 8, <= 1 MB **missed** | yes |" in lines
    assert "| y | 3 | 1.5 | s | 2.00 |  | **NO** |" in lines


def test_a_subject_that_raises_is_noted_after_the_others_ran(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(_: Path) -> list[Row]:
        raise ValueError("no such thing")

    def empty(folder: Path) -> list[Row]:
        assert folder.is_dir() and not [*folder.iterdir()]
        (folder / "left").touch()
        return [row("after")]

    report = Report()
    run({"first": empty, "broken": broken, "last": empty}, report)
    assert [r.name for r in report.rows] == ["after", "after"]
    assert report.failed == {"broken": "ValueError: no such thing"}
    out = capsys.readouterr().out
    assert out.index("first:") < out.index("broken: FAILED") < out.index("last:")
    assert "in broken" in out, "the traceback is shown"
    assert wrong(report) == "broken failed: ValueError: no such thing"
    assert "Not measured: broken (ValueError: no such thing)" in markdown(report, MACHINE)


def test_only_differing_results_fail_the_run() -> None:
    assert wrong(Report([row(goal=9.0)])) is None
    assert wrong(Report([row(), row("b", equal=False)])) == "b: the two ways gave different numbers"


def test_the_files_hold_the_rows_and_the_growth(tmp_path: Path) -> None:
    report = Report([row(limit=2.0), row("b", goal=None)], [CURVE])
    write(report, tmp_path, MACHINE)
    first, second = json.loads((tmp_path / "benchmarks.json").read_text())
    assert [*first] == ["name", "baseline", "ours", "ratio", "goal", "equal", "unit", "limit"]
    assert first["limit"] == 2.0 and second["goal"] is None
    (curve,) = json.loads((tmp_path / "benchmarks-growth.json").read_text())
    assert [p["expected"] for p in curve["points"]] == [1.0, 9.0]
    text = (tmp_path / "benchmarks.md").read_text()
    assert "P, 3 cores, 16 GiB of memory, no GPU" in text
    assert "## Growth of the cost" in text and "| a |" in text
    write(report, tmp_path, MACHINE)
    assert (tmp_path / "benchmarks.md").read_text() == text, "it names no date"


def test_some_subjects_write_nothing_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(speed, "subject", lambda name: lambda _: [row(f"row of {name}", goal=9.0)])
    monkeypatch.setattr(speed, "OUT", tmp_path / "results")
    try:
        main(["ranking"])
        assert not [*tmp_path.iterdir()]
        out = capsys.readouterr().out
        assert "row of ranking" in out and "row of text" not in out
        assert "missed their goal:\n  row of ranking" in out
        main(["ranking", "--out", str(tmp_path / "own")])
        assert [r["name"] for r in json.loads((tmp_path / "own/benchmarks.json").read_text())] == [
            "row of ranking"
        ]
        assert not (tmp_path / "own/benchmarks-growth.json").exists()
        monkeypatch.setattr(speed, "curves", lambda: [CURVE])
        main([])
        rows = json.loads((tmp_path / "results/benchmarks.json").read_text())
        assert [r["name"] for r in rows] == [f"row of {name}" for name in speed.SUBJECTS]
        assert (tmp_path / "results/benchmarks-growth.json").is_file()
    finally:
        torch.set_num_threads(threads)


def test_rows_that_differ_end_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(speed, "subject", lambda name: lambda _: [row(equal=False)])
    try:
        with pytest.raises(SystemExit, match="the two ways gave different numbers"):
            main(["text"])
    finally:
        torch.set_num_threads(threads)


def test_an_unknown_subject_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["rankings"])
    assert left.value.code == 2
    assert "unknown subject 'rankings'; known: " in capsys.readouterr().err


def test_every_subject_is_a_function() -> None:
    assert all(callable(speed.subject(name)) for name in speed.SUBJECTS)


def test_compare_runs_both_in_turn_and_compares_their_results() -> None:
    calls: list[str] = []

    def way(name: str, value: float) -> Any:
        def once() -> torch.Tensor:
            calls.append(name)
            return torch.tensor([value])

        return once

    found = compare("n", way("a", 1.0), way("b", 1.00001), close, 2.0, 2)
    assert calls == ["a", "b"] * 3 and found.equal
    assert found.ratio == found.baseline / found.ours
    assert not compare("n", way("a", 1.0), way("b", 1.1), close, None, 1).equal
