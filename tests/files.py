"""A dataset made from files: `photos`, with a list of ids as annotations and one PNG an id.

    list.json               ["p000", ...]
    p000.png ...            8 x 8 px, all different
    task "composed"         picture + "the next one" -> the next picture

`python -m tests.files ANNOTATIONS IMAGES OUT` builds it as the command line does.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from data_recipes.core import strict_json
from data_recipes.core.build import build_dataset
from data_recipes.core.images import ImageFile, RawImage
from data_recipes.core.manifest import Manifest
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.core.recipe import Folders, Input, PhotoConfig, Recipe

PER_SHARD = 20


class PhotosConfig(PhotoConfig):
    """splits: of no consequence. note: any text. share: any number."""

    splits: tuple[str, ...] | None = None
    note: str = ""
    share: float = 1.0


class Photos(Recipe):
    """The user's own files."""

    name = "photos"
    licence = "CC0-1.0"
    inputs: ClassVar[tuple[Input, ...]] = ("annotations", "images")
    Config = PhotosConfig

    def ids(self) -> list[str]:
        """The annotated images."""
        ids: list[str] = strict_json.read(self.folder("annotations") / "list.json")
        return ids

    def images(self) -> list[ImageFile]:
        """One file an id."""
        return [ImageFile(name, self.folder("images") / f"{name}.png") for name in self.ids()]

    def tasks(self) -> list[Task]:
        """One task without a training part."""
        ids = self.ids()
        queries = tuple(
            Query(id=f"q-{name}", image=name, text="the next one", relevant=(following,))
            for name, following in zip(ids, [*ids[1:], ids[0]], strict=True)
        )
        candidates = tuple(Candidate(id=name, image=name) for name in ids)
        part = RetrievalTask("val", queries, candidates)
        return [Task("composed", "composed", "composed/1", None, (part,))]

    def warnings(self) -> list[str]:
        """One, where there is something to say."""
        return ["list.json: is short"] if len(self.ids()) < 10 else []


def photo(number: int, size: int = 8, kind: str = "PNG") -> bytes:
    """An encoded picture that no other number gives."""
    image = Image.new("RGB", (size, size), (number % 256, number // 256, 90))
    image.putpixel((number % size, 1), (255, 255, 255))
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def make_files(root: Path, count: int) -> Folders:
    """Write the annotations and `count` pictures below `root`."""
    folders = Folders(root / "annotations", root / "images")
    for folder in (folders.annotations, folders.images):
        assert folder is not None
        folder.mkdir(parents=True)
    names = [f"p{number:03d}" for number in range(count)]
    (root / "annotations/list.json").write_text(json.dumps(names))
    for number, name in enumerate(names):
        (root / f"images/{name}.png").write_bytes(photo(number))
    return folders


def build_photos(folders: Folders, out: Path, workers: int = 1, **options: bool) -> Manifest:
    """Build `photos` in shards of 20 images."""
    recipe = Photos(folders=folders)
    return build_dataset(recipe, out, workers=workers, per_shard=PER_SHARD, **options)


@dataclass(frozen=True)
class Deadly:
    """A source that kills who reads it, as the kernel does when memory runs out."""

    number: int

    @property
    def ids(self) -> tuple[str, ...]:
        return (str(self.number),)

    @property
    def path(self) -> Path | None:
        return None

    def fingerprint(self) -> str:
        return "deadly"

    def load(self, size: int | None) -> list[RawImage]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


if __name__ == "__main__":
    build_photos(Folders(Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[3]), workers=2)
