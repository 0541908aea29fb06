"""The FashionIQ recipe: layouts, tasks, images shared between splits, official counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.model import DataError
from data_recipes.core.photos import named_images
from data_recipes.core.recipe import Folders
from data_recipes.fashioniq import CATEGORIES, FashionIQ, FashionIQConfig
from tests.pack import DATA, needs_pack, write
from tests.photos import photos

VAL = {  # records, split images, VAL gallery, VAL queries; records and split images of test
    "dress": (2017, 3817, 2628, 4034, 2024, 3818),
    "shirt": (2038, 6346, 3089, 4075, 2038, 6346),
    "toptee": (1961, 5373, 2902, 3920, 2056, 5374),
}


def record(reference: str, target: str | None, *captions: str) -> dict[str, Any]:
    found: dict[str, Any] = {"candidate": reference, "captions": list(captions)}
    return found if target is None else found | {"target": target}


def annotations(root: Path, *splits: str, flat: bool = False) -> Path:
    """Three categories of three images; the val image SX0 of toptee is a train image of shirt."""
    for split in splits:
        for category in CATEGORIES:
            start = category[0].upper() + {"train": "R", "val": "V", "test": "T"}[split]
            ids = [f"{start}{number}" for number in range(3)]
            target = None if split == "test" else ids[1]
            records = [record(ids[0], target, "is red", " "), record(ids[2], target, "a.", "b")]
            if (category, split) in (("shirt", "train"), ("toptee", "val")):
                ids.append("SX0")
                records.append(record("SX0", target, "c", "d"))
            for kind, value in (("cap", records), ("split", ids)):
                place = root if flat else root / {"cap": "captions", "split": "image_splits"}[kind]
                place.mkdir(parents=True, exist_ok=True)
                write(place / f"{kind}.{category}.{split}.json", value)
    return root


def recipe(root: Path, images: Path | None = None, **options: Any) -> FashionIQ:
    return FashionIQ(FashionIQConfig.model_validate(options), Folders(root, images))


def test_all_splits_give_three_tasks_with_one_training_part(tmp_path: Path) -> None:
    tasks = recipe(annotations(tmp_path, "train", "val", "test")).tasks()
    assert [(t.name, t.protocol) for t in tasks] == [
        ("original", "fashioniq-original/1"),
        ("val", "fashioniq-val/1"),
        ("test", "fashioniq-original/1"),
    ]
    assert all([part.name for part in t.evaluate] == list(CATEGORIES) for t in tasks)
    assert [len(part.queries) for part in tasks[0].evaluate] == [2, 2, 3]
    assert [len(part.queries) for part in tasks[1].evaluate] == [3, 3, 5]
    assert not any(q.relevant for part in tasks[2].evaluate for q in part.queries)
    assert [problem for t in tasks for part in t.parts() for problem in part.problems()] == []
    original = tasks[0].training()
    assert [q.id for q in original.queries] == [f"{c}/{i}" for c in CATEGORIES for i in range(2)]
    assert [q.group for q in original.queries[::2]] == list(CATEGORIES)
    assert [q.id for q in tasks[1].training().queries][:3] == [
        "dress/0/0",
        "dress/1/0",
        "dress/1/1",
    ]
    assert tasks[2].training() == original


def test_train_records_with_an_evaluated_image_are_left_out_or_kept(tmp_path: Path) -> None:
    root = annotations(tmp_path, "train", "val")
    strict, loose = recipe(root), recipe(root, leak="keep")
    assert strict.leaked == {"val": {"SX0"}}
    assert "SX0" not in {c.id for c in strict.tasks()[0].training().candidates}
    assert [q.id for q in loose.tasks()[0].training().queries if q.image == "SX0"] == ["shirt/2"]
    assert [q.image for q in strict.tasks()[0].training().queries].count("SX0") == 0
    assert "1 train records that use an evaluated image are left out" in strict.warnings()
    assert "1 train records that use an evaluated image were kept (leak: keep)" in loose.warnings()
    told = "1 images of the train split are val images of another category"
    assert told in strict.warnings() and told in loose.warnings()


def test_without_train_files_nothing_can_be_learnt_and_that_is_said(tmp_path: Path) -> None:
    found = recipe(annotations(tmp_path, "val"))
    assert all(task.train is None for task in found.tasks())
    warnings = "\n".join(found.warnings())
    assert "the train split is not built, so no method can learn" in warnings
    assert "cap.dress.val.json is not the official file" in warnings
    assert "it has 2 records, the official one 2017" in warnings
    assert warnings.count("1 blank caption(s) in") == 3


@pytest.mark.parametrize(
    ("joined", "text"),
    [("clip4cir", "A and b"), ("pic2word", "b and a."), ("searle", "a and b"), ("concat", "a.b")],
)
def test_the_join_reaches_the_queries_of_all_parts(tmp_path: Path, joined: str, text: str) -> None:
    task = recipe(annotations(tmp_path, "train", "val"), join=joined).tasks()[0]
    queries = [part.queries[1] for part in task.parts()]
    assert {q.text for q in queries} == {text}
    texts = [["a and b", "b and a"]] * 4 if joined == "searle" else [None] * 4
    assert [q.meta.get("texts") for q in queries] == texts


@pytest.mark.parametrize("start", ["", "captions", "image_splits", "flat"])
def test_the_annotations_are_found_in_each_layout(tmp_path: Path, start: str) -> None:
    root = annotations(
        tmp_path / start if start == "flat" else tmp_path, "val", flat=start == "flat"
    )
    assert len(recipe(root if start in ("", "flat") else root / start).tasks()) == 2


def test_an_absent_file_is_one_error_that_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no cap.dress.train.json or .* looked in .*image_splits"):
        recipe(tmp_path).tasks()
    root = annotations(tmp_path, "val")
    (root / "image_splits/split.shirt.val.json").unlink()
    with pytest.raises(DataError, match=r"no split.shirt.val.json there; looked in"):
        recipe(root).tasks()
    with pytest.raises(DataError, match=r"no cap.dress.test.json there"):
        recipe(root, splits=["test"]).tasks()


def test_targets_may_be_withheld_in_test_only(tmp_path: Path) -> None:
    root = annotations(tmp_path, "val")
    write(root / "captions/cap.dress.val.json", [record("DV0", None, "a", "b")])
    with pytest.raises(DataError, match=r"cap.dress.val.json: no record has a 'target'"):
        recipe(root).tasks()


@pytest.mark.parametrize("layout", ["{}.jpg", "images/{}.png", "{category}/{}.jpg"])
def test_a_build_takes_the_images_from_each_layout(tmp_path: Path, layout: str) -> None:
    root = annotations(tmp_path / "data", "train", "val")
    folders = {"D": "dress", "S": "shirt", "T": "toptee"}
    ids = named_images(recipe(root, leak="keep").tasks())
    names = [layout.format(i, category=folders[i[0]]) for i in ids]
    if "category" in layout:
        names.append("toptee/SX0.jpg")  # shared images lie in both folders
    images = photos(tmp_path / "images", names)
    manifest = build_dataset(recipe(root, images, leak="keep"), tmp_path / "built")
    assert manifest.images == len(ids) == 3 * 6 + 1
    assert manifest.config["leak"] == "keep"
    assert [entry.trains for entry in manifest.tasks] == [True, True]
    assert check_dataset(tmp_path / "built") == []


def test_missing_and_broken_images_are_named(tmp_path: Path) -> None:
    root = annotations(tmp_path / "data", "val")
    names = [f"{i}.jpg" for i in named_images(recipe(root).tasks())]
    images = photos(tmp_path / "images", names)
    (images / "DV1.jpg").unlink()
    (images / "SX0.jpg").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"2 .*") as error:
        build_dataset(recipe(root, images), tmp_path / "built")
    assert "DV1.jpg" in str(error.value) and "SX0.jpg" in str(error.value)
    (images / "old").mkdir()
    (images / "old/DV2.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"'DV2.jpg' is there 2 times"):
        recipe(root, images).images()


def test_options_are_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Input should be 'exclude' or 'keep'"):
        recipe(tmp_path, leak="drop")
    with pytest.raises(ValueError, match="start_kit"):
        recipe(tmp_path, join="none")


@needs_pack
def test_official_counts_of_val_and_test(tmp_path: Path) -> None:
    images = photos(tmp_path / "images", ["B.jpg"])
    found = recipe(DATA / "fashioniq", images)
    original, val, test = found.tasks()
    for task, columns in ((original, (0, 1)), (val, (3, 2)), (test, (4, 5))):
        for part in task.evaluate:
            counts = tuple(VAL[part.name][column] for column in columns)
            assert (len(part.queries), len(part.candidates)) == counts
            assert part.problems() == []
    assert [sum(len(p.queries) for p in t.evaluate) for t in (original, test)] == [6016, 6118]
    assert [sum(len(p.candidates) for p in t.evaluate) for t in (original, test)] == [15536, 15538]
    assert len(named_images([original, val])) == 15415
    assert len(found.images()) == 15415 + 15417 - 266  # val and test share 266 images
    assert {len(v) for k, s in found.splits.items() for v in s.images.values() if k == "val"} == {
        3817,
        6346,
        5373,
    }
    blank = [line for line in found.warnings() if "blank" in line]
    assert sorted(line.split(":")[0] for line in blank) == [
        "1 blank caption(s) in shirt test",
        "1 blank caption(s) in shirt val",
        "2 blank caption(s) in toptee val",
    ]
    assert not [line for line in found.warnings() if "official" in line]


def partial_train(folder: Path) -> Path:
    """The official folder with the first 1000 train records of each category."""
    for source in (DATA / "fashioniq").glob("*/*.json"):
        target = folder / source.parent.name / source.name.replace(".first1000", "")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    return folder


@needs_pack
def test_811_train_images_are_val_images_of_another_category(tmp_path: Path) -> None:
    root = partial_train(tmp_path)
    found = recipe(root)
    assert {name: len(images) for name, images in found.leaked.items()} == {"val": 811, "test": 803}
    train = found.splits["train"]
    assert [len(row) for row in train.images.values()] == [11452, 19036, 16121]
    assert len(train.all_images()) == 45429
    # Counted in the first 1000 records: 0 of dress, 40 of shirt, 57 of toptee.
    exclude = recipe(root, splits=["train", "val"]).tasks()[0].training()
    keep = recipe(root, splits=["train", "val"], leak="keep").tasks()[0].training()
    assert (len(exclude.queries), len(keep.queries)) == (3000 - 97, 3000)
    assert exclude.problems() == []
    evaluated = found.splits["val"].all_images()
    assert not evaluated.intersection(exclude.image_ids())
    assert evaluated.intersection(keep.image_ids())
    assert any("3 blank caption(s) in toptee train" in line for line in found.warnings())
    assert any("cap.toptee.train.json is not the official" in line for line in found.warnings())


@needs_pack
@pytest.mark.slow
def test_val_is_built_at_full_count(tmp_path: Path) -> None:
    ids = named_images(recipe(DATA / "fashioniq", splits=["val"]).tasks())
    images = photos(tmp_path / "images", (f"{i}.jpg" for i in ids))
    manifest = build_dataset(recipe(DATA / "fashioniq", images, splits=["val"]), tmp_path / "built")
    assert manifest.images == 15415
    assert manifest.config["splits"] == ["val"]
    parts = {(t.name, p.name): (p.queries, p.candidates) for t in manifest.tasks for p in t.parts}
    assert parts == {
        **{("original", c): VAL[c][:2] for c in CATEGORIES},
        **{("val", c): (VAL[c][3], VAL[c][2]) for c in CATEGORIES},
    }
    assert not open_dataset(tmp_path / "built").manifest.missing
    (images / f"{ids[7]}.jpg").unlink()
    (images / f"{ids[9]}.jpg").write_bytes(b"")
    with pytest.raises(DataError) as error:
        build_dataset(recipe(DATA / "fashioniq", images, splits=["val"]), tmp_path / "other")
    assert f"{ids[7]}.jpg" in str(error.value) and f"{ids[9]}.jpg" in str(error.value)
