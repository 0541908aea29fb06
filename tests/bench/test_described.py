"""Descriptions: named by a study or a dataset, read in training alone, part of the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bench.cell import run_cell
from bench.cell_spec import Cell
from bench.described import undescribed
from bench.loaded import Inputs
from bench.study import Study, load_study
from bench.study_file import StudyError
from bench.train import Engine
from data_recipes.core.build import build_dataset
from data_recipes.core.model import DataError
from data_recipes.core.write import file_sha256
from tests.cells import tiny_cells
from tests.tiny import (
    COLOURS,
    NUMBERS,
    TinyRecipe,
    classification,
    composed,
    image_id,
    image_text,
)

CLASSES = {f"{colour}_square": [f"a {colour} shape", f"it is {colour}"] for colour in COLOURS}
IMAGES = {
    image_id("train", colour, number): [f"{colour}, number {number}"]
    for colour in COLOURS
    for number in NUMBERS["train"]
}
pytestmark = pytest.mark.usefixtures("learners")
TOLD = {"name": "told-coop", "config": {"n_ctx": 2}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "told.json", CLASSES | IMAGES)


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def told(data: Path, folder: Path, **changes: Any) -> list[Cell]:
    study = {"methods": [TOLD], **changes}
    return tiny_cells(data, folder / "cache", **study)


def curve(cell: Cell) -> list[float]:
    result = run_cell(cell)
    assert result is not None
    return [value for _, value in result.record["loss_curve"]]


# -- the study file -------------------------------------------------------------------------------

STUDY = """
name: s
backbone: {model: tiny-clip, random_seed: 0}
datasets: [tiny/composed]
source: tiny/image-text
methods: [told-coop]
shots: [0, 1]
seeds: [1]
"""


def load(folder: Path, data: Path, descriptions: Any) -> Study:
    path = folder / "study.yaml"
    path.write_text(f"{STUDY}descriptions: {json.dumps(descriptions)}\n")
    return load_study(path, data)


def test_files_lie_beside_the_study_or_in_the_working_folder(
    file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(tmp_path, tiny_data, {"tiny": "told.json"}).descriptions == {"tiny": str(file)}
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(StudyError, match=r"descriptions\.tiny: told\.json: no such file, neither"):
        load(other, tiny_data, {"tiny": "told.json"})
    monkeypatch.chdir(tmp_path)
    assert load(other, tiny_data, {"tiny": "told.json"}).descriptions == {"tiny": str(file)}
    near = written(other / "told.json", {"a": ["b"]})
    assert load(other, tiny_data, {"tiny": "told.json"}).descriptions == {"tiny": str(near)}


@pytest.mark.parametrize(
    ("descriptions", "error"),
    [
        (
            {"tyni": "told.json"},
            "descriptions.tyni: not among the study's datasets, nor its source",
        ),
        ({"tiny/composed": "told.json"}, "descriptions.tiny/composed: not among the study's"),
        ({"tiny": 3}, "descriptions.tiny: input should be a valid string, got a number 3"),
        (["told.json"], "descriptions: input should be a valid dictionary"),
        ({"tiny": "broken.json"}, "descriptions.tiny: "),
    ],
)
def test_wrong_entries_are_one_line(
    file: Path, tiny_data: Path, tmp_path: Path, descriptions: Any, error: str
) -> None:
    (tmp_path / "broken.json").write_text('{"red": "no list"}')
    with pytest.raises(StudyError) as caught:
        load(tmp_path, tiny_data, descriptions)
    (found,) = caught.value.errors
    assert found.startswith(error)
    assert "broken" not in str(descriptions) or ("broken.json" in found and "'red'" in found)


# -- the plan -------------------------------------------------------------------------------------


def test_only_training_that_reads_them_has_them_in_its_key(
    file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    study = {"datasets": ["tiny", "tiny/image-text"], "descriptions": {"tiny": str(file)}}
    methods = [TOLD, {"name": "coop", "config": {"n_ctx": 2}}, "zero-shot"]
    cells = told(tiny_data, tmp_path, methods=methods, **study)
    assert len(cells) == 6
    for cell in cells:
        reads = cell.method == "told-coop" and cell.task == "classification"
        assert cell.descriptions == (file_sha256(file) if reads else None)
        assert cell.descriptions_file == (str(file) if reads else None)


def test_the_key_follows_the_content_and_not_the_place(
    file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    moved = written(tmp_path / "moved.json", CLASSES | IMAGES)
    other = written(tmp_path / "other.json", CLASSES | IMAGES | {"red_square": ["red"]})
    first, same, changed = (
        told(tiny_data, tmp_path, descriptions={"tiny": str(path)})[0]
        for path in (file, moved, other)
    )
    assert first.key == same.key and first.training_key == same.training_key
    assert first.key != changed.key and first.training_key != changed.training_key


def test_a_transfer_reads_the_descriptions_of_where_it_learns(
    file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    home, abroad = told(
        tiny_data, tmp_path, evaluate_on=["tiny/composed"], descriptions={"tiny": str(file)}
    )
    assert abroad.trained_on is not None and abroad.training_key == home.training_key
    other = told(
        tiny_data,
        tmp_path,
        datasets=["tiny/image-text"],
        evaluate_on=["tiny"],
    )
    assert [cell.descriptions for cell in other] == [None, None]
    zero = told(tiny_data, tmp_path, source="tiny/image-text", shots=[0])
    assert [cell.descriptions for cell in zero] == [None]


def test_a_method_that_needs_them_without_any_is_one_error(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        told(tiny_data, tmp_path, shots=[1, 2], evaluate_on=["tiny/composed"])
    assert caught.value.errors == [
        "told-coop on tiny/classification: it learns from descriptions, tiny has none; give them "
        "with `descriptions: {tiny: FILE}`"
    ]


@pytest.mark.parametrize(
    ("task", "without", "lacking", "count"),
    [
        ("classification", ["blue_square", "grey_square"], "blue_square", 2),
        ("composed", ["train/green.2"], "train/green.2", 1),
    ],
)
def test_what_lacks_a_description_is_named(
    tiny_data: Path, tmp_path: Path, task: str, without: list[str], lacking: str, count: int
) -> None:
    texts = {k: v for k, v in (CLASSES | IMAGES).items() if k not in without}
    path = written(tmp_path / "part.json", texts)
    with pytest.raises(StudyError) as caught:
        told(tiny_data, tmp_path, datasets=[f"tiny/{task}"], descriptions={"tiny": str(path)})
    (error,) = caught.value.errors
    assert error.startswith(f"told-coop on tiny/{task}: {path} has no description of '{lacking}' (")
    assert f"({count} of those that training meets lack one)" in error


def test_what_training_meets() -> None:
    """Classes, or reference and target images; the evaluated parts need nothing."""
    assert undescribed(classification(), {}) == [*CLASSES]
    assert sorted(undescribed(composed(), {})) == sorted(IMAGES)
    assert undescribed(composed(), dict.fromkeys(IMAGES, ("x",))) == []
    assert undescribed(image_text(), {}) == []


# -- the cells ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "composed"])
def test_training_reads_them(file: Path, tiny_data: Path, tmp_path: Path, task: str) -> None:
    turned = {k: [f"nothing {n}"] for n, k in enumerate(CLASSES | IMAGES)}
    other = written(tmp_path / "turned.json", turned)
    first, second = (
        told(tiny_data, tmp_path, datasets=[f"tiny/{task}"], descriptions={"tiny": str(path)})[0]
        for path in (file, other)
    )
    assert curve(first) == curve(first) != curve(second)


def test_a_file_that_changed_since_the_plan_is_refused(
    file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (cell,) = told(tiny_data, tmp_path, descriptions={"tiny": str(file)})
    written(file, CLASSES | {"red_square": ["another red"]})
    with pytest.raises(DataError, match=r"told\.json: digest .* the descriptions were changed"):
        run_cell(cell)


def test_scoring_gets_none(file: Path, tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = told(tiny_data, tmp_path, descriptions={"tiny": str(file)})
    inputs = Inputs(cell.backbone, cell.backbone_digest, cell.data_root, cell.cache, Engine())
    named = (cell.dataset, cell.dataset_digest, cell.task)
    assert inputs.data(*named).descriptions == {}
    learned = inputs.data(*named, cell.descriptions, cell.descriptions_file).descriptions
    assert learned == {k: tuple(v) for k, v in (CLASSES | IMAGES).items()}


# -- a dataset's own ------------------------------------------------------------------------------


class Told(TinyRecipe):
    """The tiny world, with descriptions of its classes."""

    texts: ClassVar[dict[str, list[str]]] = CLASSES

    def descriptions(self) -> dict[str, list[str]]:
        return self.texts


class ToldAnew(Told):
    texts: ClassVar[dict[str, list[str]]] = CLASSES | {"red_square": ["another red"]}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A data root in which "tiny" comes with descriptions of its classes."""
    build_dataset(Told(), tmp_path / "shards/tiny")
    return tmp_path / "shards"


def test_a_datasets_own_descriptions_serve_where_the_study_names_none(
    own: Path, file: Path, tmp_path: Path
) -> None:
    (cell,) = told(own, tmp_path)
    (named,) = told(own, tmp_path, descriptions={"tiny": str(file)})
    assert cell.descriptions == file_sha256(own / "tiny/descriptions.json")
    assert cell.descriptions_file is None and named.descriptions == file_sha256(file)
    assert np.allclose(curve(cell), curve(named))  # the classes' texts are the same


def test_a_damaged_file_stands_only_in_the_way_of_those_who_read_it(
    own: Path, tmp_path: Path
) -> None:
    (own / "tiny/descriptions.json").write_text("{}")
    assert len(told(own, tmp_path, methods=["coop"])) == 1
    with pytest.raises(DataError, match=r"descriptions\.json: missing or different"):
        told(own, tmp_path)


def test_a_dataset_described_anew_since_the_plan_is_refused(own: Path, tmp_path: Path) -> None:
    (cell,) = told(own, tmp_path)
    build_dataset(ToldAnew(), own / "tiny")
    with pytest.raises(DataError, match=r"tiny: descriptions with digest .* start the study again"):
        run_cell(cell)
