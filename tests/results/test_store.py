"""A record is there whole or not at all, once, and says what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from results.schema import RecordError
from results.store import RecordStore


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "store")


def ranks_of(n_queries: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "query_id": [f"q{i}" for i in range(n_queries)],
            "rank": np.arange(1, n_queries + 1),
            "target": "t",
        }
    )


def test_written_record_reads_back(store: RecordStore, make_record: Any) -> None:
    record = make_record()
    weights = {"ctx": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert store.write(record, ranks_of(200), weights)

    key = record["key"]
    assert store.has(key)
    assert store.keys() == [key]
    assert store.read(key) == record
    assert store.read_all() == [record]
    ranks = store.read_ranks(key)
    assert ranks is not None
    pd.testing.assert_frame_equal(ranks, ranks_of(200))
    read = store.read_weights(key)
    assert read is not None
    np.testing.assert_array_equal(read["ctx"], weights["ctx"])
    assert sorted(path.name for path in store.folder(key).iterdir()) == [
        "ranks.parquet",
        "record.json",
        "weights.safetensors",
    ]


def test_ranks_and_weights_are_optional(store: RecordStore, make_record: Any) -> None:
    record = make_record()
    store.write(record)
    assert store.read_ranks(record["key"]) is None
    assert store.read_weights(record["key"]) is None


def test_torch_weights_that_share_memory(store: RecordStore, make_record: Any) -> None:
    record = make_record()
    tied = torch.nn.Parameter(torch.ones(2, 2))
    store.write(record, weights={"a": tied, "b": tied.T})
    read = store.read_weights(record["key"])
    assert read is not None
    assert sorted(read) == ["a", "b"]


def test_json_is_canonical(store: RecordStore, make_record: Any) -> None:
    record = make_record()
    backwards = dict(reversed(record.items()))
    store.write(backwards)
    text = (store.folder(record["key"]) / "record.json").read_text()
    assert list(json.loads(text)) == sorted(record)


def test_existing_record_is_kept(store: RecordStore, make_record: Any) -> None:
    assert store.write(make_record(accuracy=0.5))
    assert not store.write(make_record(accuracy=0.25))
    assert store.read(make_record()["key"])["metrics"]["accuracy"] == 0.5
    assert len(list((store.root / "records").iterdir())) == 1


def test_failed_rename_leaves_nothing(
    store: RecordStore, make_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk gone")

    record = make_record()
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="disk gone"):
        store.write(record, ranks_of(200))
    assert not store.has(record["key"])
    assert list((store.root / "records").iterdir()) == []

    monkeypatch.undo()
    assert store.write(record)


def test_killed_writer_leaves_nothing_readable(
    store: RecordStore, make_record: Any, tmp_path: Path
) -> None:
    """A process that dies between writing the files and the rename cannot clean up."""
    record = make_record()
    (tmp_path / "record.json").write_text(json.dumps(record))
    program = (
        "import json, os, sys; from pathlib import Path; from results.store import RecordStore\n"
        "os.rename = lambda *_: os._exit(9)\n"
        "RecordStore(Path(sys.argv[1])).write(json.loads(Path(sys.argv[2]).read_text()))"
    )
    command = [sys.executable, "-c", program, str(store.root), str(tmp_path / "record.json")]
    assert subprocess.run(command, check=False).returncode == 9

    (leftover,) = (store.root / "records").iterdir()
    assert (leftover / "record.json").is_file()
    assert not store.has(record["key"])
    assert store.keys() == []
    assert store.read_all() == []

    assert store.sweep() == []  # it may still be at work
    old = time.time() - 4000
    for path in (leftover / "record.json", leftover):
        os.utime(path, (old, old))
    assert store.sweep() == [leftover]
    assert store.write(record)


def test_two_processes_writing_one_key(
    store: RecordStore, make_record: Any, tmp_path: Path
) -> None:
    """Both get past the check for an existing record; the rename decides."""
    program = (
        "import json, os, sys, time; from pathlib import Path\n"
        "from results.store import RecordStore\n"
        "store, ours, theirs = (Path(p) for p in sys.argv[1:4])\n"
        "rename = os.rename\n"
        "def meet(*paths):\n"
        "    ours.touch()\n"
        "    while not theirs.exists(): time.sleep(0.001)\n"
        "    rename(*paths)\n"
        "os.rename = meet\n"
        "print(RecordStore(store).write(json.loads(Path(sys.argv[4]).read_text())))"
    )
    writers = []
    for name, other, accuracy in (("a", "b", 0.25), ("b", "a", 0.75)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(make_record(accuracy=accuracy)))
        arguments = [store.root, tmp_path / f"{name}.ready", tmp_path / f"{other}.ready", path]
        command = [sys.executable, "-c", program, *map(str, arguments)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said = [writer.communicate(timeout=60)[0].strip() for writer in writers]

    assert sorted(said) == ["False", "True"]
    (record,) = store.read_all()
    assert record["metrics"]["accuracy"] == (0.25 if said[0] == "True" else 0.75)
    assert len(list((store.root / "records").iterdir())) == 1


def test_folder_without_record_is_reported(store: RecordStore, make_record: Any) -> None:
    record = make_record()
    folder = store.folder(record["key"])
    folder.mkdir(parents=True)
    (folder / "stray").touch()
    with pytest.raises(RecordError, match=r"exists without record\.json"):
        store.write(record)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1', "not JSON"),
        ('{"schema": 2}', "schema is 2"),
        ("[]", "not a JSON object"),
        ('{"schema": 1, "n": NaN}', "NaN"),
        ('{"schema": 1}', "cell: Field required"),
    ],
)
def test_corrupted_record_names_its_file(
    store: RecordStore, make_record: Any, content: str, message: str
) -> None:
    record = make_record()
    store.write(record)
    path = store.folder(record["key"]) / "record.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=message) as caught:
        store.read_all()
    assert str(path) in str(caught.value)


def test_moved_record_is_refused(store: RecordStore, make_record: Any) -> None:
    record = make_record()
    store.write(record)
    store.folder(record["key"]).rename(store.folder("other"))
    with pytest.raises(RecordError, match="not its folder's name"):
        store.read("other")


def test_unknown_key(store: RecordStore) -> None:
    assert store.keys() == []
    assert not store.has("k")
    with pytest.raises(KeyError, match="no record 'k'"):
        store.read("k")


@pytest.mark.parametrize("key", ["../escape", ".hidden", "", "a/b", None])
def test_unsafe_keys(store: RecordStore, make_record: Any, key: Any) -> None:
    with pytest.raises(RecordError, match="key"):
        store.write(make_record() | {"key": key})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.drop(columns="rank"), "no column 'rank'"),
        (lambda r: r.assign(query_id=1), "must be strings"),
        (lambda r: r.assign(query_id="same"), "'same' appears more than once"),
        (lambda r: r.assign(rank=r["rank"] - 2), "from 1"),
        (lambda r: r.assign(rank=r["rank"] * 1.0), "whole numbers"),
        (lambda r: r.head(3), "3 rows, but n_queries is 200"),
    ],
)
def test_wrong_ranks(store: RecordStore, make_record: Any, change: Any, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        store.write(make_record(), change(ranks_of(200)))
    assert store.keys() == []


def test_query_may_recur_in_another_part(store: RecordStore, make_record: Any) -> None:
    halves = [ranks_of(100).assign(part=part, rank=0) for part in ("shirt", "dress")]
    assert store.write(make_record(), pd.concat(halves, ignore_index=True))


def test_failures(store: RecordStore, make_record: Any) -> None:
    record = make_record()
    key = record["key"]
    assert store.failures() == {}
    store.write_failure(key, {"reason": "first"})
    store.write_failure(key, {"reason": "second", "cell": record["cell"]})
    store.write_failure("other", {"reason": "third"})
    assert store.failures()[key]["reason"] == "second"
    store.clear_failure("other")
    store.clear_failure("other")
    assert list(store.failures()) == [key]

    store.write(record)
    assert store.failures() == {}
    assert list((store.root / "failures").iterdir()) == []


def test_stale_failure_of_a_finished_cell(store: RecordStore, make_record: Any) -> None:
    store.write(make_record())
    store.write_failure(make_record()["key"], {"reason": "late rank"})
    assert store.failures() == {}


def test_failure_needs_a_reason(store: RecordStore) -> None:
    with pytest.raises(RecordError, match="reason"):
        store.write_failure("k", {"error": "text"})
    with pytest.raises(RecordError, match="loss is nan"):
        store.write_failure("k", {"reason": "diverged", "loss": float("nan")})


def test_corrupted_failure_names_its_file(store: RecordStore) -> None:
    store.write_failure("k", {"reason": "r"})
    path = store.root / "failures" / "k.json"
    path.write_text("{")
    with pytest.raises(RecordError, match=r"k\.json: not JSON"):
        store.failures()


def lists_of(n_queries: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "part": "dress",
            "query_id": [f"q{i}" for i in range(n_queries)],
            "candidates": [["a", "b"]] * n_queries,
            "subset": [["b"]] * (n_queries - 1) + [None],
        }
    )


def test_lists_read_back(store: RecordStore, make_record: Any) -> None:
    record = make_record(n_queries=3)
    store.write(record, lists=lists_of(3))
    found = store.read_lists(record["key"])
    assert found is not None
    pd.testing.assert_frame_equal(found, lists_of(3))
    assert isinstance(found["candidates"][0], list)
    other = make_record(seed=2)
    store.write(other)
    assert store.read_lists(other["key"]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_id": ["q0", "q0", "q1"]}, "query_id 'q0' appears more than once"),
        ({"candidates": [["a"], ["b"], ["c", "c"]]}, "candidates of query 'q2' names an id twice"),
        ({"candidates": [["a"], [1], ["c"]]}, "candidates of query 'q1' is no list of strings"),
        ({"candidates": [["a"], None, ["c"]]}, "candidates of query 'q1' is no list of strings"),
        ({"subset": [["a"], None, "c"]}, "subset of query 'q2' is no list of strings"),
        ({"more": 1}, "lists have the columns"),
    ],
)
def test_wrong_lists_are_refused(
    store: RecordStore, make_record: Any, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        store.write(make_record(n_queries=3), lists=lists_of(3).assign(**change))
    with pytest.raises(RecordError, match="lists have 3 rows, but n_queries is 200"):
        store.write(make_record(), lists=lists_of(3))
    assert store.keys() == []
