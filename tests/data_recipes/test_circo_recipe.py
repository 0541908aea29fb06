"""The CIRCO recipe: the gallery's two sources, the queries' two texts, official counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes.circo import CIRCO, CIRCOConfig
from data_recipes.core import strict_json
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset
from data_recipes.core.model import DataError
from data_recipes.core.recipe import Folders
from tests.pack import DATA, needs_pack, write
from tests.photos import photos

GALLERY = "image_info_unlabeled2017.json"
IMAGES = [f"{number:012d}.jpg" for number in (3, 1, 2, 40)]


def annotations(root: Path, *splits: str, gallery: str | None = GALLERY) -> Path:
    """One query a split; `gallery` is where COCO's list lies, None leaves it out."""
    (root / "annotations").mkdir(parents=True)
    for split in splits:
        record: dict[str, Any] = {
            "id": 0,
            "reference_img_id": 1,
            "relative_caption": "has a hat",
            "shared_concept": "shows a dog",
        }
        if split == "val":
            record |= {"target_img_id": 2, "gt_img_ids": [2, 3], "semantic_aspects": ["negation"]}
        write(root / f"annotations/{split}.json", [record])
    if gallery is not None:
        (root / gallery).parent.mkdir(parents=True, exist_ok=True)
        write(root / gallery, {"images": [{"id": int(name[:12])} for name in IMAGES]})
    return root


def recipe(root: Path, images: Path | None = None, **options: Any) -> CIRCO:
    return CIRCO(CIRCOConfig.model_validate(options), Folders(root, images))


def test_val_and_test_rank_the_whole_gallery_and_train_nothing(tmp_path: Path) -> None:
    tasks = recipe(annotations(tmp_path, "val", "test")).tasks()
    assert [(t.name, t.protocol, t.train) for t in tasks] == [
        ("val", "circo/1", None),
        ("test", "circo/1", None),
    ]
    val, test = (task.evaluate[0] for task in tasks)
    assert [c.id for c in val.candidates] == ["3", "1", "2", "40"]
    assert val.candidates == test.candidates
    assert (val.queries[0].relevant, test.queries[0].relevant) == (("2", "3"), ())
    assert val.queries[0].text == "has a hat"
    assert val.problems() == test.problems() == []


def test_the_shared_concept_is_a_named_choice(tmp_path: Path) -> None:
    found = recipe(annotations(tmp_path, "val"), text="shared-concept")
    (query,) = found.tasks()[0].evaluate[0].queries
    assert query.text == "Find a picture that also shows a dog, but has a hat"
    assert any("not comparable with the caption alone" in line for line in found.warnings())


@pytest.mark.parametrize(
    ("gallery", "start"),
    [
        (GALLERY, ""),
        (GALLERY, "annotations"),
        (f"annotations/{GALLERY}", ""),
        (f"annotations/{GALLERY}", "annotations"),
        (f"COCO2017_unlabeled/annotations/{GALLERY}", ""),
        (f"COCO2017_unlabeled/annotations/{GALLERY}", "annotations"),
    ],
)
def test_the_image_list_is_found_in_each_layout(tmp_path: Path, gallery: str, start: str) -> None:
    annotations(tmp_path, "val", gallery=gallery)
    assert recipe(tmp_path / start).gallery == ["3", "1", "2", "40"]


def test_without_the_image_list_the_way_out_is_said(tmp_path: Path) -> None:
    root = annotations(tmp_path / "data", "val", gallery=None)
    images = photos(tmp_path / "images", ["a/" + name for name in IMAGES])
    with pytest.raises(DataError, match=r"no image_info_unlabeled2017.json.*gallery=folder"):
        recipe(root, images).tasks()
    found = recipe(root, images, gallery="folder")
    assert [c.id for c in found.tasks()[0].evaluate[0].candidates] == ["1", "2", "3", "40"]
    assert any("the gallery is the 4 images of the image folder" in w for w in found.warnings())
    photos(images, ["cat.jpg", "dog.jpg"])
    with pytest.raises(DataError, match=r"cat.jpg is not named by a COCO id .*and 1 more"):
        recipe(root, images, gallery="folder").tasks()


def test_a_ground_truth_outside_the_folder_is_refused(tmp_path: Path) -> None:
    root = annotations(tmp_path / "data", "val", gallery=None)
    images = photos(tmp_path / "images", IMAGES[:2])
    with pytest.raises(DataError, match=r"record 0 \(id 0\): .* names '2', which is not in the"):
        recipe(root, images, gallery="folder").tasks()


def test_withheld_targets_are_for_test_only(tmp_path: Path) -> None:
    root = annotations(tmp_path, "test")
    (root / "annotations/test.json").rename(root / "annotations/val.json")
    with pytest.raises(DataError, match=r"val.json: no record has 'gt_img_ids'"):
        recipe(root).tasks()


@pytest.mark.parametrize("lacking", ["relative_caption", "shared_concept"])
def test_a_text_that_is_lacking_is_refused(tmp_path: Path, lacking: str) -> None:
    root = annotations(tmp_path, "test")
    record = {"id": 0, "reference_img_id": 1, "relative_caption": "a", "shared_concept": "b"}
    del record[lacking]
    write(root / "annotations/test.json", [record])
    with pytest.raises(DataError, match=rf"test.json: no record has a '{lacking}'"):
        recipe(root, text="shared-concept").tasks()


def test_a_build_stores_the_gallery_and_tells_its_size(tmp_path: Path) -> None:
    root = annotations(tmp_path / "data", "val", "test")
    images = photos(tmp_path / "images", ["unlabeled2017/" + name for name in IMAGES])
    manifest = build_dataset(recipe(root, images), tmp_path / "built")
    assert manifest.images == 4
    assert "the gallery has 4 images, COCO 2017 unlabeled 123403" in manifest.warnings
    assert [entry.trains for entry in manifest.tasks] == [False, False]
    assert check_dataset(tmp_path / "built") == []
    (images / "unlabeled2017" / IMAGES[0]).unlink()
    with pytest.raises(DataError, match=r"000000000003\.jpg"):
        build_dataset(recipe(root, images), tmp_path / "other")


@needs_pack
def test_official_counts(tmp_path: Path) -> None:
    """The gallery's list is not in the pack; here it holds the ids that the annotations name."""
    files = {split: DATA / f"circo/annotations/{split}.json" for split in ("val", "test")}
    raw = [record for path in files.values() for record in strict_json.read(path)]
    ids = sorted({i for r in raw for i in (r["reference_img_id"], *r.get("gt_img_ids", []))})
    for path in files.values():
        (tmp_path / path.name).symlink_to(path)
    write(tmp_path / GALLERY, {"images": [{"id": i} for i in ids]})
    found = recipe(tmp_path, photos(tmp_path / "images", ["000000000001.jpg"]))
    val, test = (task.evaluate[0] for task in found.tasks())
    assert (len(val.queries), len(test.queries)) == (220, 800)
    assert sum(len(q.relevant) for q in val.queries) == 916
    assert all(q.credit[0] == 1.0 and sum(q.credit) == 1.0 for q in val.queries)
    assert len(val.candidates) == len(test.candidates) == len(found.images()) == len(ids)
    assert found.warnings() == [f"the gallery has {len(ids)} images, COCO 2017 unlabeled 123403"]
    (query, *_) = recipe(tmp_path, text="shared-concept").tasks()[0].evaluate[0].queries
    assert query.text == (
        f"Find a picture that also {raw[0]['shared_concept']}, but {raw[0]['relative_caption']}"
    )
