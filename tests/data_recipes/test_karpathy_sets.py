"""Flickr30k and MS-COCO: tasks, splits, file forms, image names, official counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_recipes import karpathy
from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from data_recipes.karpathy_sets import Coco, CocoConfig, Flickr30k, KarpathyConfig
from tests.pack import DATA, needs_pack
from tests.raw import pictures, write
from tests.worlds import WORLDS


@pytest.fixture
def coco(tmp_path: Path) -> Folders:
    return WORLDS["coco"](tmp_path).folders


@pytest.fixture
def flickr(tmp_path: Path) -> Folders:
    return WORLDS["flickr30k"](tmp_path).folders


def test_the_tasks_and_their_protocols(coco: Folders, flickr: Folders) -> None:
    def protocols(recipe: Coco | Flickr30k) -> dict[str, str]:
        return {task.name: task.protocol for task in recipe.tasks()}

    assert protocols(Coco(folders=coco)) == {
        "5k": "karpathy-5k/1",
        "1k": "karpathy-1k/1",
        "5k-first5": "karpathy-5k-first5/1",
        "1k-first5": "karpathy-1k-first5/1",
        "val": "karpathy-5k/1",
    }
    assert list(protocols(Flickr30k(folders=flickr)).items()) == [
        ("test", "karpathy-1k/1"),
        ("val", "karpathy-5k/1"),
    ]


def test_the_sixth_caption_counts_unless_the_first_five_are_asked_for(coco: Folders) -> None:
    tasks = {task.name: task for task in Coco(folders=coco).tasks()}
    assert [len(part.queries) for part in tasks["5k"].evaluate] == [2, 11]
    assert [len(part.queries) for part in tasks["1k-first5"].evaluate] == [2, 10]
    assert len(tasks["5k"].evaluate[0].queries[1].relevant) == 6


def test_an_image_is_learned_with_all_its_captions(coco: Folders) -> None:
    train = Coco(folders=coco).tasks()[0].training()
    assert (train.name, len(train.queries), len(train.candidates)) == ("train", 4, 20)
    assert {len(query.relevant) for query in train.queries} == {5}
    assert {query.group for query in train.queries} == {""}  # shots count in total
    names = [query.image for query in train.queries]
    assert names[0] == "COCO_train2014_000000000020.jpg"
    assert names[2] == "COCO_val2014_000000000030.jpg"  # restval, after train


def test_restval_is_a_choice(coco: Folders) -> None:
    recipe = Coco(CocoConfig(restval=False), coco)
    train = recipe.tasks()[0].training()
    assert len(train.queries) == 2
    assert len(recipe.images()) == 6
    assert "train has 2 images, officially 82783" in recipe.warnings()


def test_splits_are_a_choice(coco: Folders, flickr: Folders) -> None:
    recipe = Coco(CocoConfig(splits=("test",)), coco)
    assert all(task.train is None for task in recipe.tasks())
    assert len(recipe.images()) == 2
    (task,) = Flickr30k(KarpathyConfig(splits=("val", "train")), flickr).tasks()
    assert task.name == "val" and len(task.training().queries) == 2
    with pytest.raises(DataError, match="nothing to evaluate: neither test nor val"):
        Flickr30k(KarpathyConfig(splits=("train",)), flickr).tasks()


def test_a_split_that_the_file_lacks_is_named(flickr: Folders) -> None:
    assert flickr.annotations is not None
    path = flickr.annotations / "dataset_flickr30k.json"
    raw = json.loads(path.read_text())
    write(path, {"images": [row for row in raw["images"] if row["split"] != "val"]})
    assert [task.name for task in Flickr30k(folders=flickr).tasks()] == ["test"]
    with pytest.raises(DataError, match=r"dataset_flickr30k\.json: has no image of .* 'val'"):
        Flickr30k(KarpathyConfig(splits=("val",)), flickr).tasks()


def listed(split: str, names: list[str]) -> list[dict[str, Any]]:
    return [
        {"image_name": name, "split": split, "captions": [f"{name} {n}." for n in range(5)]}
        for name in names
    ]


def test_one_file_a_split_does_as_well(tmp_path: Path) -> None:
    write(tmp_path / "a/flickr30k_test.json", listed("test", ["1.jpg", "2.jpg"]))
    write(tmp_path / "a/flickr30k_train.json", listed("train", ["3.jpg"]))
    pictures(tmp_path / "i", ["x/1.jpg", "x/2.jpg", "3.jpg"])
    recipe = Flickr30k(folders=Folders(tmp_path / "a", tmp_path / "i"))
    (task,) = recipe.tasks()
    assert [len(part.queries) for part in task.parts()] == [1, 2, 10]
    assert len(recipe.images()) == 3


def test_albef_s_form_names_folders(tmp_path: Path) -> None:
    name = "val2014/COCO_val2014_000000000042.jpg"
    rows = [{"image": name, "caption": [f"A dog {n}." for n in range(5)]}]
    write(tmp_path / "a/coco_test.json", rows)
    folders = Folders(tmp_path / "a", tmp_path / "i")
    for there in (name, "COCO_val2014_000000000042.jpg", "train2017/000000000042.jpg"):
        pictures(tmp_path / "i", [there])
        (image,) = Coco(folders=folders).images()
        assert (image.id, image.path) == (name, tmp_path / "i" / there)
        image.path.unlink()


def test_few_captions_leave_the_first_five_out(tmp_path: Path) -> None:
    rows = listed("test", ["1.jpg"])
    rows[0]["captions"] = ["One.", "Two."]
    write(tmp_path / "mscoco_test.json", rows)
    recipe = Coco(folders=Folders(tmp_path, tmp_path))
    assert [task.name for task in recipe.tasks()] == ["5k", "1k"]
    assert "1 test image(s) with fewer than 5 captions: no first5 tasks" in recipe.warnings()


def test_a_file_of_ids_cannot_be_built_from(tmp_path: Path) -> None:
    write(tmp_path / "coco_test.json", {"42": [1, 2, 3, 4, 5]})
    with pytest.raises(DataError, match="image '42' has a caption without text; a file of ids"):
        Coco(folders=Folders(tmp_path, tmp_path)).tasks()


def test_one_caption_a_record_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "flickr30k_train.json", [{"image": "1.jpg", "caption": "A dog."}])
    write(tmp_path / "flickr30k_test.json", listed("test", ["1.jpg"]))
    with pytest.raises(DataError, match=r"flickr30k_train\.json: .*'caption' is text, expected a"):
        Flickr30k(folders=Folders(tmp_path, tmp_path)).tasks()


def test_no_file_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no flickr30k_train\.json .*looked in"):
        Flickr30k(folders=Folders(tmp_path, tmp_path)).tasks()


@needs_pack
def test_official_counts_of_flickr30k(tmp_path: Path) -> None:
    (tmp_path / "flickr30k_test.json").symlink_to(DATA / "karpathy/maccap_flickr30k_test.json")
    recipe = Flickr30k(folders=Folders(tmp_path, tmp_path))
    (task,) = recipe.tasks()
    to_text, to_image = task.evaluate
    assert (len(to_text.queries), len(to_text.candidates)) == (1000, 5000)
    assert (len(to_image.queries), len(to_image.candidates)) == (5000, 1000)
    assert to_text.problems() == to_image.problems() == []
    assert recipe.warnings() == [
        "the train split is not built, so no method can learn on this dataset"
    ]


@needs_pack
def test_official_counts_of_coco(tmp_path: Path) -> None:
    """Ids of the whole test split with made-up texts, since the sentences are not all here."""
    ids = DATA / "karpathy/eccv_caption/original_image_to_caption.json"
    images = karpathy.read_images(ids)
    rows = [
        {"image_name": f"{image.id}.jpg", "captions": [f"Caption {c}." for c, _ in image.captions]}
        for image in images
    ]
    write(tmp_path / "mscoco_test.json", rows)
    tasks = {task.name: task for task in Coco(folders=Folders(tmp_path, tmp_path)).tasks()}
    official = DATA / "karpathy/maccap_mscoco_test.first1000.json"
    assert len(tasks["5k"].evaluate[0].queries) == 5000
    assert len(tasks["5k"].evaluate[1].queries) == sum(len(i.captions) for i in images)
    assert len(tasks["5k-first5"].evaluate[1].queries) == 25_000
    (tmp_path / "first").mkdir()
    (tmp_path / "first/coco_test.json").symlink_to(official)
    recipe = Coco(folders=Folders(tmp_path / "first", tmp_path))
    sizes = {t.name: [len(p.queries) for p in t.evaluate] for t in recipe.tasks()}
    assert sizes["5k"] == [1000, 5001] and sizes["5k-first5"] == [1000, 5000]
    assert "test has 1000 images, officially 5000" in recipe.warnings()


@needs_pack
@pytest.mark.parametrize(
    ("kind", "name", "images", "texts"),
    [(Coco, "coco", 43, 218), (Flickr30k, "flickr30k", 40, 200)],
)
def test_the_schema_samples(
    tmp_path: Path, kind: type[Coco] | type[Flickr30k], name: str, images: int, texts: int
) -> None:
    sample = DATA / f"karpathy/schema_sample_dataset_{name}.json"
    (tmp_path / f"dataset_{name}.json").symlink_to(sample)
    task = kind(folders=Folders(tmp_path, tmp_path)).tasks()[0]
    assert (len(task.evaluate[0].queries), len(task.evaluate[1].queries)) == (images, texts)
