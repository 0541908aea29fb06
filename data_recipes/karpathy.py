"""Flickr30k and MS-COCO in Karpathy's splits, as retrieval tasks of both directions.

Four file forms are read:

- `dataset_flickr30k.json`, `dataset_coco.json` (Karpathy & Fei-Fei 2015): {"images": [{"filename",
  "split", "sentids", "sentences": [{"raw", "sentid"}]}]};
- a list of {"image_name", "split", "captions"} (MacCap) or {"image", "caption": [...]} (ALBEF);
- image id -> caption ids without any text (ECCV Caption's `original_image_to_caption.json`).

10 images of COCO's test split have 6 captions: 25,010 in all, where VSE++'s code uses 5 of each,
25,000. `captions=5` is that choice; the default counts all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_recipes.core import official, strict_json
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask
from data_recipes.core.official import Record, kind_of


@dataclass(frozen=True)
class Image:
    """An image and its captions: (caption id, text), in file order."""

    id: str
    captions: tuple[tuple[str, str], ...]


def read_images(path: Path, split: str = "test", captions: int | None = None) -> list[Image]:
    """The images of a split, in file order.

    split: kept where the file says splits, else everything is kept.
    captions: the number of captions used of each image; None for all.

    Raises:
        DataError: naming file, record, field, id and the number of further cases.
    """
    return _images(path, strict_json.read(path), split, captions)


def read_splits(path: Path, splits: Sequence[str]) -> dict[str, list[Image]]:
    """Those of `splits` that the file has, each as `read_images` gives it.

    A file that says no splits has the first of `splits` alone.

    Raises:
        DataError: as `read_images`, for any of the splits; none of them is there.
    """
    raw = strict_json.read(path)
    rows = raw.get("images") if isinstance(raw, dict) else raw
    rows = rows if isinstance(rows, list) else []
    said = {row["split"] for row in rows if isinstance(row, dict) and "split" in row}
    found = [split for split in splits if split in said] if said else list(splits[:1])
    if not found:
        raise DataError(f"{path}: has no image of the split {' or '.join(map(repr, splits))}")
    return {split: _images(path, raw, split, None) for split in found}


def _images(path: Path, raw: Any, split: str, captions: int | None) -> list[Image]:
    if isinstance(raw, dict) and "images" in raw:
        images = _dataset(path, raw["images"], split)
    elif isinstance(raw, dict):
        images = _ids(path, raw)
    else:
        images = _lists(path, official.records(path, raw, "images with captions"), split)
    if not images:
        raise DataError(f"{path}: has no image of the split {split!r}")
    official.unique(path, [image.id for image in images], "image")
    official.unique(path, [c for image in images for c, _ in image.captions], "caption id")
    fewest = captions or 1
    official.refuse(
        path,
        (
            f"record {i} (id {image.id}): has {len(image.captions)} captions, needs {fewest}"
            for i, image in enumerate(images)
            if len(image.captions) < fewest
        ),
    )
    return [replace(image, captions=image.captions[:captions]) for image in images]


def tasks(images: Sequence[Image]) -> tuple[RetrievalTask, RetrievalTask]:
    """(i2t, t2i): any own caption is right for an image, its image for a caption."""
    texts = [(c, text, image.id) for image in images for c, text in image.captions]
    to_text = RetrievalTask(
        "i2t",
        tuple(
            Query(id=image.id, image=image.id, relevant=tuple(c for c, _ in image.captions))
            for image in images
        ),
        tuple(Candidate(id=c, text=text) for c, text, _ in texts),
    )
    to_image = RetrievalTask(
        "t2i",
        tuple(Query(id=c, text=text, relevant=(image,), cluster=image) for c, text, image in texts),
        tuple(Candidate(id=image.id, image=image.id) for image in images),
    )
    return to_text, to_image


def folds(images: Sequence[Image], size: int | None) -> list[Sequence[Image]]:
    """Consecutive folds of `size` images; a smaller set is one fold (Flickr30k's 1K test).

    Raises:
        DataError: more than `size` images, but not a multiple of it.
    """
    if size is None or len(images) <= size:
        return [images]
    if len(images) % size:
        raise DataError(
            f"{len(images)} images are no whole number of folds of {size}; use karpathy-5k, which "
            "takes all images as one gallery"
        )
    return [images[start : start + size] for start in range(0, len(images), size)]


def _dataset(path: Path, images: Any, split: str) -> list[Image]:
    if not isinstance(images, list) or not all(isinstance(i, dict) for i in images):
        raise DataError(f"{path}: 'images' is {kind_of(images)}, expected a list of objects")
    names = official.column(path, images, "filename", str)
    splits = official.column(path, images, "split", str, names)
    sentences = official.column(path, images, "sentences", list, names)
    found = []
    for name, of, rows in zip(names, splits, sentences, strict=True):
        if of == split:
            ids = official.column(path, rows, "sentid", int, [name] * len(rows))
            texts = official.column(path, rows, "raw", str, [name] * len(rows))
            found.append(Image(name, tuple(zip(map(str, ids), texts, strict=True))))
    return found


def _lists(path: Path, records: Sequence[Record], split: str) -> list[Image]:
    image, caption = ("image", "caption") if "image" in records[0] else ("image_name", "captions")
    names = official.column(path, records, image, str)
    texts = official.column(path, records, caption, list, names)
    official.elements(path, texts, caption, str, names)
    return [
        Image(name, tuple((f"{name}#{number}", text) for number, text in enumerate(rows)))
        for record, name, rows in zip(records, names, texts, strict=True)
        if record.get("split", split) == split
    ]


def _ids(path: Path, raw: dict[str, Any]) -> list[Image]:
    names = list(raw)
    official.refuse(
        path,
        (
            f"record {i} (id {name}): is {kind_of(raw[name])}, expected a list of caption ids"
            for i, name in enumerate(names)
            if not isinstance(raw[name], list)
        ),
    )
    official.elements(path, list(raw.values()), "caption ids", int, names)
    return [Image(name, tuple((str(c), "") for c in rows)) for name, rows in raw.items()]
