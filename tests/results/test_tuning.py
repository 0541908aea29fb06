"""Tries and seconds of a method are counted over all of its records."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd

from results.tuning import LEDGER_COLUMNS, tuning_ledger


def tried(make_record: Any, number: int, lr: float = 0.1, **changes: Any) -> dict[str, Any]:
    cell = {n: changes.pop(n) for n in ("selection", "selection_split") if n in changes}
    record: dict[str, Any] = make_record(seed=number, **changes)
    return record | {
        "key": f"k{number}",
        "cell": record["cell"] | cell,
        "identity": {"config": {"n_ctx": 4}, "training": {"lr": lr}, "seed": number},
    }


def test_tries_are_distinct_configurations(make_record: Any) -> None:
    """Three seeds of one configuration are one try; another rate is a second."""
    records = [tried(make_record, n) for n in (1, 2, 3)] + [tried(make_record, 4, lr=0.2)]
    (row,) = tuning_ledger(records).to_dict("records")
    assert (row["method"], row["tries"], row["records"]) == ("coop", 2, 4)
    assert (row["selection"], row["selection_split"]) == ("fixed", "")


def test_ablations_count(make_record: Any) -> None:
    ablation = tried(make_record, 9, lr=0.5)
    ablation["cell"]["ablation_of"] = "coop"
    (row,) = tuning_ledger([tried(make_record, 1), ablation]).to_dict("records")
    assert row["tries"] == 2


def test_ways_to_choose_stand_apart(make_record: Any) -> None:
    records = [
        tried(make_record, 1),
        tried(make_record, 2, selection="validation", selection_split="val"),
        tried(make_record, 3, selection="oracle", selection_split="test"),
    ]
    rows = tuning_ledger(records)
    assert [*zip(rows["selection"], rows["selection_split"], strict=True)] == [
        ("fixed", ""),
        ("oracle", "test"),
        ("validation", "val"),
    ]


def test_seconds_are_those_of_all_ranks(make_record: Any) -> None:
    cpu = tried(make_record, 1, timings={"train": 2.0, "score": 1.0})
    cpu["engine"] = {"device": "cpu", "world_size": 2, "threads": 3}
    gpu = tried(make_record, 2, timings={"train": 5.0})
    gpu["engine"] = {"device": "cuda", "world_size": 4, "threads": 16}
    (row,) = tuning_ledger([cpu, gpu]).to_dict("records")
    assert (row["core_seconds"], row["gpu_seconds"]) == (18.0, 20.0)


def test_the_order_of_records_changes_nothing(make_record: Any) -> None:
    draw = random.Random(3)
    records = [tried(make_record, n, timings={"train": draw.random()}) for n in range(200)]
    rows = tuning_ledger(records)
    draw.shuffle(records)
    pd.testing.assert_frame_equal(rows, tuning_ledger(records), check_exact=True)


def test_predictions_of_other_systems_are_left_out(make_record: Any) -> None:
    rows = tuning_ledger([make_record(engine={"external": True})])
    assert rows.empty and tuple(rows.columns) == LEDGER_COLUMNS
