"""FDRD: DCAR's captions over the images of CoOp's sets, one task a domain and kind of gallery.

The published files are a fragment whose names and shapes differ: `<domain>_{test,train}.json` in
HEAD, `inter_<domain>_{test,train}.json` in the repository's history. Paths in them are useless;
where an image lies follows from its key (`_file`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from data_recipes import fdrd
from data_recipes.coop_sets_table import SETS, image_file
from data_recipes.core import official
from data_recipes.core.digests import stranger
from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import DataError, RetrievalTask, Task
from data_recipes.core.photos import named_images
from data_recipes.core.recipe import PhotoConfig, Recipe, RecipeConfig, TaskOutline

# domain -> the set of CoOp that its images are from, and its names in file names
DOMAINS = {
    "flower": ("oxford_flowers", ("flower",)),
    "pets": ("oxford_pets", ("pets",)),
    "plane": ("fgvc_aircraft", ("plane",)),
    "car": ("stanford_cars", ("car", "inter_car")),
    "caltech": ("caltech101", ("caltech", "caltech-101", "inter_caltech-101")),
    "dtd": ("dtd", ("dtd", "inter_dtd")),
    "ucf101": ("ucf101", ("ucf101", "inter_ucf101")),
}
PLACES = ("FDRD/test", "FDRD/train", "FDRD", "test", "train", "history")
GALLERIES: tuple[fdrd.Gallery, ...] = ("plain", "credit-identical", "hard")


@dataclass(frozen=True)
class Domain:
    """One domain's files: test, and train where there is one."""

    name: str
    test: Path
    train: Path | None

    def tasks(self, gallery: fdrd.Gallery) -> tuple[RetrievalTask, RetrievalTask]:
        """(i2t, t2i) of the test file."""
        return fdrd.read_tasks(self.test, gallery, f"{self.name}/")

    def training(self, gallery: fdrd.Gallery) -> RetrievalTask | None:
        """Images with their own captions; with the hard gallery their own negatives too."""
        if self.train is None:
            return None
        kept: fdrd.Gallery = "hard" if gallery == "hard" else "plain"
        return replace(fdrd.read_tasks(self.train, kept, f"{self.name}/")[0], name="train")


class FDRD(Recipe):
    """Fine-grained image-text retrieval; the few-shot unit is the class."""

    name = "fdrd"
    summary = "FDRD (DCAR): captions of fine classes, image-text retrieval in seven domains"
    licence = "none stated (captions); those of CoOp's sets (images)"
    attribution = "FDRD, DCAR (arXiv 2508.04028); captions by InternLM-XComposer"
    source = "https://github.com/wyf202322/DCAR"
    inputs = ("annotations", "images")
    foreseen = tuple(
        TaskOutline(f"{domain}{suffix}", "image_text", f"fdrd{suffix}/1")
        for domain in DOMAINS
        for suffix in ("", "-credit-identical", "-hard")
    )
    Config: ClassVar[type[RecipeConfig]] = PhotoConfig

    @cached_property
    def files(self) -> AnnotationFolder:
        """The annotation files."""
        return AnnotationFolder(self.folder("annotations"), PLACES)

    @cached_property
    def domains(self) -> list[Domain]:
        """The domains that have a test file.

        Raises:
            DataError: there is none, or a domain's train file is empty.
        """
        found = []
        for name, (_, stems) in DOMAINS.items():
            test = self.files.get(*(f"{stem}_test.json" for stem in stems))
            if test is not None:
                train = self.files.get(*(f"{stem}_train.json" for stem in stems))
                if train is not None and _blank(train):
                    raise DataError(
                        f"{train}: the file is empty; take it from the history of {self.source}, "
                        "or remove it to build the domain without a training split"
                    )
                found.append(Domain(name, test, train))
        if not found:
            self.files.absent(*(f"{stems[0]}_test.json" for _, stems in DOMAINS.values()))
        return found

    def images(self) -> list[ImageFile]:
        """Every image of the domains' records."""
        folder = ImageFolder(self.folder("images"))
        paths = {
            f"{domain.name}/{key}": _file(domain.name, key, record, path)
            for domain in self.domains
            for path in (domain.test, domain.train)
            if path is not None
            for key, record in official.read_as(path, dict, "key -> record").items()
        }
        tables = {domain.name: SETS[DOMAINS[domain.name][0]] for domain in self.domains}
        return [
            ImageFile(i, image_file(folder, tables[i.split("/")[0]], paths[i]))
            for i in named_images(_task(domain, "plain") for domain in self.domains)
        ]

    def tasks(self) -> list[Task]:
        """A domain's plain gallery, `-credit-identical`, and `-hard` where it has negatives."""
        return [task for domain in self.domains for task in _tasks(domain)]

    def warnings(self) -> list[str]:
        """Files that are not official or not used, images in both splits, domains not trained."""
        found = [
            line
            for domain in self.domains
            if domain.test.name in ("flower_test.json", "pets_test.json", "plane_test.json")
            and (line := stranger(domain.test, "fdrd"))
        ]
        used = {path for domain in self.domains for path in (domain.test, domain.train)}
        for path in sorted({p for folder in self.files.looked for p in folder.glob("*.json")}):
            if path not in used:
                why = "empty" if _blank(path) else "no test file of its domain, or none known"
                found.append(f"{path.name} is not used: {why}")
        for domain in self.domains:
            train = domain.training("plain")
            if train is None:
                found.append(f"{domain.name} has no train file, so no method can learn on it")
                continue
            both = set(train.image_ids()) & set(domain.tasks("plain")[0].image_ids())
            if both:
                found.append(f"{domain.name}: {len(both)} image(s) in both splits: {min(both)}")
        return found


def _tasks(domain: Domain) -> Iterator[Task]:
    for gallery in GALLERIES:
        task = _task(domain, gallery)
        to_text, to_image = task.evaluate
        if gallery != "hard" or len(to_text.candidates) > len(to_image.candidates):
            yield task


def _task(domain: Domain, gallery: fdrd.Gallery) -> Task:
    suffix = "" if gallery == "plain" else f"-{gallery}"
    return Task(
        f"{domain.name}{suffix}",
        "image_text",
        f"fdrd{suffix}/1",
        domain.training(gallery),
        domain.tasks(gallery),
    )


def _file(domain: str, key: str, record: official.Record, path: Path) -> str:
    """An image's path below its set's folder of images.

    Raises:
        DataError: the key has another shape than the domain's.
    """
    name = str(record.get("file_name") or key)
    stem = name.removesuffix(".jpg")
    if domain == "flower":
        return f"image_{record.get('number') or stem.rpartition('_')[2]}.jpg"
    if domain == "caltech":
        folder, found, number = stem.rpartition("_image_")
        if found:
            return f"{folder}/image_{number}.jpg"
    elif domain == "car":
        folder, found, number = stem.rpartition("_")
        if found:
            return f"{folder}/{number}.jpg"
    elif domain == "dtd" and stem.rpartition("_")[0]:
        return f"{record.get('class_name') or stem.rpartition('_')[0]}/{stem}.jpg"
    elif domain == "ucf101" and record.get("class_name"):
        return f"{record['class_name']}/{stem}.jpg"
    elif domain in ("pets", "plane"):
        return f"{stem}.jpg"
    raise DataError(f"{path}: record {key!r}: no image of {domain} is called like that")


def _blank(path: Path) -> bool:
    return path.stat().st_size < 100 and not path.read_bytes().strip()
