"""Shipped records say what the store's records say, in small text files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.schema import RecordError
from results.shipped import ShippedRecords, entry_from, packed, queries_from, thinned
from tests.results.boards import QUERIES, cell, outcomes


def shipped(tmp_path: Path, *cells: tuple[dict[str, Any], pd.DataFrame | None]) -> ShippedRecords:
    for record, ranks in cells:
        entry, queries = packed(record, ranks)
        (tmp_path / "records").mkdir(exist_ok=True)
        (tmp_path / "queries").mkdir(exist_ok=True)
        (tmp_path / "records" / f"{record['key']}.json").write_text(entry.text)
        if queries is not None and entry.outcomes is not None:
            (tmp_path / "queries" / f"{entry.outcomes['queries']}.json").write_text(queries)
    return ShippedRecords(tmp_path)


def test_it_reads_like_a_store(tmp_path: Path) -> None:
    first, second = cell(seed=2), cell(seed=1)
    store = shipped(tmp_path, first, second)
    assert [*store.records()] == [second[0], first[0]]
    assert store.failures() == {}
    assert len([*(tmp_path / "queries").iterdir()]) == 1
    ranks = store.read_ranks(first[0]["key"])
    assert ranks is not None
    expected = first[1].sort_values(["part", "query_id"]).drop(columns="rank")
    given = ranks[expected.columns].astype(object).where(ranks[expected.columns].notna(), None)
    wanted = expected.astype(object).where(expected.notna(), None).reset_index(drop=True)
    assert given.values.tolist() == wanted.values.tolist()


def test_the_order_of_queries_and_fields_changes_no_byte() -> None:
    record, _ = cell()
    entry, queries = packed(record, outcomes(20, 1))
    backwards = {name: record[name] for name in reversed(record)}
    again, same = packed(backwards, outcomes(20, 1, order=4))
    assert (entry.text, queries) == (again.text, same)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=90))
def test_values_are_exact(values: list[float]) -> None:
    """With few distinct values (a character each) and with many (numbers)."""
    ranks = pd.DataFrame({"query_id": [f"{n:03}" for n in range(len(values))], "rank": 1})
    record, _ = cell(n_queries=len(values))
    entry, _ = packed(record, ranks.assign(value=values))
    assert entry_from(entry.text).values == values


@given(st.text(), st.text())
def test_hostile_names_come_back(query: str, group: str) -> None:
    ranks = pd.DataFrame({"query_id": [query], "group": [group], "rank": [1], "value": [0.5]})
    record, _ = cell(n_queries=1)
    _, queries = packed(record, ranks)
    assert queries is not None
    assert queries_from(queries).values.tolist() == [[query, group]]


def test_a_curve_keeps_its_ends() -> None:
    curve = [(step, float(step)) for step in range(1000)]
    small = thinned(curve)
    assert len(small) == 50 and small[0] == curve[0] and small[-1] == curve[-1]
    assert small == sorted(set(small))
    assert thinned(curve[:50]) == curve[:50]


def test_a_record_without_outcomes(tmp_path: Path) -> None:
    record, _ = cell()
    entry, queries = packed(record, None)
    assert (entry.outcomes, entry.values, queries) == (None, [], None)
    assert shipped(tmp_path, (record, None)).read_ranks(record["key"]) is None


@pytest.mark.parametrize("column", ["not finite", "too few"])
def test_outcomes_that_do_not_fit_are_refused(column: str) -> None:
    record, ranks = cell()
    wrong = ranks.assign(value=float("nan")) if column == "not finite" else ranks[1:]
    with pytest.raises(RecordError, match=r"coop.*(not finite|39 outcomes.*40)"):
        packed(record, wrong)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metrics", {"accuracy": 1.5}),
        ("outcomes", {"queries": "x", "values": [0.0, 1.0], "at": "2" * QUERIES}),
        ("outcomes", {"queries": "x", "values": [0.0], "at": "0"}),
        ("outcomes", {"queries": "x", "values": [0.0], "at": [-1] * QUERIES}),
    ],
)
def test_wrong_fields_are_named(name: str, change: object) -> None:
    text = json.dumps(json.loads(packed(*cell())[0].text) | {name: change})
    with pytest.raises(RecordError, match=name):
        entry_from(text)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    record, ranks = cell()
    store = shipped(tmp_path, (record, ranks))
    (queries,) = (tmp_path / "queries").iterdir()
    whole = json.loads(queries.read_text())
    queries.write_text(json.dumps(whole | {"rows": whole["rows"][1:]}))
    with pytest.raises(RecordError, match=rf"{record['key']}.json: outcomes of 40.*has 39"):
        store.read_ranks(record["key"])
    queries.write_text("[]")
    with pytest.raises(RecordError, match=queries.name):
        ShippedRecords(tmp_path).read_ranks(record["key"])
    queries.unlink()
    with pytest.raises(RecordError, match="is missing"):
        ShippedRecords(tmp_path).read_ranks(record["key"])
    path = tmp_path / "records" / f"{record['key']}.json"
    path.rename(path.with_name("other.json"))
    with pytest.raises(RecordError, match="not its file's name"):
        store.read("other")
