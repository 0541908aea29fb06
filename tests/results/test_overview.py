"""Average ranks over datasets."""

from __future__ import annotations

import math
from typing import Any

import pytest

from results.frames import from_records
from results.overview import OVERVIEW_COLUMNS, average_ranks, critical_difference
from results.tables import leaderboard

SCORES = {
    "one": {"a": 0.9, "b": 0.8, "c": 0.7},
    "two": {"a": 0.5, "b": 0.6, "c": 0.5},
    "three": {"a": 0.9, "b": 0.8, "c": 0.1, "only": 0.2},
}


def overview(make_record: Any, **changes: Any) -> Any:
    records = [
        make_record(method, 4, 1, score, dataset, **changes)
        for dataset, scores in SCORES.items()
        for method, score in scores.items()
    ]
    return average_ranks(leaderboard(from_records(records)))


def test_average_ranks_with_ties(make_record: Any) -> None:
    """By hand: a 1, 2.5, 1; b 2, 1, 2; c 3, 2.5, 3. A method on one dataset alone has none."""
    table = overview(make_record)
    assert tuple(table.columns) == OVERVIEW_COLUMNS
    assert table["label"].tolist() == ["a", "b", "c"]
    assert table["average_rank"].tolist() == pytest.approx([4.5 / 3, 5 / 3, 8.5 / 3])
    assert set(table["datasets"]) == {3}
    assert table["critical_difference"].iloc[0] == pytest.approx(critical_difference(3, 3))


def test_critical_difference_of_the_paper() -> None:
    """Demsar (2006), section 3.2.2: 4 classifiers on 14 data sets, q = 2.569: CD = 1.25."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert math.isnan(critical_difference(1, 5))


def test_the_largest_block_counts(make_record: Any) -> None:
    """x and y meet on three datasets, w and v on two others."""
    records = [
        make_record(method, 4, 1, 0.1 * rank, dataset)
        for dataset, methods in {"1": "xy", "2": "xy", "3": "xyw", "4": "wv", "5": "wv"}.items()
        for rank, method in enumerate(methods)
    ]
    table = average_ranks(leaderboard(from_records(records)))
    assert table["label"].tolist() == ["y", "x"]
    assert set(table["datasets"]) == {3}


def test_training_free_methods_stand_at_every_shot_count(study: list[dict[str, Any]]) -> None:
    table = average_ranks(leaderboard(from_records(study)))
    assert sorted(table["shots"].unique()) == [0, 1, 2, 4, 8]
    assert len(table[table["shots"] == 8]) == 5
    assert table[table["shots"] == 0]["label"].tolist() == ["class-mean", "zero-shot"]


def test_versions_of_a_backbone_are_told_apart(make_record: Any) -> None:
    records = [
        make_record(method, 4, 1, 0.5, dataset) | {"key": f"{method}-{dataset}-{version}"}
        for method in "ab"
        for dataset in "12"
        for version in ("old", "new")
    ]
    for record in records:
        version = record["key"].split("-")[-1]
        record["cell"] |= {"backbone_version": version, "data_version": "d"}
    table = average_ranks(leaderboard(from_records(records)))
    assert sorted(set(table["backbone"])) == ["tiny new", "tiny old"]


def test_one_dataset_has_no_overview(make_record: Any) -> None:
    records = [make_record("a"), make_record("b")]
    assert average_ranks(leaderboard(from_records(records))).empty
