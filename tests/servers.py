"""A small world of the data sets with hidden test servers: annotations, and sound submissions.

60 images, "1" to "60", are the gallery of all three. CIRR has 10 queries, pairids 12000 to 12009,
whose image sets are six neighbours; CIRCO has the 220 of val (its server takes whole splits only);
FashionIQ has the categories dress and shirt, 4 records each.
"""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_recipes import circo, cirr, fashioniq
from data_recipes.core.images import RawImage
from data_recipes.core.model import RetrievalTask, Task
from data_recipes.core.recipe import Recipe
from tests.pack import write

IMAGES = [str(i) for i in range(1, 61)]
PAIRS = [str(12000 + i) for i in range(10)]
Json = dict[str, Any]
Run = Callable[[str], tuple[int, str, str]]
CIRR = "--check --protocol cirr --annotations cap.rc2.test1.json --gallery split.json"


def members(query: int) -> list[str]:
    return IMAGES[query : query + 6]


def cirr_captions(*, targets: bool = False) -> list[Json]:
    """CIRR's caption file; the reference of query i is image i + 1, the target its neighbour."""
    records: list[Json] = [
        {
            "pairid": int(pair),
            "reference": IMAGES[i],
            "caption": "bluer",
            "img_set": {"id": i, "members": members(i)},
        }
        for i, pair in enumerate(PAIRS)
    ]
    if targets:
        for i, record in enumerate(records):
            record |= {"target_hard": IMAGES[i + 1], "target_soft": {IMAGES[i + 1]: 1.0}}
    return records


def cirr_files() -> tuple[Json, Json]:
    """A sound recall file and a sound recall_subset file."""
    draw = random.Random(1)
    recall: Json = {"version": "rc2", "metric": "recall"}
    subset: Json = {"version": "rc2", "metric": "recall_subset"}
    for i, pair in enumerate(PAIRS):
        ranking = [name for name in IMAGES if name != IMAGES[i]]
        draw.shuffle(ranking)
        recall[pair] = ranking[:50]
        subset[pair] = [name for name in ranking if name in members(i)][:3]
    return recall, subset


def circo_annotations(n: int = 220, *, targets: bool = False) -> list[Json]:
    """CIRCO's annotation file; the reference of query i is image i % 50 + 1, the target 2 on."""
    records: list[Json] = [
        {"id": i, "reference_img_id": i % 50 + 1, "relative_caption": "two of them"}
        for i in range(n)
    ]
    if targets:
        for i, record in enumerate(records):
            record |= {"target_img_id": i % 50 + 3, "gt_img_ids": [i % 50 + 3, i % 50 + 5]}
    return records


def circo_file(n: int = 220) -> Json:
    """A sound file that names no reference."""
    draw = random.Random(2)
    lists = {}
    for i in range(n):
        ids = [int(image) for image in IMAGES if int(image) != i % 50 + 1]
        draw.shuffle(ids)
        lists[str(i)] = ids[:50]
    return lists


def fashioniq_captions(*, targets: bool = False) -> list[Json]:
    """One category's caption file."""
    return [
        {"candidate": IMAGES[i], "captions": ["is bluer", " "]}
        | ({"target": IMAGES[i + 9]} if targets else {})
        for i in range(4)
    ]


def fashioniq_file() -> list[Json]:
    """A sound file."""
    return [r | {"ranking": IMAGES[i : i + 50]} for i, r in enumerate(fashioniq_captions())]


def write_annotations(folder: Path) -> None:
    """The official files of both splits, under their official names (CIRCO's in `circo/`)."""
    (folder / "circo").mkdir(parents=True)
    write(folder / "circo/gallery.json", [int(i) for i in IMAGES])
    write(folder / "split.json", {i: f"./{i}.png" for i in IMAGES})
    write(folder / "split.dress.json", IMAGES)
    for split, targets in (("val", True), ("test", False)):
        number = "1" if split == "test" else ""
        write(folder / f"cap.rc2.{split}{number}.json", cirr_captions(targets=targets))
        write(folder / f"circo/{split}.json", circo_annotations(targets=targets))
        for category in ("dress", "shirt"):
            captions = fashioniq_captions(targets=targets)
            write(folder / f"cap.{category}.{split}.json", captions)


class Servers(Recipe):
    """All of it as one dataset of 60 pictures with the tasks cirr-val, cirr-test1, circo-val ..."""

    name = "servers"
    licence = "CC0-1.0"
    inputs = ("annotations",)

    def images(self) -> Iterator[RawImage]:
        """Every image, one grey value each."""
        for image in IMAGES:
            stream = io.BytesIO()
            Image.new("L", (16, 16), int(image)).save(stream, "png")
            yield RawImage(image, stream.getvalue(), "png")

    def tasks(self) -> list[Task]:
        """What the readers make of the annotation files."""
        folder = self.folder("annotations")
        made = []
        for split, cirr_split in (("val", "val"), ("test", "test1")):
            one = [
                ("cirr", [cirr.read_task(folder / f"cap.rc2.{cirr_split}.json", IMAGES)]),
                ("circo", [circo.read_task(folder / f"circo/{split}.json", IMAGES)]),
                ("fashioniq-original", [_category(folder, c, split) for c in ("dress", "shirt")]),
            ]
            made += [
                Task(f"{name}-{split}", "composed", f"{name}/1", None, tuple(parts))
                for name, parts in one
            ]
        return made


def _category(folder: Path, category: str, split: str) -> RetrievalTask:
    captions = fashioniq.read_captions(folder / f"cap.{category}.{split}.json", IMAGES)
    return fashioniq.original_task(captions, IMAGES)


def submit_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs `promptgrid submit WORDS` among sound files in `folder`; gives code, out, err."""
    from bench import cli

    write_annotations(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "300")
    recall, subset = cirr_files()
    put("recall.json", recall)
    put("subset.json", subset)
    put("circo.json", circo_file())
    put("dress.json", fashioniq_file())

    def command(words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptgrid", "submit", *words.split()])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0, out, err

    return command


def put(name: str, value: Any) -> None:
    """Write a file where the test stands: JSON, or text and bytes as they are."""
    if isinstance(value, bytes):
        Path(name).write_bytes(value)
    else:
        Path(name).write_text(value if isinstance(value, str) else json.dumps(value))


def get(name: str) -> Any:
    return json.loads(Path(name).read_text())
