"""Published numbers beside ours: matched by name and option, never mixed silently."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest

from results.absent import restrict
from results.frames import from_records
from results.gap import GAP_COLUMNS, SYNTHESISED, declared, gaps, options_of
from results.tables import leaderboard
from tests.results.conftest import synthetic_record

RN50 = "RN50-quickgelu/openai"
COOP = {"n_ctx": 16, "class_specific": False, "class_token_position": "end", "ctx_init": None}


def record(**changes: Any) -> dict[str, Any]:
    """CoOp on Caltech101 at 16 shots: 0.92 where 91.83 is published."""
    config = changes.pop("config", COOP)
    fields = {"shots": 16, "accuracy": 0.92, "dataset": "caltech101", "backbone": RN50}
    found = synthetic_record(**{**fields, **changes})
    found["identity"] = {"config": {**config, "text_weight": 0.5}}
    return found


def found(
    records: list[dict[str, Any]], *reproduces: str, options: bool = True
) -> list[dict[str, Any]]:
    board = leaderboard(from_records(records))
    known = options_of(records) if options else None
    frame = gaps(board, known, frozenset(reproduces))
    assert tuple(frame.columns) == GAP_COLUMNS
    return frame.to_dict("records")


def test_the_gap_where_the_same_was_run() -> None:
    (row,) = found([record(seed=seed, accuracy=0.9 + seed / 100) for seed in (1, 2, 3)])
    assert row["label"] == "coop" and row["shots"] == 16 and row["metric"] == "accuracy"
    assert row["ours"] == pytest.approx(0.92) and row["published"] == pytest.approx(0.9183)
    assert row["gap"] == pytest.approx(0.0017) and row["half_width"] > 0
    assert row["same_backbone"] and row["same_protocol"] and row["second_hand"]
    assert row["source"] == "CF" and row["address"].startswith("https://")
    assert row["comparable"] and "not comparable" not in row["note"] and "inferred" in row["note"]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {**COOP, "n_ctx": 4}},
        {"config": {**COOP, "class_specific": True}},
        {"shots": 3},
        {"method": "dcar"},
        {"dataset": "openmoji-roles"},
        {"trained_on": "dtd/classification"},
        {"protocol": "base-to-new/1"},
        {"ablation_of": "coop"},
    ],
    ids=str,
)
def test_what_is_not_the_same_has_no_gap(changes: dict[str, Any]) -> None:
    fields = {name: changes[name] for name in ("trained_on", "ablation_of") if name in changes}
    other = record(**{k: v for k, v in changes.items() if k not in fields})
    other["cell"] |= fields
    assert found([other], "CF") == []


def test_another_backbone_is_shown_on_request_alone_and_marked() -> None:
    stand_in = record(backbone="openmoji-vit")
    assert found([stand_in]) == []
    assert found([stand_in], "DC") == []
    (row,) = found([stand_in], "CF")
    assert (
        not row["comparable"]
        and not row["same_backbone"]
        and row["note"].startswith("other backbone: not comparable")
    )
    assert row["gap"] == pytest.approx(0.0017)


def test_another_split_and_drawn_images_too() -> None:
    val = synthetic_record("text-only", 0, 0, dataset="circo", backbone="ViT-B-32-quickgelu/openai")
    val["cell"] |= {"task": "val", "protocol": "circo/1"}
    val |= {"metrics": {"mAP@5": 0.03}, "headline": "mAP@5"}
    assert found([val]) == []
    (row,) = found([val], "AC")
    assert not row["same_protocol"] and "other split (test): not comparable" in row["note"]
    drawn = copy.deepcopy(val)
    drawn["cell"]["task"] = "test"
    drawn["notes"] = [f"data: {SYNTHESISED}, drawn by the program"]
    assert found([drawn]) == []
    (row,) = found([drawn], "AC")
    assert row["same_backbone"] and row["same_protocol"] and not row["comparable"]
    assert f"{SYNTHESISED}: not comparable" in row["note"]


def test_unknown_options_and_choices_on_the_test_split_are_said() -> None:
    (row,) = found([record()], options=False)
    assert "options not compared" in row["note"]
    chosen = record()
    chosen["cell"] |= {"selection": "oracle", "selection_split": "test"}
    (row,) = found([chosen])
    assert "options chosen on the scored split" in row["note"]


def test_a_record_that_another_study_called_otherwise() -> None:
    stored = record()
    stored["cell"]["variant"] = "theirs"
    expected = [{**stored["cell"], "key": stored["key"], "variant": "m16-end"}]
    board = leaderboard(restrict(from_records([stored]), expected))
    frame = gaps(board, options_of([stored], expected))
    assert frame["label"].tolist() == ["m16-end"] and frame["comparable"].all()


def test_the_order_of_the_records_does_not_matter() -> None:
    records = [record(shots=shots, seed=seed) for shots in (1, 4, 16) for seed in (1, 2)]
    first, second = (found(r) for r in (records, records[::-1]))
    pd.testing.assert_frame_equal(pd.DataFrame(first), pd.DataFrame(second))
    assert [row["shots"] for row in first] == [1, 4, 16]


def test_a_plan_declares_what_it_reproduces() -> None:
    cell = record()["cell"]
    assert declared(None) == declared([cell]) == frozenset()
    assert declared([cell, {**cell, "reproduces": ["CF", "GL"]}]) == {"CF", "GL"}
