"""The recipe: GeneCIS from the official files, Visual Genome's images and COCO's."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile, ImageSource
from data_recipes.core.model import RetrievalTask, Task
from data_recipes.core.photos import SplitConfig, chosen_splits, file_warnings
from data_recipes.core.protocol import GENECIS_TASKS
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig, TaskOutline
from data_recipes.genecis.crops import Box, BoxesOfImage, Crop
from data_recipes.genecis.reader import read_task

PLACES = ("genecis",)


def _protocol(task: str) -> str:
    return f"genecis-{task.replace('_', '-')}/1"


class GeneCISConfig(SplitConfig):
    """splits: the tasks, by the names of their files.

    crop: how the attribute tasks' boxes are cut (`BoxesOfImage`). The crop is padded when it is
        cut, so that the object tasks' images stay as they are (official code); `pad` comes on top.
    """

    known_splits: ClassVar[tuple[str, ...]] = GENECIS_TASKS
    crop: Crop = "official"


class GeneCIS(Recipe):
    """Conditional similarity: each query ranks a small gallery of its own; nothing to train on."""

    name = "genecis"
    summary = "GeneCIS: focus on or change an attribute or an object, a small gallery each query"
    licence = "CC-BY-NC-4.0 (annotations); their own (images: Visual Genome 1.2, COCO 2017)"
    attribution = "GeneCIS, Vaze et al., CVPR 2023 (arXiv 2306.07969); Visual Genome; COCO"
    source = "https://github.com/facebookresearch/genecis"
    inputs = ("annotations", "images")
    foreseen = (
        *(
            TaskOutline(task.replace("_", "-"), "composed", _protocol(task), trains=False)
            for task in GENECIS_TASKS
        ),
        TaskOutline("average", "composed", "genecis/1", trains=False),
    )
    Config: ClassVar[type[RecipeConfig]] = GeneCISConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = GeneCISConfig.model_validate(self.config.model_dump())

    @cached_property
    def splits(self) -> dict[str, tuple[Path, RetrievalTask]]:
        """The chosen tasks' files, read."""
        files = AnnotationFolder(self.folder("annotations"), PLACES)
        chosen = chosen_splits(self.options, files, _names)
        paths = {name: files.find(*_names(name)) for name in chosen}
        return {name: (path, read_task(path)) for name, path in paths.items()}

    def images(self) -> list[ImageSource]:
        """Boxes of `<image_id>.jpg` (Visual Genome), and `<id, 12 digits>.jpg` (COCO val2017)."""
        folder = ImageFolder(self.folder("images"))
        boxes: dict[str, dict[str, Box]] = {}
        whole: dict[str, int] = {}
        for _, part in self.splits.values():
            used = [(q.image, q.meta) for q in part.queries]
            used += [(c.image, c.meta) for c in part.candidates]
            for image, meta in used:
                if image is None:
                    continue
                if "val_image_id" in meta:
                    whole[image] = meta["val_image_id"]
                else:
                    x, y, w, h = meta["instance_bbox"]
                    boxes.setdefault(meta["image_id"], {})[image] = (x, y, w, h)
        return [
            *(
                BoxesOfImage(folder.find(f"{i}.jpg"), tuple(cut.items()), self.options.crop)
                for i, cut in boxes.items()
            ),
            *(ImageFile(i, folder.find(f"{number:012d}.jpg")) for i, number in whole.items()),
        ]

    def tasks(self) -> list[Task]:
        """The chosen tasks; with all four also `average`, whose metrics are their plain means."""
        found = [
            Task(name.replace("_", "-"), "composed", _protocol(name), None, (part,))
            for name, (_, part) in self.splits.items()
        ]
        if len(found) == len(GENECIS_TASKS):
            every = tuple(part for _, part in self.splits.values())
            found.append(Task("average", "composed", "genecis/1", None, every))
        return found

    def warnings(self) -> list[str]:
        """Files that are not official, another crop."""
        found = []
        for path, part in self.splits.values():
            found += file_warnings(path, "genecis", len(part.queries))
        if self.options.crop != "official" and any("attribute" in name for name in self.splits):
            found.append(f"crop: {self.options.crop}, which is not the official crop")
        return found


def _names(task: str) -> tuple[str, str]:
    return f"{task}.json", f"{task}.min.json"
