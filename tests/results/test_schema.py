"""What a record may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from results.schema import RecordError, from_json, to_json


def test_round_trip(make_record: Any) -> None:
    assert from_json(to_json(make_record())) == make_record()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"metrics": {"accuracy": float("nan")}}, "metrics.accuracy is nan"),
        ({"loss_curve": [[0, 1.0], [1, float("inf")]]}, r"loss_curve\[1\]\[1\] is inf"),
        ({"identity": {"a": [{"b": float("-inf")}]}}, r"identity.a\[0\].b is -inf"),
        ({"memory": {"peak": np.float32(1)}}, "memory.peak is a float32"),
        ({"engine": {"path": object()}}, "engine.path is a object"),
        ({"provenance": {3: "x"}}, "provenance has the key 3"),
    ],
)
def test_values_json_cannot_hold(make_record: Any, changes: dict[str, Any], path: str) -> None:
    with pytest.raises(RecordError, match=path):
        to_json(make_record(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"metrics": {"accuracy": 45.1}}, "metrics.accuracy: .*less than"),
        ({"headline": "recall@7"}, "headline 'recall@7' is not among the metrics"),
        ({"n_queries": "200"}, "n_queries: .*integer"),
        ({"n_queries": 0}, "n_queries"),
        ({"shots": 1, "trains": False}, "cell: .*shots 0 and seed 0"),
        ({"shots": 0, "trains": True}, "cell: .*do not train"),
        ({"seed": 1.5}, "cell.seed"),
    ],
)
def test_wrong_fields_are_named(make_record: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        to_json(make_record(**changes))


@pytest.mark.parametrize("field", ["key", "cell", "metrics", "provenance", "notes", "tie_rate"])
def test_missing_fields_are_named(make_record: Any, field: str) -> None:
    record = make_record()
    del record[field]
    with pytest.raises(RecordError, match=f"{field}: Field required"):
        to_json(record)
