"""Cells without a record are named, with a reason that holds no machine's traces."""

from __future__ import annotations

from typing import Any

import pytest

from results.absent import absent_cells, reason_line, restrict
from results.frames import from_records


def planned(record: dict[str, Any]) -> dict[str, Any]:
    return {"key": record["key"], **record["cell"]}


def test_missing_and_failed(make_record: Any) -> None:
    records = [make_record(seed=seed) for seed in (1, 2, 3)]
    frame = from_records(records[:1])
    failures = {records[2]["key"]: {"reason": "out of memory\ndetails"}}
    absent = absent_cells(frame, [planned(record) for record in records], failures)
    assert absent[["seed", "status", "reason"]].to_numpy().tolist() == [
        [2, "missing", ""],
        [3, "failed", "out of memory"],
    ]


def test_without_a_study_failures_name_their_cells(make_record: Any) -> None:
    record = make_record(seed=4)
    failures = {record["key"]: {"reason": "x", "cell": record["cell"]}, "bare": {"reason": "y"}}
    absent = absent_cells(from_records([]), None, failures)
    assert absent[["method", "seed", "key"]].to_numpy().tolist() == [
        ["?", -1, "bare"],
        ["coop", 4, record["key"]],
    ]


def test_restrict(make_record: Any) -> None:
    frame = from_records([make_record(seed=1), make_record(seed=2)])
    assert restrict(frame, None) is frame
    assert set(restrict(frame, [planned(make_record(seed=2))])["seed"]) == {2}
    assert restrict(frame, []).empty
    few = restrict(frame[["key", "study"]], [planned(make_record(seed=2))])  # such as of stages
    assert list(few.columns) == ["key", "study"] and not few.empty


def test_the_study_names_its_cells(make_record: Any) -> None:
    record = make_record(variant="old-label")
    cell = planned(record) | {"variant": "coop-ctx8", "study": "second"}
    own = restrict(from_records([record]), [cell])
    assert set(own["variant"]) == {"coop-ctx8"}
    assert set(own["study"]) == {"second"}
    assert set(own["backbone"]) == {"tiny"}
    unlabelled = restrict(from_records([record]), [cell | {"variant": None}])
    assert set(unlabelled["variant"]) == {""}


def test_the_study_says_what_is_an_ablation_and_how_options_were_chosen(make_record: Any) -> None:
    record = make_record(variant="coop[n_ctx=16]")
    cell = planned(record)
    record["cell"] |= {"ablation_of": "coop", "varied": {"n_ctx": 16}, "selection": "oracle"}
    main = cell | {"variant": "long", "ablation_of": None, "selection": "fixed"}
    row, *_ = restrict(from_records([record]), [main]).to_dict("records")
    assert (row["variant"], row["ablation_of"], row["oracle"]) == ("long", "", "")
    again = cell | {"ablation_of": "words", "selection": "oracle", "variant": "words[n_ctx=16]"}
    own = make_record(variant="coop[n_ctx=16]")
    row, *_ = restrict(from_records([own]), [again]).to_dict("records")
    assert (row["variant"], row["ablation_of"]) == ("words[n_ctx=16]", "words")
    assert row["oracle"] == "oracle"
    row, *_ = restrict(from_records([record]), [cell]).to_dict("records")  # a plan of before
    assert (row["ablation_of"], row["oracle"]) == ("coop", "oracle")


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("", "no reason given"),
        ("boom\nmore", "boom"),
        ('Traceback (most recent call last):\n  File "x"\nValueError: bad', "ValueError: bad"),
        ("no file /data/one/two.tar here", "no file <path> here"),
        ("10.0.0.3:29500 gone, object at 0x7ffe1234", "<endpoint> gone, object at <address>"),
        ("loss was 1/2 of before", "loss was 1/2 of before"),
        ("x" * 200, "x" * 159 + "…"),
    ],
)
def test_reason_line(reason: str, line: str) -> None:
    assert reason_line(reason) == line
