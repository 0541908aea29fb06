"""The benchmark of the report, on a store of a few records."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import speed_report
from bench.speed_report import MOST_MEGABYTES, MOST_SECONDS, report, rows, write_store
from results.store import RecordStore


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"METHODS": 2, "DATASETS": 2, "SHOTS": (1, 4), "SEEDS": 3}.items():
        monkeypatch.setattr(speed_report, name, value)
    monkeypatch.setattr(speed_report, "SERIES", 8)
    monkeypatch.setattr(speed_report, "QUERIES", 20)


def test_the_records_are_sound(tmp_path: Path) -> None:
    write_store(tmp_path, 3, 20)
    store = RecordStore(tmp_path)
    found = [*store.records()]
    assert len(found) == 2 * 2 * 2 * 3
    for record in found:
        ranks = store.read_ranks(record["key"])
        assert ranks is not None and len(ranks) == record["n_queries"] == 20
        assert record["metrics"]["recall@1"] == ranks["value"].mean()
    assert {record["cell"]["seed"] for record in found} == {1, 2, 3}
    assert len({record["loss_curve"][0][1] for record in found}) == len(found)


@pytest.mark.slow
def test_the_report_of_a_store_is_measured(tmp_path: Path) -> None:
    large, memory, queries = rows(tmp_path)
    assert (large.limit, memory.limit, queries.limit) == (MOST_SECONDS, MOST_MEGABYTES, None)
    assert (large.unit, memory.unit) == ("s", "MB")
    assert 0 < large.ours < MOST_SECONDS and 50 < memory.ours < MOST_MEGABYTES
    assert (tmp_path / "paired" / "tables" / "leaderboard.md").is_file()


def test_an_error_of_the_report_is_no_time(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no records there"):
        report(tmp_path)
