"""Tiny raw worlds of the composed-retrieval datasets, by the schemas of their official files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.raw import World, both, pictures, write


def fashioniq(root: Path) -> World:
    """Two records in train and val of each category, over three images of its own."""
    names = []
    for category, letter in (("dress", "D"), ("shirt", "S"), ("toptee", "T")):
        for split, mark in (("train", "R"), ("val", "V")):
            images = [f"B000000{letter}{mark}{n}" for n in range(3)]
            names += [f"{image}.jpg" for image in images]
            records = [
                {"target": target, "candidate": images[0], "captions": ["is shorter ", "has blue"]}
                for target in images[1:]
            ]
            write(root / f"annotations/captions/cap.{category}.{split}.json", records)
            write(root / f"annotations/image_splits/split.{category}.{split}.json", images)
    return World(both(root), pictures(root / "images", names))


def cirr(root: Path) -> World:
    """One set of six images in train and in val, and in test1 without targets."""
    names = []
    for number, split in enumerate(("train", "val", "test1")):
        start = {"train": "train", "val": "dev", "test1": "test1"}[split]
        below = f"{start}/34" if split == "train" else start
        members = [f"{start}-{n}-0-img{n % 2}" for n in range(6)]
        paths = {name: f"./{below}/{name}.png" for name in members}
        names += [path.removeprefix("./") for path in paths.values()]
        record: dict[str, Any] = {
            "pairid": 10 + number,
            "reference": members[0],
            "caption": "the dog is black",
            "img_set": {"id": number, "members": members, "reference_rank": 3, "target_rank": 4},
        }
        if split != "test1":
            record |= {"target_hard": members[1], "target_soft": {members[1]: 1.0}}
        write(root / f"annotations/captions/cap.rc2.{split}.json", [record])
        write(root / f"annotations/image_splits/split.rc2.{split}.json", paths)
    return World(both(root), pictures(root / "images", names))


def circo(root: Path) -> World:
    """A gallery of five images, one query with two ground truths, one without its labels."""
    query = {
        "id": 0,
        "reference_img_id": 1,
        "relative_caption": "has two dogs",
        "shared_concept": "a dog",
    }
    labels = {
        "target_img_id": 2,
        "gt_img_ids": [2, 3],
        "semantic_aspects": ["cardinality"],
    }
    write(root / "annotations/val.json", [query | labels])
    write(root / "annotations/test.json", [query])
    files = [{"file_name": f"{n:012d}.jpg", "id": n} for n in range(1, 6)]
    write(root / "annotations/image_info_unlabeled2017.json", {"images": files})
    names = [f"unlabeled2017/{row['file_name']}" for row in files]
    return World(both(root), pictures(root / "images", names))


def genecis(root: Path) -> World:
    """One template of each task: boxes of two images, and three whole images."""

    def box(image: int, left: int) -> dict[str, Any]:
        return {"image_id": str(image), "instance_bbox": [left, 1, 4, 4]}

    attribute = [
        {
            "condition": "colour",
            "reference": box(11, 0),
            "target": box(12, 0),
            "gallery": [box(11, 3), box(12, 3)],
        }
    ]
    whole = [
        {
            "condition": "table",
            "reference": {"val_image_id": 21},
            "target": {"val_image_id": 22},
            "gallery": [{"val_image_id": 23}],
        }
    ]
    for task, templates in (("attribute", attribute), ("object", whole)):
        for change in ("focus", "change"):
            write(root / f"annotations/{change}_{task}.json", templates)
    pictures(root / "images/vg", ["11.jpg", "12.jpg"])
    pictures(root / "images/coco", [f"{n:012d}.jpg" for n in (21, 22, 23)])
    return World(both(root), 4 + 3)
