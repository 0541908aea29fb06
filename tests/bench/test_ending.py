"""The report of a run begins when the last unit is settled, once, and holds what is stored then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.ending import Ending
from results.report import write_report
from results.schema import RecordError
from results.store import RecordStore
from tests.results.conftest import synthetic_record
from tests.results.test_notebook import write
from tests.results.test_same_bytes import contents


def of_two(folder: Path) -> tuple[RecordStore, list[dict[str, Any]]]:
    """A store of two records, and the study's cells."""
    found = [synthetic_record("coop", 1, seed, 0.3) for seed in (1, 2)]
    store = write(folder, found)
    return store, [{"key": one["key"], **one["cell"]} for one in found]


def test_the_last_unit_begins_the_report(tmp_path: Path) -> None:
    store, expected = of_two(tmp_path / "store")
    ending = Ending(store, expected, tmp_path / "out")
    ending.expect(units=2, gangs=2)
    ending.settled()
    assert not (tmp_path / "out").exists()
    ending.settled()
    ending._thread.shutdown(wait=True)  # nobody has asked for the report yet
    files = write_report(store, tmp_path / "plain", expected)
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")
    assert len(contents(tmp_path / "out")) == len(files)
    ending = Ending(store, expected, tmp_path / "out")
    ending.expect(units=1, gangs=1)
    ending.settled()
    assert len(ending.report()[1]) == len(files)


def test_units_that_no_gang_ran_are_reported_as_missing(tmp_path: Path) -> None:
    store, expected = of_two(tmp_path / "store")
    expected.append({**expected[0], "key": "lost", "seed": 3})
    ending = Ending(store, expected, tmp_path / "out")
    ending.expect(units=3, gangs=2)
    ending.settled()
    ending.settled()
    found, files = ending.report()
    assert list(found.absent["key"]) == ["lost"]
    assert all(path.is_file() for path in files)


def test_a_damaged_record_is_an_error_of_the_report_alone(tmp_path: Path) -> None:
    store, expected = of_two(tmp_path / "store")
    (store.folder(expected[0]["key"]) / "record.json").write_text("{")
    ending = Ending(store, expected, tmp_path / "out")
    ending.expect(units=1, gangs=1)
    ending.settled()
    with pytest.raises(RecordError):
        ending.report()
