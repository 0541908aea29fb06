"""The GeneCIS recipe: crops as the official code cuts them, layouts, official counts."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import check_dataset, open_dataset
from data_recipes.core.images import ImageFile
from data_recipes.core.model import DataError
from data_recipes.core.protocol import GENECIS_TASKS
from data_recipes.core.recipe import Folders
from data_recipes.genecis import BoxesOfImage, GeneCIS, GeneCISConfig
from tests.pack import DATA, needs_pack, write
from tests.photos import jpeg, photos

Picture = Image.Image
COUNTS = {  # templates, gallery with target, distinct images, conditions
    "focus_attribute": (2000, 10, 13348, 40),
    "change_attribute": (2112, 15, 15058, 400),
    "focus_object": (1960, 15, 2198, 97),
    "change_object": (1960, 15, 2739, 109),
}


def annotations(root: Path, *tasks: str, ending: str = ".json") -> Path:
    """One template a task; the attribute tasks share the box of image 23."""
    root.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        if "attribute" in task:
            images = [
                {"image_id": "23", "instance_bbox": [2, 3.5, 6, 5]},
                {"image_id": "24", "instance_bbox": [-1, 0, 9, 9]},
                {"image_id": "23", "instance_bbox": [8, 8, 8, 8]},
            ]
        else:
            images = [{"val_image_id": number} for number in (7, 8, 139)]
        reference, target, other = images
        record = {"condition": "colour", "reference": reference, "target": target}
        write(root / f"{task}{ending}", [record | {"gallery": [other]}])
    return root


def recipe(root: Path, images: Path | None = None, **options: Any) -> GeneCIS:
    return GeneCIS(GeneCISConfig.model_validate(options), Folders(root, images))


def official_crop(image: Picture, box: list[float]) -> Picture:
    """datasets/vaw_dataset.py, `load_cropped_image` and `expand2square` written out."""
    x, y, w, h = box
    left, top = max(0, x - 0.7 * w), max(0, y - 0.7 * h)
    right = min(image.width, left + 1.7 * w)
    bottom = min(image.height, top + 1.7 * h)
    cut = image.crop((left, top, right, bottom))  # type: ignore[arg-type, unused-ignore]
    if cut.width == cut.height:
        return cut
    side = max(cut.size)
    square = Image.new(cut.mode, (side, side), (0, 0, 0))
    across = (side - cut.width) // 2 if cut.height > cut.width else 0
    down = (side - cut.height) // 2 if cut.width > cut.height else 0
    square.paste(cut, (across, down))
    return square


def noise(folder: Path, width: int = 60, height: int = 40) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = folder / "23.png"
    if not path.is_file():
        Image.fromarray(pixels).save(path)
    return path


def pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.floats(-3, 50), st.floats(-3, 30), st.floats(1, 60), st.floats(1, 40)))
def test_the_crop_is_the_official_one_to_the_pixel(
    tmp_path_factory: pytest.TempPathFactory, box: tuple[float, float, float, float]
) -> None:
    path = noise(tmp_path_factory.getbasetemp())
    with Image.open(path) as image:
        expected = np.asarray(official_crop(image, list(box)))
    (stored,) = BoxesOfImage(path, (("b", box),)).load(None)
    assert stored.extension == "png"
    assert np.array_equal(pixels(stored.data), expected)


def test_the_other_crops(tmp_path: Path) -> None:
    path = noise(tmp_path)
    whole = pixels(path.read_bytes())
    boxes = (("a", (10.0, 5.0, 20.0, 12.0)), ("b", (-2.0, 0.0, 10.0, 10.0)))
    plain = [pixels(image.data) for image in BoxesOfImage(path, boxes, "plain").load(None)]
    assert plain[0].shape == (20, 20, 3)
    assert np.array_equal(plain[0][4:16], whole[5:17, 10:30])
    assert not plain[0][:4].any()
    assert np.array_equal(plain[1][:, 2:], whole[:10, :8]) and not plain[1][:, :2].any()
    none = BoxesOfImage(path, boxes, "none")
    assert [image.data for image in none.load(None)] == [path.read_bytes()] * 2
    assert none.ids == tuple(image.id for image in none.load(None)) == ("a", "b")
    assert {pixels(image.data).shape for image in none.load(20)} == {(20, 30, 3)}


def test_a_smaller_size_is_the_crops(tmp_path: Path) -> None:
    boxes = (("a", (10.0, 5.0, 20.0, 12.0)), ("b", (10.0, 5.0, 5.0, 5.0)))
    large, small = BoxesOfImage(noise(tmp_path), boxes).load(16)
    assert (pixels(large.data).shape, pixels(small.data).shape) == ((16, 16, 3), (9, 9, 3))


def test_a_source_is_known_by_file_boxes_and_crop_and_can_be_sent_to_a_worker(
    tmp_path: Path,
) -> None:
    path = noise(tmp_path)
    one = BoxesOfImage(path, (("a", (0.0, 0.0, 5.0, 5.0)),))
    others = [
        BoxesOfImage(path, (("a", (0.0, 0.0, 5.0, 6.0)),)),
        BoxesOfImage(path, one.boxes, "plain"),
        BoxesOfImage(tmp_path / "24.png", one.boxes),
    ]
    assert len({source.fingerprint() for source in [one, *others]}) == 4
    assert pickle.loads(pickle.dumps(one)) == one
    assert pickle.loads(pickle.dumps(one)).fingerprint() == one.fingerprint()


@pytest.mark.parametrize("crop", ["official", "plain"])
@pytest.mark.parametrize("box", [(70.0, 1.0, 5.0, 5.0), (1.0, 70.0, 5.0, 5.0)])
def test_a_box_outside_the_image_is_refused(
    tmp_path: Path, crop: Any, box: tuple[float, float, float, float]
) -> None:
    with pytest.raises(DataError, match=r"23.png: the box .* has no pixel in .* 60 x 40"):
        BoxesOfImage(noise(tmp_path), (("a", box),), crop).load(None)


def test_all_files_give_four_tasks_and_their_average(tmp_path: Path) -> None:
    tasks = recipe(annotations(tmp_path, *GENECIS_TASKS)).tasks()
    assert [(task.name, task.protocol) for task in tasks] == [
        ("focus-attribute", "genecis-focus-attribute/1"),
        ("change-attribute", "genecis-change-attribute/1"),
        ("focus-object", "genecis-focus-object/1"),
        ("change-object", "genecis-change-object/1"),
        ("average", "genecis/1"),
    ]
    assert [part.name for part in tasks[-1].evaluate] == list(GENECIS_TASKS)
    assert all(task.train is None for task in tasks)
    assert {q.group for task in tasks for q in task.evaluate[0].queries} == {"colour"}


def test_the_files_that_are_there_are_taken(tmp_path: Path) -> None:
    annotations(tmp_path / "genecis", "focus_object")
    annotations(tmp_path / "genecis", "focus_attribute", ending=".min.json")
    assert [t.name for t in recipe(tmp_path).tasks()] == ["focus-attribute", "focus-object"]
    assert [t.name for t in recipe(tmp_path, splits=["focus_object"]).tasks()] == ["focus-object"]
    with pytest.raises(DataError, match=r"no change_object.json there; looked in .*genecis"):
        recipe(tmp_path, splits=["change_object"]).tasks()
    annotations(tmp_path / "genecis", "focus_attribute")
    with pytest.raises(DataError, match=r"two files could be focus_attribute.json: .*min.json"):
        recipe(tmp_path).tasks()


def test_warnings_name_strange_files_and_another_crop(tmp_path: Path) -> None:
    annotations(tmp_path, "focus_object", "focus_attribute")
    found = recipe(tmp_path, crop="plain").warnings()
    assert sum("it has 1 records, the official one" in line for line in found) == 2
    assert found[-1] == "crop: plain, which is not the official crop"
    assert "crop" not in str(recipe(tmp_path, crop="none", splits=["focus_object"]).warnings())


@pytest.mark.parametrize(
    ("visual_genome", "coco"),
    [("vg", "coco"), (".", "."), ("vg/VG_100K", "coco/val2017")],
)
def test_a_build_stores_crops_and_whole_images(
    tmp_path: Path, visual_genome: str, coco: str
) -> None:
    root = annotations(tmp_path / "data", *GENECIS_TASKS)
    second = "vg/VG_100K_2" if "100K" in visual_genome else visual_genome
    names = [f"{visual_genome}/23.jpg", f"{second}/24.jpg"]
    names += [f"{coco}/{number:012d}.jpg" for number in (7, 8, 139)]
    images = photos(tmp_path / "images", names)
    manifest = build_dataset(recipe(root, images), tmp_path / "built")
    assert manifest.images == 3 + 3
    assert [t.name for t in manifest.tasks][-1] == "average"
    assert check_dataset(tmp_path / "built") == []
    dataset = open_dataset(tmp_path / "built")
    ids = ["23:2,3.5,6,5", "23:8,8,8,8", "139"]
    with Image.open(images / names[0]) as photo:
        expected = official_crop(photo.convert("RGB"), [2, 3.5, 6, 5])
    crop, corner, whole = dataset.images(ids)
    assert np.array_equal(np.asarray(crop), np.asarray(expected))
    assert corner.size == (14, 14)
    assert whole.size == (16, 16)
    assert dataset.reader.read("139") == (images / names[-1]).read_bytes()


def test_missing_and_broken_images_are_named(tmp_path: Path) -> None:
    root = annotations(tmp_path / "data", *GENECIS_TASKS)
    names = ["23.jpg", "24.jpg", "000000000007.jpg", "000000000008.jpg"]
    images = photos(tmp_path / "images", names)
    (images / "24.jpg").write_bytes(jpeg(1)[:-50])
    with pytest.raises(DataError) as error:
        build_dataset(recipe(root, images), tmp_path / "built")
    assert "24.jpg" in str(error.value) and "000000000139.jpg" in str(error.value)


@needs_pack
def test_official_counts(tmp_path: Path) -> None:
    images = photos(tmp_path / "images", ["1.jpg"])
    found = recipe(DATA / "genecis", images)
    *tasks, average = found.tasks()
    for task in tasks:
        (part,) = task.evaluate
        templates, gallery, distinct, conditions = COUNTS[part.name]
        assert len(part.queries) == templates
        assert {len(q.gallery or ()) for q in part.queries} == {gallery}
        assert len({q.group for q in part.queries}) == conditions
        assert part.problems() == []
        sources = recipe(DATA / "genecis", images, splits=[part.name]).images()
        assert len(sources) == distinct
        kind = BoxesOfImage if "attribute" in part.name else ImageFile
        assert all(isinstance(source, kind) for source in sources)
        assert {i for source in sources for i in source.ids} == set(part.image_ids())
    ids = [i for source in found.images() for i in source.ids]
    assert len(ids) == len(set(ids))
    assert set(ids) == {i for part in average.evaluate for i in part.image_ids()}
    assert [line.split(" ")[0] for line in found.warnings()] == [
        "focus_attribute.min.json",
        "change_attribute.min.json",
        "change_object.min.json",
    ]
