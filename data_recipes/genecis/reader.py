"""GeneCIS: the official annotation files as retrieval tasks (facebookresearch/genecis @ 0c5c968).

Each of the four files is a list of {"condition", "reference", "target", "gallery": [...]}. Images
of the attribute tasks are boxes in Visual Genome ({"image_id": text, "instance_bbox": [x, y, w,
h]}), those of the object tasks whole COCO val2017 images ({"val_image_id": number}).

A query ranks its own gallery: the target, then the gallery's images in file order; the reference is
not among them. The official code sorts similarities stably with the target in place 0, so that the
target wins every tie (the expected scores of row 161 of the sample predictions need that rule). It
gives 100 % to a constant model; so the protocol follows it only while at most 1 % of the queries
tie, and reports the pessimistic numbers beside it.

One template of focus_attribute and one of change_object have the target in the gallery a second
time: an unavoidable tie. That copy is a candidate of its own (`<id>#2`) and a wrong one, as in the
official code. Boxes that occur twice in a gallery are kept in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_recipes.core import official
from data_recipes.core.model import Candidate, Query, RetrievalTask
from data_recipes.core.official import kind_of
from data_recipes.core.protocol import GENECIS_TASKS


def task_name(path: Path) -> str:
    """The task that a file's name says, else the name itself."""
    stem = path.name.split(".")[0]
    return next((name for name in GENECIS_TASKS if stem.startswith(name)), stem)


def read_task(path: Path) -> RetrievalTask:
    """One file; query ids are record numbers, the first candidate of a gallery is the target.

    Raises:
        DataError: naming file, record, field and the number of further cases.
    """
    records = official.read_records(path, "GeneCIS templates")
    conditions = official.column(path, records, "condition", str)
    galleries = official.column(path, records, "gallery", list)
    for field in ("reference", "target"):
        official.column(path, records, field, dict)
    images = [
        [record["reference"], record["target"], *gallery]
        for record, gallery in zip(records, galleries, strict=True)
    ]
    official.refuse(
        path,
        (
            f"record {i}: {_place(number)}: {problem}"
            for i, row in enumerate(images)
            for number, image in enumerate(row)
            if (problem := _problem(image))
        ),
    )
    candidates: dict[str, Candidate] = {}
    queries = []
    for i, row in enumerate(images):
        reference, *ranked = (image_id(image) for image in row)
        gallery = _told_apart(ranked)
        for place, image in zip(gallery, row[1:], strict=True):
            base = image_id(image)
            candidates.setdefault(place, Candidate(id=place, image=base, meta=image))
        queries.append(
            Query(
                id=str(i),
                image=reference,
                text=conditions[i],
                relevant=(gallery[0],),
                gallery=gallery,
                group=conditions[i],
                meta=row[0],
            )
        )
    return RetrievalTask(task_name(path), tuple(queries), tuple(candidates.values()))


def image_id(image: dict[str, Any]) -> str:
    """ "189213", or "2316576:10,20,30.5,40" for a box of it."""
    if "val_image_id" in image:
        return str(image["val_image_id"])
    return f"{image['image_id']}:{','.join(f'{v:.12g}' for v in image['instance_bbox'])}"


def _told_apart(ids: Sequence[str]) -> tuple[str, ...]:
    """The same ids, the second occurrence of one marked "#2"."""
    seen: dict[str, int] = {}
    found = []
    for i in ids:
        seen[i] = seen.get(i, 0) + 1
        found.append(i if seen[i] == 1 else f"{i}#{seen[i]}")
    return tuple(found)


def _place(number: int) -> str:
    return ("'reference'", "'target'")[number] if number < 2 else f"'gallery' {number - 2}"


def _problem(image: Any) -> str:
    if not isinstance(image, dict):
        return f"is {kind_of(image)}, expected an object"
    if "val_image_id" in image:
        number = image["val_image_id"]
        if isinstance(number, int) and not isinstance(number, bool):
            return ""
        return f"'val_image_id' is {kind_of(number)}, expected a whole number"
    if not isinstance(image.get("image_id"), str):
        return "has neither a 'val_image_id' nor an 'image_id' that is text"
    box = image.get("instance_bbox")
    if not isinstance(box, list) or [kind_of(v) for v in box if type(v) not in (int, float)]:
        return f"image {image['image_id']}: 'instance_bbox' is not a list of numbers"
    if len(box) != 4 or box[2] <= 0 or box[3] <= 0:
        return f"image {image['image_id']}: 'instance_bbox' {box} is not [x, y, width, height]"
    return ""
