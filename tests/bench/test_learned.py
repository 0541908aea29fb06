"""What a stage learned is carried on exactly, wherever it ran, and its record stands apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.cell import run_cell
from bench.cell_spec import Cell
from bench.plan import plan
from bench.run import expected_cells, failure, save_splits, work
from bench.study import Study
from bench.train import Engine
from cluster.queue import LeaseQueue
from cluster.work import Work
from results.report import write_report
from results.store import RecordStore
from tests.cells import QUICK, STAGED, lease, staged_cells, tiny_cells
from tests.learners import register
from tests.ranks import on_ranks
from tests.tiny import TINY_SPEC

pytestmark = pytest.mark.usefixtures("learners")


def test_a_method_that_learns_in_its_stage_alone_is_one_cell(
    tiny_data: Path, tmp_path: Path
) -> None:
    stage, cell = staged_cells(
        tiny_data, tmp_path, methods=[{"name": "source-coop", "config": {"n_ctx": 2}}], shots=[1, 2]
    )
    assert stage.coordinates["trains"] and not cell.coordinates["trains"]
    assert (cell.shots, cell.seed, cell.training, cell.after) == (0, 0, None, stage)
    record = lease(cell, tmp_path / "run")
    assert record["cell"]["trained_on"] == "tiny/image-text" and record["loss_curve"] == []
    result = run_cell(stage)
    assert result is not None
    weights = RecordStore(tmp_path / "run").read_weights(cell.key)
    assert weights is not None and np.array_equal(weights["ctx"], result.weights["ctx"].numpy())


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    names = ("metrics", "tie_rate", "key", "cell", "n_queries", "loss_curve", "notes")
    return {name: record[name] for name in names}


def test_a_cell_alone_trains_its_stage_itself_to_the_same_bits(
    tiny_data: Path, tmp_path: Path
) -> None:
    stage, cell = staged_cells(tiny_data, tmp_path)
    alone = lease(cell, tmp_path / "alone")
    assert "stage_in" not in alone["engine"]
    first = lease(stage, tmp_path / "run")
    assert len(first["loss_curve"]) == 3 and first["cell"]["stage"]
    after = lease(cell, tmp_path / "run")
    assert after["engine"]["stage_in"] == stage.key and len(after["loss_curve"]) == 6
    assert comparable(after) == comparable(alone)
    one, two = (RecordStore(tmp_path / f).read_weights(cell.key) for f in ("alone", "run"))
    assert one is not None and two is not None and np.array_equal(one["ctx"], two["ctx"])


def test_zero_shots_are_the_stage_and_shots_go_on_from_it(tiny_data: Path, tmp_path: Path) -> None:
    stage, shot, alone = staged_cells(tiny_data, tmp_path, shots=[0, 2])
    (plain,) = tiny_cells(
        tiny_data, tmp_path, methods=[{"name": "coop", "config": {"n_ctx": 2}}], datasets=["tiny"]
    )
    results = [run_cell(cell) for cell in (stage, alone, shot, plain)]
    ctx = [result.weights["ctx"].numpy() for result in results if result is not None]
    assert len(ctx) == 4
    assert np.array_equal(ctx[0], ctx[1]) and not np.array_equal(ctx[1], ctx[2])
    curves = [result.record["loss_curve"] for result in results if result is not None]
    assert [len(curve) for curve in curves] == [3, 0, 6, 6]


def test_the_target_starts_where_the_stage_ended(tiny_data: Path, tmp_path: Path) -> None:
    """A step of almost no length leaves the stage's context as it is, at every seed."""
    still = {**QUICK, "steps": 1, "lr": 1e-30, "momentum": 0.0, "weight_decay": 0.0}
    stage, *cells = staged_cells(tiny_data, tmp_path, training=still, seeds=[1, 2])
    first = run_cell(stage)
    assert first is not None and len(cells) == 2
    for cell in cells:
        result = run_cell(cell)
        assert result is not None
        assert np.array_equal(result.weights["ctx"], first.weights["ctx"])


def test_transfer_goes_on_from_the_stage(tiny_data: Path, tmp_path: Path) -> None:
    stage, home, abroad = staged_cells(tiny_data, tmp_path, evaluate_on=["tiny"])
    assert abroad.after == stage and abroad.training_key == home.training_key
    alone = lease(abroad, tmp_path / "alone")
    for cell in (stage, home):
        lease(cell, tmp_path / "run")
    after = lease(abroad, tmp_path / "run")
    assert after["engine"]["trained_in"] == home.key and "stage_in" not in after["engine"]
    assert after["metrics"] == alone["metrics"]
    (own,) = tiny_cells(
        tiny_data, tmp_path, methods=[{"name": "coop", "config": {"n_ctx": 2}}], datasets=["tiny"]
    )
    assert own.training_key != home.training_key


def records_of(engine: Engine, texts: list[str], zero_stage: int) -> list[dict[str, Any]]:
    register()
    engine = replace(engine, zero_stage=zero_stage)
    results = [run_cell(Cell.model_validate_json(text), engine) for text in texts]
    return [result.record for result in results if result is not None]


@pytest.mark.slow
def test_two_ranks_under_zero_3_learn_the_same(tiny_data: Path, tmp_path: Path) -> None:
    cells = staged_cells(tiny_data, tmp_path / "cache", shots=[0, 2], evaluate_on=["tiny"])
    alone = [run_cell(cell) for cell in cells]
    texts = [cell.model_dump_json() for cell in cells]
    pair, nothing = on_ranks(records_of, 2, tmp_path, texts, 3)
    assert nothing == [] and len(pair) == len(cells) == 5
    for one, other in zip(alone, pair, strict=True):
        assert one is not None and other["metrics"] == one.record["metrics"]
        first, second = (np.array(r["loss_curve"]) for r in (one.record, other))
        assert np.allclose(first, second, atol=1e-5)


# -- the run and its report -----------------------------------------------------------------------


def test_cells_wait_for_a_stage_that_runs_too(tiny_data: Path, tmp_path: Path) -> None:
    cells = staged_cells(tiny_data, tmp_path, shots=[0, 2])
    keys = {cell.key for cell in cells}
    stage, *rest = [work(cell, tmp_path, keys) for cell in cells]
    assert stage.needs == () and all(unit.needs == (stage.key,) for unit in rest)
    first = LeaseQueue([Work("long", None, 1e6), stage, *rest]).lease("gang")
    assert first is not None and first.key == stage.key
    assert all(work(cell, tmp_path, keys - {stage.key}).needs == () for cell in cells)


def test_a_stage_draws_no_shots(tiny_data: Path, tmp_path: Path) -> None:
    cells = staged_cells(tiny_data, tmp_path, shots=[0, 2])
    save_splits(cells, tmp_path)
    (split,) = (tmp_path / "splits").iterdir()
    assert split.name.startswith("tiny-composed-") and split.name.endswith("-seed1.json")


def test_the_report_has_a_table_of_stages_and_no_other_trace(
    tiny_data: Path, tmp_path: Path
) -> None:
    planned = plan(
        Study.model_validate(
            {
                "name": "s",
                "backbone": TINY_SPEC.model_dump(),
                "shots": [0, 2],
                "seeds": [1],
                "training": QUICK,
                **STAGED,
            }
        ),
        tiny_data,
        tmp_path,
    )
    out = tmp_path / "run"
    stage = planned.cells[0]
    failed = failure(stage, "Traceback:\nDivergedError: the loss is nan")
    RecordStore(out).write_failure(stage.key, failed)
    write_report(out, out, expected_cells(planned))
    before = (out / "tables" / "leaderboard.md").read_text()
    assert "staged-coop (from tiny/image-text) (stage)" in before and "1 failed" in before
    assert "## tiny/image-text" not in before and "## Stages" not in before
    for cell in planned.cells:
        lease(cell, out)
    write_report(out, out, expected_cells(planned))
    text = (out / "tables" / "leaderboard.md").read_text()
    assert "Missing" not in text and "left out" not in text and "## tiny/image-text" not in text
    score = RecordStore(out).read(stage.key)["metrics"]["recall@1"]
    row = f"| staged-coop | tiny/image-text | recall@1 {100 * score:.1f} | 3 | 64 |"
    assert f"{row}\n" in text.partition("## Stages")[2]
    board = pd.read_csv(out / "tables" / "leaderboard.csv")
    assert set(board["task"]) == {"composed"} and set(board["shots"]) == {0, 2}
