"""Records to tidy rows."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results.frames import (
    COLUMNS,
    chance_level,
    from_records,
    last_loss_ratio,
    load,
    remarks,
    series_label,
)
from results.store import RecordStore


def test_one_row_per_record_and_metric(tmp_path: Path, make_record: Any) -> None:
    store = RecordStore(tmp_path)
    store.write(make_record(accuracy=0.5))
    frame = load(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    assert dict(zip(frame["metric"], frame["value"], strict=True)) == {
        "accuracy": 0.5,
        "recall@5": 0.7,
    }
    assert list(frame["headline"]) == [True, False]
    assert set(frame["variant"]) == {""}


def test_order_of_records_does_not_matter(study: list[dict[str, Any]]) -> None:
    shuffled = random.Random(3).sample(study, len(study))
    pd.testing.assert_frame_equal(from_records(study), from_records(shuffled))


def test_no_records(tmp_path: Path) -> None:
    frame = load(tmp_path)
    assert frame.empty
    assert tuple(frame.columns) == COLUMNS


def test_notes() -> None:
    notes = ["b\nchance: 0.25", "a", "a", ""]
    assert chance_level(notes) == 0.25
    assert chance_level(["chance level = 5.6e-3"]) == 0.0056
    assert chance_level(["by chance: 0.3 of it"]) is None
    assert remarks(notes) == ["a", "b"]


def test_series_label() -> None:
    assert series_label("coop", "") == "coop"
    assert series_label("coop", "coop-ctx8") == "coop-ctx8"


def test_rows_without_versions_join_the_one_table_they_fit(make_record: Any) -> None:
    ours = make_record()
    ours["cell"] |= {"data_version": "aaaa", "backbone_version": "bbbb", "selection": "oracle"}
    theirs = make_record("other")
    frame = from_records([ours, theirs])
    assert set(frame["data_version"]) == {"aaaa"}
    assert set(frame["backbone_version"]) == {"bbbb"}
    assert set(frame["oracle"]) == {"oracle"}

    newer = make_record(seed=2)
    newer["cell"] |= {"data_version": "cccc", "backbone_version": "bbbb"}
    frame = from_records([ours, theirs, newer])
    assert set(frame.loc[frame["method"] == "other", "data_version"]) == {""}


@pytest.mark.parametrize(
    ("losses", "ratio"),
    [
        ([2.0, 50.0], 25.0),
        ([4.0, 1.0, 5.0, 3.0, 2.0, 1.0, 1.0, 9.0, 2.0, 2.5], 0.45),  # one bad batch says nothing
        ([1.0], math.nan),
        ([], math.nan),
        ([0.0, 1.0], math.nan),
    ],
)
def test_how_far_the_loss_has_grown(losses: list[float], ratio: float) -> None:
    found = last_loss_ratio([[step, loss] for step, loss in enumerate(losses)])
    assert found == pytest.approx(ratio, nan_ok=True)
