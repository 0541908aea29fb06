"""What methods cost: medians over runs, per query and per rank."""

from __future__ import annotations

import math
from typing import Any

import pytest

from results.costs import costs
from results.figures import method_styles
from results.frames import from_records
from results.plot_costs import cost_figure


def record(make_record: Any, seed: int, train: float, score: float, **engine: Any) -> Any:
    made = make_record(seed=seed, accuracy=0.1 * seed)
    made["timings"] = {"load": 9.0, "train": train, "score": score}
    made["engine"] = {"world_size": 2, "device": "cpu"} | engine
    return made


def test_costs_are_medians_over_runs(make_record: Any) -> None:
    runs = [record(make_record, s, train, 0.5) for s, train in ((1, 3.0), (2, 5.0), (3, 40.0))]
    (row,) = costs(from_records(runs)).to_dict("records")
    assert row["compute_seconds"] == 2 * 5.0
    assert row["query_ms"] == pytest.approx(1000 * 0.5 / 200)
    assert row["trainable_parameters"] == 512
    assert row["mean"] == pytest.approx(0.2)
    assert not row["gpu"]


def test_a_record_without_timings_has_no_cost(make_record: Any) -> None:
    other = make_record("other")
    other["timings"], other["engine"] = {}, {"external": True}
    table = costs(from_records([other, record(make_record, 1, 1.0, 1.0)])).set_index("label")
    assert math.isnan(table.loc["other", "query_ms"])

    figure = cost_figure("t", "accuracy", table.reset_index(), method_styles(table.index))
    drawn = [len(axes.containers) for axes in figure.axes]
    assert drawn == [1, 2, 1]


def test_ablations_are_left_out(make_record: Any) -> None:
    varied = make_record("coop", variant="coop[m=1]")
    varied["cell"]["ablation_of"] = "coop"
    assert costs(from_records([varied])).empty
