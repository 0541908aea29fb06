"""What recipes over the user's files share: the choice of splits, warnings about files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from data_recipes.core.folders import AnnotationFolder
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask, Task
from data_recipes.core.photos import SplitConfig, chosen_splits, file_warnings, named_images
from tests.pack import DATA, needs_pack, write


class Config(SplitConfig):
    """Three splits."""

    known_splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")


def choose(config: Config, folder: Path) -> list[str]:
    return chosen_splits(config, AnnotationFolder(folder), lambda split: [f"{split}.json"])


def test_lists_and_tuples_in_any_order_are_one_choice() -> None:
    listed = Config.model_validate({"splits": ["test", "val"]})
    assert listed == Config(splits=("val", "test"))
    assert listed.splits == ("val", "test")
    assert Config.model_validate(listed.model_dump(mode="json")) == listed
    assert Config().splits is None


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["vall"], "unknown split 'vall': did you mean val?"),
        (["x"], "unknown split 'x': train, val, test"),
        ([], "names no split"),
        ("val", "tuple"),
    ],
)
def test_a_wrong_choice_is_refused(splits: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"splits": splits})


def test_what_is_there_is_built_unless_splits_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train.json or val.json or test.json there"):
        choose(Config(), tmp_path)
    write(tmp_path / "train.json", [])
    with pytest.raises(DataError, match="leaves nothing to evaluate; add another split: val, test"):
        choose(Config(), tmp_path)
    write(tmp_path / "val.json", [])
    assert choose(Config(), tmp_path) == ["train", "val"]
    assert choose(Config(splits=("val",)), tmp_path) == ["val"]
    with pytest.raises(DataError, match=r"no test.json there"):
        choose(Config(splits=("val", "test")), tmp_path)


def test_images_of_all_parts_are_named_once() -> None:
    def part(name: str, image: str) -> RetrievalTask:
        return RetrievalTask(name, (Query("q", image=image),), (Candidate("c", image="c"),))

    task = Task("t", "composed", "composed/1", part("train", "b"), (part("x", "a"), part("y", "b")))
    assert named_images([task, task]) == ["b", "c", "a"]


@needs_pack
def test_an_official_file_gives_no_warning() -> None:
    assert file_warnings(DATA / "circo/annotations/val.json", "circo", 220) == []


def test_another_file_is_named_with_its_number_of_records(tmp_path: Path) -> None:
    (found,) = file_warnings(write(tmp_path / "val.json", []), "circo", 3)
    assert found.startswith("val.json is not the official file")
    assert found.endswith("it has 3 records, the official one 220")
    (found,) = file_warnings(write(tmp_path / "mine.json", []), "circo", 3)
    assert "records" not in found
