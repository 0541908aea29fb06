"""Broken runs are flagged, and stay in every mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.collapse import BELOW_CHANCE, DIVERGED, FAR, FLAG_COLUMNS, flags
from results.frames import from_records
from results.statistics import summary


def runs(make_record: Any, values: list[float], **changes: Any) -> pd.DataFrame:
    return from_records(
        [make_record(seed=i, accuracy=value, **changes) for i, value in enumerate(values)]
    )


def test_a_run_with_less_than_half_is_far_and_stays_in_the_mean(make_record: Any) -> None:
    frame = runs(make_record, [0.6, 0.62, 0.1])
    table = flags(frame, {})
    assert tuple(table.columns) == FLAG_COLUMNS
    assert table[["seed", "flag"]].to_numpy().tolist() == [[2, FAR]]
    assert table["detail"].item() == "10.0 %, less than half of the best seed's 62.0 %"
    mean = summary(frame[frame["headline"]])["mean"].item()
    assert mean == pytest.approx(np.mean([0.6, 0.62, 0.1]))


def test_far_from_the_median_of_enough_others(make_record: Any) -> None:
    """45 % among nine at 60 +- 1 %, above or below; with 20 queries it is within their noise."""
    values = [0.59, 0.6, 0.61, 0.6, 0.59, 0.61, 0.6, 0.605, 0.595]
    for odd in (0.45, 0.75):
        table = flags(runs(make_record, [*values, odd], n_queries=2000), {})
        assert table["seed"].tolist() == [9]
        assert "the median of the 9 others is 60.0 %" in table["detail"].item()
    assert flags(runs(make_record, [*values, 0.45], n_queries=20), {}).empty
    assert flags(runs(make_record, values, n_queries=2000), {}).empty


def test_three_seeds_do_not_say_what_is_far(make_record: Any) -> None:
    assert flags(runs(make_record, [0.6, 0.6, 0.4]), {}).empty


def test_below_chance_is_significant(make_record: Any) -> None:
    """Chance 25 % of 200 queries: 15 % is below it, 23 % is not shown to be."""
    notes = ["chance: 0.25"]
    table = flags(runs(make_record, [0.23, 0.15, 0.26], notes=notes), {})
    assert table[["seed", "flag"]].to_numpy().tolist() == [[1, BELOW_CHANCE]]
    assert table["detail"].item() == "15.00 % of 200 queries, where chance is 25.00 %"
    assert flags(runs(make_record, [0.15, 0.15], notes=[]), {}).empty


def test_a_loss_that_grew(make_record: Any) -> None:
    frame = runs(make_record, [0.5, 0.5, 0.5]).assign(
        last_loss_ratio=[1.1, 1.1, 1.6, 1.6, 0.2, 0.2]
    )
    table = flags(frame, {})
    assert table[["seed", "flag"]].to_numpy().tolist() == [[1, DIVERGED]]
    assert table["detail"].item() == "its loss ends 1.60 times above its first half"
    assert flags(frame.assign(last_loss_ratio=np.nan), {}).empty


@pytest.mark.parametrize(
    ("reason", "flagged"),
    [
        ("the loss is nan at step 3 of 50; lower training.lr or use fp32", True),
        ("Traceback\nbench.train.DivergedError: the loss is -inf at step 0 of 5", True),
        ("non-finite loss", True),
        ("query 'q1': a similarity is not finite; NaN and infinity have no order", False),
        ("CUDA out of memory", False),
    ],
)
def test_failures_by_their_reason(make_record: Any, reason: str, flagged: bool) -> None:
    failure = {"reason": reason, "cell": make_record(seed=4)["cell"]}
    table = flags(runs(make_record, [0.5]), {"k": failure})
    assert (table["flag"].tolist() == [DIVERGED]) == flagged
    if flagged:
        assert table[["seed", "key", "method"]].to_numpy().tolist() == [[4, "k", "coop"]]


def test_order_of_records_changes_nothing(make_record: Any) -> None:
    frame = runs(make_record, [0.6, 0.01, 0.62, 0.02], notes=["chance: 0.2"])
    there = flags(frame, {})
    back = flags(frame.iloc[::-1], {})
    assert len(there) == 4
    pd.testing.assert_frame_equal(there, back)
