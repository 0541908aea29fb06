"""Which cells a method with a stage gives, and what stands against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cell_spec import Cell
from bench.study import load_study
from bench.study_file import StudyError
from data_recipes.core.build import build_dataset
from data_recipes.core.model import Task
from methods.core.registry import registered
from tests.cells import QUICK, STAGED, staged_cells
from tests.tiny import TinyRecipe, composed

pytestmark = pytest.mark.usefixtures("learners")


class Evaluated(TinyRecipe):
    """A dataset without a training split."""

    name = "tiny-evaluated"

    def tasks(self) -> list[Task]:
        return [replace(composed(), train=None)]


def refused(data: Path, cache: Path, **changes: Any) -> list[str]:
    with pytest.raises(StudyError) as caught:
        staged_cells(data, cache, **changes)
    return caught.value.errors


def test_one_stage_for_all_shots_seeds_and_datasets(tiny_data: Path, tmp_path: Path) -> None:
    stage, *rest = staged_cells(
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
    stage, shot, alone = staged_cells(tiny_data, tmp_path, shots=[0, 2])
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
    cells = staged_cells(tmp_path, tmp_path, datasets=["tiny-evaluated"], shots=[0])
    assert [(c.stage, c.dataset) for c in cells] == [(True, "tiny"), (False, "tiny-evaluated")]


def test_a_stage_belongs_to_its_recipe(tiny_data: Path, tmp_path: Path) -> None:
    def cells(**entry: Any) -> list[Cell]:
        (named,) = STAGED["methods"]
        return staged_cells(tiny_data, tmp_path, methods=[{**named, **entry}])

    before, longer = cells(), cells(stage_training={"steps": 7})
    relabelled, other = cells(label="x"), cells(training={"steps": 7})
    assert longer[0].training is not None and longer[0].training.steps == 7
    for number in (0, 1):
        assert longer[number].key != before[number].key
        assert longer[number].training_key != before[number].training_key
        assert relabelled[number].key == before[number].key
    assert other[0].key == before[0].key and other[1].key != before[1].key


def test_the_studys_training_is_not_the_stages(tiny_data: Path, tmp_path: Path) -> None:
    first, second = (
        staged_cells(tiny_data, tmp_path, training={**QUICK, "lr": r}) for r in (0.1, 0.2)
    )
    assert first[0].key == second[0].key and first[1].key != second[1].key


def test_two_trainings_share_the_stage_and_what_it_scores_alone(
    tiny_data: Path, tmp_path: Path
) -> None:
    (named,) = STAGED["methods"]
    pair = [{**named, "label": "slow"}, {**named, "label": "fast", "training": {"lr": 0.2}}]
    stage, *rest = staged_cells(tiny_data, tmp_path, methods=pair, shots=[0, 1])
    assert [(c.variant, c.shots) for c in rest] == [("slow", 1), ("slow", 0), ("fast", 1)]
    assert {c.after.key for c in rest if c.after} == {stage.key}
    (error,) = refused(tiny_data, tmp_path, methods=pair, shots=[0])
    assert error.startswith("fast and slow are the same on tiny/composed")


def test_a_source_is_needed(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"staged-coop: .*`source: openmoji-source/captions`"):
        staged_cells(tiny_data, tmp_path, source=None)


def test_a_source_without_zero_shots_needs_a_stage(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in the stage of a method that has one"):
        staged_cells(tiny_data, tmp_path, methods=["coop"])
    plain, *found = staged_cells(
        tiny_data, tmp_path, methods=[*STAGED["methods"], "zero-shot", "coop"]
    )
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
    assert len(staged_cells(tiny_data, tmp_path, methods=[grown])) == 2
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
