"""The report is a pure function of records."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from results.report import write_report
from results.store import RecordStore


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_records_same_bytes(tmp_path: Path, study: list[dict[str, Any]]) -> None:
    """In another order, with failures on the way, on another day, under another root."""
    expected = [{"key": record["key"], **record["cell"]} for record in study]
    plain = RecordStore(tmp_path / "a" / "store")
    for record in study:
        plain.write(record)
    write_report(plain.root, tmp_path / "a" / "out", expected)

    random.Random(2).shuffle(study)
    broken = RecordStore(tmp_path / "b" / "elsewhere")
    for number, record in enumerate(study):
        if number % 5 == 0:
            broken.write_failure(record["key"], {"reason": "node lost", "cell": record["cell"]})
        elsewhere = {"provenance": {"host": "node7"}, "identity": record["identity"] | {"seed": 9}}
        broken.write(record | elsewhere)
        if number == 20:
            write_report(broken.root, tmp_path / "b" / "out", expected)
    write_report(broken.root, tmp_path / "b" / "out", expected[::-1])

    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b" / "out")


def test_paths(tmp_path: Path, make_record: Any) -> None:
    store = RecordStore(tmp_path / "store")
    store.write(make_record())
    out = tmp_path / "out"
    paths = write_report(store.root, out)
    assert paths == sorted(paths)
    assert {str(path.relative_to(out)) for path in paths} == set(contents(out))
    assert {path.suffix for path in paths} == {".md", ".csv", ".html", ".tex", ".png", ".svg"}


def test_records_outside_the_study_are_left_out(tmp_path: Path, make_record: Any) -> None:
    store = RecordStore(tmp_path / "store")
    ours, older = make_record(), make_record(accuracy=0.9) | {"key": "older"}
    foreign = make_record(dataset="foreign")
    for record in (ours, older, foreign):
        store.write(record)
    write_report(store.root, tmp_path / "out", [{"key": ours["key"], **ours["cell"]}])
    text = (tmp_path / "out" / "tables" / "leaderboard.md").read_text()
    assert "2 stored records of other studies" in text
    assert "90.0" not in text
    assert "## foreign" not in text


def test_stale_plots_go(tmp_path: Path, make_record: Any) -> None:
    store = RecordStore(tmp_path / "store")
    store.write(make_record())
    plots = tmp_path / "out" / "plots"
    plots.mkdir(parents=True)
    (plots / "shots-gone-x.png").touch()
    (plots / "mine.png").touch()
    write_report(store.root, tmp_path / "out")
    assert not (plots / "shots-gone-x.png").exists()
    assert (plots / "mine.png").exists()


def test_empty_store(tmp_path: Path) -> None:
    paths = write_report(tmp_path / "nothing", tmp_path / "out")
    assert {path.suffix for path in paths} == {".md", ".csv", ".html", ".tex"}
    assert "No records yet." in (tmp_path / "out" / "tables" / "leaderboard.md").read_text()
    assert not (tmp_path / "nothing").exists()
