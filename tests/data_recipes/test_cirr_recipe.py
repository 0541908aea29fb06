"""The CIRR recipe: layouts, hard and soft tasks, official counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes.cirr import CIRR, CIRRConfig
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.model import DataError
from data_recipes.core.photos import named_images
from data_recipes.core.recipe import Folders
from tests.pack import DATA, needs_pack, write
from tests.photos import photos

PREFIX = {"train": "train", "val": "dev", "test1": "test1"}


def annotations(root: Path, *splits: str, flat: bool = False) -> Path:
    """Two queries a split over one image set of six and one more image."""
    for split in splits:
        names = [f"{PREFIX[split]}-{number}-0-img0" for number in range(7)]
        level = "34/" if split == "train" else ""
        paths = {name: f"./{PREFIX[split]}/{level}{name}.png" for name in names}
        records: list[dict[str, Any]] = []
        for number, caption in enumerate(("is blue", " ")):
            records.append(
                {
                    "pairid": number,
                    "reference": names[number],
                    "caption": caption,
                    "img_set": {"members": names[:6]},
                }
            )
            if split != "test1":
                records[-1]["target_hard"] = names[5]
                records[-1]["target_soft"] = {names[5]: 1.0, names[4]: 0.5}
        for kind, value in (("cap", records), ("split", paths)):
            place = root if flat else root / {"cap": "captions", "split": "image_splits"}[kind]
            place.mkdir(parents=True, exist_ok=True)
            write(place / f"{kind}.rc2.{split}.json", value)
    return root


def recipe(root: Path, images: Path | None = None, **options: Any) -> CIRR:
    return CIRR(CIRRConfig.model_validate(options), Folders(root, images))


def test_all_splits_give_three_tasks_with_one_training_part(tmp_path: Path) -> None:
    tasks = recipe(annotations(tmp_path, "train", "val", "test1")).tasks()
    assert [(t.name, t.protocol, t.evaluate[0].name) for t in tasks] == [
        ("val", "cirr/1", "val"),
        ("val-soft", "cirr-soft/1", "val"),
        ("test1", "cirr/1", "test1"),
    ]
    hard, soft, test = (task.evaluate[0] for task in tasks)
    assert hard.queries[0].relevant == ("dev-5-0-img0",)
    assert soft.queries[0].credit == (1.0, 0.5)
    assert not any(q.relevant for q in test.queries)
    train = tasks[0].training()
    assert train.name == "train"
    assert {q.group for q in train.queries} == {""}  # shots are counted in total
    assert len(train.candidates) == 7
    assert tasks[1].training() == tasks[2].training() == train
    assert [problem for t in tasks for part in t.parts() for problem in part.problems()] == []


def test_what_a_reader_should_know_is_said(tmp_path: Path) -> None:
    warnings = recipe(annotations(tmp_path, "train", "val")).warnings()
    assert "train has 2 queries, 28225 by the paper" in warnings
    assert "1 blank caption(s) in val: the query is kept" in warnings
    assert any(
        line.startswith("split.rc2.val.json is not")
        and "it has 7 records, the official one 2297" in line
        for line in warnings
    )
    warnings = recipe(tmp_path, splits=["val"]).warnings()
    assert "the train split is not built, so no method can learn on this dataset" in warnings


@pytest.mark.parametrize("start", ["", "captions", "flat", "cirr"])
def test_the_annotations_are_found_in_each_layout(tmp_path: Path, start: str) -> None:
    inside = tmp_path / start if start in ("flat", "cirr") else tmp_path
    annotations(inside, "val", flat=start == "flat")
    root = tmp_path if start == "cirr" else tmp_path / start
    assert [task.name for task in recipe(root).tasks()] == ["val", "val-soft"]


def test_absent_and_unsound_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no cap.rc2.train.json or cap.rc2.val.json .* looked in"):
        recipe(tmp_path).tasks()
    annotations(tmp_path, "train")
    with pytest.raises(DataError, match="the train split alone leaves nothing to evaluate"):
        recipe(tmp_path).tasks()
    annotations(tmp_path, "val")
    (tmp_path / "image_splits/split.rc2.val.json").unlink()
    with pytest.raises(DataError, match=r"no split.rc2.val.json there"):
        recipe(tmp_path).tasks()
    names = [f"dev-{number}-0-img0" for number in range(6)]
    bare: dict[str, Any] = {"pairid": 1, "reference": names[0], "img_set": {"members": names}}
    write(tmp_path / "image_splits/split.rc2.val.json", {name: name for name in names})
    write(tmp_path / "captions/cap.rc2.val.json", [bare | {"caption": "a"}])
    with pytest.raises(DataError, match=r"cap.rc2.val.json: no record has a 'target_hard'"):
        recipe(tmp_path).tasks()
    write(tmp_path / "captions/cap.rc2.val.json", [bare | {"target_hard": names[1]}])
    with pytest.raises(DataError, match=r"cap.rc2.val.json: no record has a 'caption'"):
        recipe(tmp_path).tasks()


@pytest.mark.parametrize("layout", ["as listed", "one folder a split", "flat", "below", "jpg"])
def test_a_build_takes_the_images_from_each_layout(tmp_path: Path, layout: str) -> None:
    root = annotations(tmp_path / "data", "train", "val")
    paths = [path for s in recipe(root).splits.values() for path in s.images.values()]
    names = {
        "as listed": paths,
        "one folder a split": [path.replace("34/", "") for path in paths],
        "flat": [Path(path).name for path in paths],
        "below": [f"img_raw/{path}" for path in paths],
        "jpg": [path.replace(".png", ".jpg") for path in paths],
    }[layout]
    images = photos(tmp_path / "images", names)
    manifest = build_dataset(recipe(root, images), tmp_path / "built")
    assert manifest.images == 14
    assert [(entry.name, entry.trains) for entry in manifest.tasks] == [
        ("val", True),
        ("val-soft", True),
    ]
    assert check_dataset(tmp_path / "built") == []


def test_missing_and_broken_images_are_named(tmp_path: Path) -> None:
    root = annotations(tmp_path / "data", "val")
    images = photos(tmp_path / "images", recipe(root).splits["val"].images.values())
    (images / "dev/dev-0-0-img0.png").unlink()
    broken = images / "dev/dev-1-0-img0.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(DataError) as error:
        build_dataset(recipe(root, images), tmp_path / "built")
    assert "dev/dev-0-0-img0.png" in str(error.value)
    assert "dev/dev-1-0-img0.png" in str(error.value)


@needs_pack
def test_official_counts_of_val_and_test(tmp_path: Path) -> None:
    images = photos(tmp_path / "images", ["dev-1-0-img0.png"])
    found = recipe(DATA / "cirr", images)
    val, soft, test = (task.evaluate[0] for task in found.tasks())
    for part, counts in ((val, (4181, 2297, 132)), (test, (4148, 2315, 137))):
        never = {c.id for c in part.candidates} - {q.image for q in part.queries}
        assert (len(part.queries), len(part.candidates), len(never)) == counts
        assert part.problems() == []
    assert (len(soft.queries), sum(not q.relevant for q in soft.queries)) == (4181, 3)
    assert len(found.images()) == 2297 + 2315
    assert found.images()[0].path.parent == images / "dev"
    assert found.warnings() == [
        "1 blank caption(s) in test1: the query is kept",
        "the train split is not built, so no method can learn on this dataset",
    ]
    assert [t.name for t in recipe(DATA / "cirr", splits=["test1"]).tasks()] == ["test1"]


@needs_pack
@pytest.mark.slow
def test_val_is_built_at_full_count(tmp_path: Path) -> None:
    val = recipe(DATA / "cirr", splits=["val"])
    images = photos(tmp_path / "images", val.splits["val"].images.values())
    manifest = build_dataset(recipe(DATA / "cirr", images, splits=["val"]), tmp_path / "built")
    assert manifest.images == 2297 == len(named_images(val.tasks()))
    counts = [(part.queries, part.candidates) for t in manifest.tasks for part in t.parts]
    assert counts == [(4181, 2297)] * 2
    built = open_dataset(tmp_path / "built").task("val").evaluate[0]
    assert built == val.tasks()[0].evaluate[0]
    gone, broken = images / "dev/dev-244-0-img0.png", images / "dev/dev-1028-1-img1.png"
    gone.unlink()
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(DataError) as error:
        build_dataset(recipe(DATA / "cirr", images, splits=["val"]), tmp_path / "other")
    assert str(gone) in str(error.value) and str(broken) in str(error.value)
