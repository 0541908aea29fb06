"""A stage on a source before the target's data: planned once, run once, carried on exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.cell import run_cell
from bench.cell_spec import Cell
from bench.plan import plan
from bench.run import expected_cells, failure, run_leased, save_splits, work
from bench.study import Study, load_study
from bench.study_file import StudyError
from bench.train import Engine
from cluster.gang import RankContext
from data_recipes.core.build import build_dataset
from data_recipes.core.model import Task
from methods.core.registry import registered
from results.report import write_report
from results.store import RecordStore
from tests.cells import QUICK, tiny_cells
from tests.learners import LEARNERS, register
from tests.ranks import on_ranks
from tests.tiny import TINY_SPEC, TinyRecipe, composed

STAGED: dict[str, Any] = {
    "methods": [{"name": "staged-coop", "config": {"n_ctx": 2}}],
    "datasets": ["tiny/composed"],
    "source": "tiny/image-text",
}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for kind in LEARNERS:
        monkeypatch.setitem(registered(), kind.name, kind)
    yield


class Evaluated(TinyRecipe):
    """A dataset without a training split."""

    name = "tiny-evaluated"

    def tasks(self) -> list[Task]:
        return [replace(composed(), train=None)]


def staged(data: Path, cache: Path, **changes: Any) -> list[Cell]:
    return tiny_cells(data, cache, **{**STAGED, **changes})


def lease(cell: Cell, out: Path) -> dict[str, Any]:
    payload = {"cell": cell.model_dump_json(), "store": str(out)}
    run_leased(payload, RankContext(0, 1, 0, "cpu", "gang0"))
    return RecordStore(out).read(cell.key)


def refused(data: Path, cache: Path, **changes: Any) -> list[str]:
    with pytest.raises(StudyError) as caught:
        staged(data, cache, **changes)
    return caught.value.errors


# -- the plan -------------------------------------------------------------------------------------


def test_one_stage_for_all_shots_seeds_and_datasets(tiny_data: Path, tmp_path: Path) -> None:
    stage, *rest = staged(
        tiny_data, tmp_path, datasets=["tiny", "tiny/composed"], shots=[0, 1, 2], seeds=[1, 2]
    )
    assert stage.stage and stage.after is None
    assert (stage.dataset, stage.task, stage.shots, stage.seed) == ("tiny", "image-text", 0, 0)
    assert stage.trained_on is not None and stage.trained_on.whole
    assert stage.training == registered()["staged-coop"].stage
    draws = [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
    found = [(cell.task, cell.shots, cell.seed) for cell in rest]
    assert sorted(found) == sorted((t, *d) for t in ("classification", "composed") for d in draws)
    assert all(cell.after == stage and not cell.stage for cell in rest)
    assert len({cell.key for cell in rest}) == len(rest)
    assert [cell.training is None for cell in rest] == [cell.shots == 0 for cell in rest]


def test_titles_and_coordinates(tiny_data: Path, tmp_path: Path) -> None:
    stage, shot, alone = staged(tiny_data, tmp_path, shots=[0, 2])
    assert stage.title == "staged-coop, stage on tiny/image-text"
    assert alone.title == "staged-coop from tiny/image-text on tiny/composed"
    assert shot.title == "staged-coop on tiny/composed, 2 shots, seed 1"
    assert [c.coordinates["stage"] for c in (stage, alone, shot)] == [True, False, False]
    assert [c.coordinates["trains"] for c in (stage, alone, shot)] == [True, True, True]
    assert alone.coordinates["trained_on"] == "tiny/image-text"
    assert shot.coordinates["trained_on"] is None


def test_a_dataset_without_training_split_takes_the_stage_alone(
    tiny_data: Path, tmp_path: Path
) -> None:
    build_dataset(Evaluated(), tmp_path / "tiny-evaluated")
    (tmp_path / "tiny").symlink_to(tiny_data / "tiny")
    cells = staged(tmp_path, tmp_path, datasets=["tiny-evaluated"], shots=[0])
    assert [(c.stage, c.dataset) for c in cells] == [(True, "tiny"), (False, "tiny-evaluated")]


def test_a_method_that_learns_in_its_stage_alone_is_one_cell(
    tiny_data: Path, tmp_path: Path
) -> None:
    stage, cell = staged(
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


def test_a_stage_belongs_to_its_recipe(tiny_data: Path, tmp_path: Path) -> None:
    def cells(**entry: Any) -> list[Cell]:
        (named,) = STAGED["methods"]
        return staged(tiny_data, tmp_path, methods=[{**named, **entry}])

    before, longer = cells(), cells(stage_training={"steps": 7})
    relabelled, other = cells(label="x"), cells(training={"steps": 7})
    assert longer[0].training is not None and longer[0].training.steps == 7
    for number in (0, 1):
        assert longer[number].key != before[number].key
        assert longer[number].training_key != before[number].training_key
        assert relabelled[number].key == before[number].key
    assert other[0].key == before[0].key and other[1].key != before[1].key


def test_the_studys_training_is_not_the_stages(tiny_data: Path, tmp_path: Path) -> None:
    first, second = (staged(tiny_data, tmp_path, training={**QUICK, "lr": r}) for r in (0.1, 0.2))
    assert first[0].key == second[0].key and first[1].key != second[1].key


def test_two_trainings_share_the_stage_and_what_it_scores_alone(
    tiny_data: Path, tmp_path: Path
) -> None:
    (named,) = STAGED["methods"]
    pair = [{**named, "label": "slow"}, {**named, "label": "fast", "training": {"lr": 0.2}}]
    stage, *rest = staged(tiny_data, tmp_path, methods=pair, shots=[0, 1])
    assert [(c.variant, c.shots) for c in rest] == [("slow", 1), ("slow", 0), ("fast", 1)]
    assert {c.after.key for c in rest if c.after} == {stage.key}
    (error,) = refused(tiny_data, tmp_path, methods=pair, shots=[0])
    assert error.startswith("fast and slow are the same on tiny/composed")


def test_a_source_is_needed(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"staged-coop: .*`source: openmoji-source/captions`"):
        staged(tiny_data, tmp_path, source=None)


def test_a_source_without_zero_shots_needs_a_stage(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in the stage of a method that has one"):
        staged(tiny_data, tmp_path, methods=["coop"])
    plain, *found = staged(tiny_data, tmp_path, methods=[*STAGED["methods"], "zero-shot", "coop"])
    assert plain.stage
    assert [(c.method, c.after is None) for c in found] == [("staged-coop", False), ("coop", True)]


def test_a_source_that_the_stage_cannot_learn_on_is_one_error(
    tiny_data: Path, tmp_path: Path
) -> None:
    (error,) = refused(tiny_data, tmp_path, source="tiny", datasets=["tiny", "tiny/composed"])
    assert error == (
        "staged-coop: its stage learns on image_text data, and the source tiny/classification is "
        "classification; name another task or dataset with `source:`"
    )


def test_options_that_do_not_fit_the_stage_are_an_error(tiny_data: Path, tmp_path: Path) -> None:
    csc = {"name": "staged-coop", "config": {"n_ctx": 2, "class_specific": True}}
    (error,) = refused(tiny_data, tmp_path, methods=[csc], datasets=["tiny"])
    assert "its stage on tiny/image-text: staged-coop with class_specific does" in error


def test_what_the_stage_learns_must_have_the_same_shape(tiny_data: Path, tmp_path: Path) -> None:
    grown = {"name": "grown-coop", "config": {"n_ctx": 2}}
    assert len(staged(tiny_data, tmp_path, methods=[grown])) == 2
    (error,) = refused(tiny_data, tmp_path, methods=[grown], datasets=["tiny"])
    assert error == (
        "grown-coop on tiny/classification: what its stage learns (grown-coop, stage on "
        "tiny/image-text) has another shape here"
    )


STUDY = """
name: s
backbone: {model: tiny-clip, random_seed: 0}
datasets: [tiny/composed]
source: tiny/image-text
methods: [METHOD]
shots: [1]
seeds: [1]
"""


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (
            "{name: staged-coop, stage_training: {lrr: 1.0}}",
            "methods.0 (staged-coop).stage_training.lrr: unknown key. Did you mean: lr?",
        ),
        (
            "{name: staged-coop, stage_training: {schedule: coop}}",
            "methods.0 (staged-coop).stage_training: schedule 'coop' is counted in epochs",
        ),
        (
            "staged-coop, {name: coop, stage_training: {lr: 1.0}}",
            "methods.1 (coop).stage_training: this method has no stage; remove it",
        ),
        (
            "{name: source-coop, training: {lr: 1.0}}",
            "methods.0 (source-coop).training: this method trains nothing but its stage",
        ),
    ],
)
def test_recipes_of_stages_are_checked(
    tiny_data: Path, tmp_path: Path, method: str, error: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("METHOD", method))
    with pytest.raises(StudyError) as caught:
        load_study(path, tiny_data)
    (found,) = caught.value.errors
    assert found.startswith(error)


# -- the cells ------------------------------------------------------------------------------------


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    names = ("metrics", "tie_rate", "key", "cell", "n_queries", "loss_curve", "notes")
    return {name: record[name] for name in names}


def test_a_cell_alone_trains_its_stage_itself_to_the_same_bits(
    tiny_data: Path, tmp_path: Path
) -> None:
    stage, cell = staged(tiny_data, tmp_path)
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
    stage, shot, alone = staged(tiny_data, tmp_path, shots=[0, 2])
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
    stage, *cells = staged(tiny_data, tmp_path, training=still, seeds=[1, 2])
    first = run_cell(stage)
    assert first is not None and len(cells) == 2
    for cell in cells:
        result = run_cell(cell)
        assert result is not None
        assert np.array_equal(result.weights["ctx"], first.weights["ctx"])


def test_transfer_goes_on_from_the_stage(tiny_data: Path, tmp_path: Path) -> None:
    stage, home, abroad = staged(tiny_data, tmp_path, evaluate_on=["tiny"])
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


def records_of(engine: Engine, texts: list[str]) -> list[dict[str, Any]]:
    register()
    results = [run_cell(Cell.model_validate_json(text), engine) for text in texts]
    return [result.record for result in results if result is not None]


@pytest.mark.slow
def test_two_ranks_learn_the_same(tiny_data: Path, tmp_path: Path) -> None:
    cells = staged(tiny_data, tmp_path / "cache", shots=[0, 2], evaluate_on=["tiny"])
    alone = [run_cell(cell) for cell in cells]
    pair, nothing = on_ranks(records_of, 2, tmp_path, [cell.model_dump_json() for cell in cells])
    assert nothing == [] and len(pair) == len(cells) == 5
    for one, other in zip(alone, pair, strict=True):
        assert one is not None and other["metrics"] == one.record["metrics"]
        first, second = (np.array(r["loss_curve"]) for r in (one.record, other))
        assert np.allclose(first, second, atol=1e-5)


# -- the run and its report -----------------------------------------------------------------------


def test_cells_wait_for_a_stage_that_runs_too(tiny_data: Path, tmp_path: Path) -> None:
    cells = staged(tiny_data, tmp_path, shots=[0, 2])
    keys = {cell.key for cell in cells}
    stage, *rest = [work(cell, tmp_path, keys) for cell in cells]
    assert stage.needs == () and all(unit.needs == (stage.key,) for unit in rest)
    assert stage.cost > max(unit.cost for unit in rest)
    assert all(work(cell, tmp_path, keys - {stage.key}).needs == () for cell in cells)


def test_a_stage_draws_no_shots(tiny_data: Path, tmp_path: Path) -> None:
    cells = staged(tiny_data, tmp_path, shots=[0, 2])
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
    record = RecordStore(out).read(stage.key)
    score, seconds = record["metrics"]["recall@1"], record["timings"]["train"]
    row = f"| staged-coop | tiny/image-text | recall@1 {100 * score:.1f} | 3 | {seconds:.1f} | 64 |"
    assert text.endswith(f"{row}\n")
    board = pd.read_csv(out / "tables" / "leaderboard.csv")
    assert set(board["task"]) == {"composed"} and set(board["shots"]) == {0, 2}
