"""CIRCO: the official annotation files as one retrieval task (miccunifi/CIRCO @ 267b5c9).

`annotations/<split>.json` is a list of {"reference_img_id", "target_img_id", "relative_caption",
"shared_concept", "gt_img_ids", "id", "semantic_aspects"} (test lacks the targets and aspects); ids
are whole numbers. The gallery is all of COCO 2017 unlabeled, the reference included
(`image_info_unlabeled2017.json`).

mAP@K counts every ground truth, Recall@K only `target_img_id` (src/evaluation.py): so all ground
truths are relevant, and only the target has credit.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from data_recipes.core import official, strict_json
from data_recipes.core.folders import AnnotationFolder, ImageFolder
from data_recipes.core.images import ImageFile
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask, Task
from data_recipes.core.photos import SplitConfig, chosen_splits, file_warnings, named_images
from data_recipes.core.protocol import CIRCO_ASPECTS
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig, TaskOutline

GALLERY = "image_info_unlabeled2017.json"
GALLERY_IMAGES = 123_403
PLACES = ("annotations", "COCO2017_unlabeled/annotations")


def read_gallery(path: Path) -> list[str]:
    """Image ids of COCO's `image_info_unlabeled2017.json`, or of a plain list of ids."""
    raw = strict_json.read(path)
    if isinstance(raw, dict):
        records = raw.get("images")
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise DataError(f"{path}: has no list 'images'; is it image_info_unlabeled2017.json?")
        ids = official.column(path, records, "id", int)
    else:
        ids = official.read_as(path, list, "image ids")
        official.elements(path, [[i] for i in ids], "image id", int)
    official.unique(path, ids, "image")
    return [str(i) for i in ids]


def read_task(path: Path, gallery: list[str] | None = None) -> RetrievalTask:
    """The task of one annotation file; query ids are the annotation's `id`s.

    gallery: image ids (`read_gallery`); None takes the images that the annotations name.

    Raises:
        DataError: naming file, record, field, id and the number of further cases.
    """
    records = official.read_records(path, "CIRCO annotations")
    ids = official.column(path, records, "id", int)
    official.unique(path, ids, "id")
    references = official.column(path, records, "reference_img_id", int, ids)
    targets = official.optional(path, records, "target_img_id", int, ids)
    truths = official.optional(path, records, "gt_img_ids", list, ids)
    aspects = official.optional(path, records, "semantic_aspects", list, ids)
    texts = official.optional(path, records, "relative_caption", str, ids)
    concepts = official.optional(path, records, "shared_concept", str, ids)
    if (targets is None) != (truths is None):
        raise DataError(f"{path}: 'target_img_id' and 'gt_img_ids' belong together; one is missing")
    official.elements(path, truths or [], "gt_img_ids", int, ids)
    for i, row in enumerate(truths or []):
        if len(set(row)) != len(row):
            raise DataError(f"{path}: record {i} (id {ids[i]}): 'gt_img_ids' names an image twice")
    if targets is not None and truths is not None:
        official.refuse(
            path,
            (
                f"record {i} (id {ids[i]}): 'target_img_id' {t} is not among its 'gt_img_ids'"
                for i, (t, row) in enumerate(zip(targets, truths, strict=True))
                if t not in row
            ),
        )
    official.inside(
        path, aspects or [], "semantic_aspects", CIRCO_ASPECTS.__contains__, "the 9 aspects", ids
    )
    lists = [[r, *row] for r, row in zip(references, truths or [[]] * len(ids), strict=True)]
    if gallery is None:
        gallery = [str(i) for i in sorted({i for row in lists for i in row})]
    official.inside(
        path,
        [[str(i) for i in row] for row in lists],
        "reference_img_id, gt_img_ids",
        set(gallery).__contains__,
        "the gallery",
        ids,
    )
    queries = []
    for i, reference in enumerate(references):
        found = truths[i] if truths is not None else []
        meta: dict[str, object] = {}
        if aspects is not None:
            meta["semantic_aspects"] = aspects[i]
        if concepts is not None:
            meta["shared_concept"] = concepts[i]
        queries.append(
            Query(
                id=str(ids[i]),
                image=str(reference),
                text=texts[i] if texts is not None else None,
                relevant=tuple(str(t) for t in found),
                credit=tuple(float(targets is not None and t == targets[i]) for t in found),
                meta=meta,
            )
        )
    return RetrievalTask("circo", tuple(queries), tuple(Candidate(id=i, image=i) for i in gallery))


def file_name(image: str) -> str:
    """The image's file name in COCO 2017 unlabeled."""
    return f"{int(image):012d}.jpg"


class CIRCOConfig(SplitConfig):
    """gallery: COCO's list of its unlabeled images, or whatever lies in the image folder.

    text: "shared-concept" asks "Find a picture that also <concept>, but <caption>", which is worth
        a lot and not comparable with the caption alone (MegaPairs issues 15 and 33).
    """

    known_splits: ClassVar[tuple[str, ...]] = ("val", "test")
    gallery: Literal["official", "folder"] = "official"
    text: Literal["relative", "shared-concept"] = "relative"


class CIRCO(Recipe):
    """Composed retrieval with several right answers among the 123,403 unlabeled COCO images."""

    name = "circo"
    summary = "CIRCO: COCO photographs, several right answers a query; nothing to train on"
    licence = "CC-BY-NC-4.0 (annotations); the photographers' own (images: COCO 2017 unlabeled)"
    attribution = "CIRCO, Baldrati et al., ICCV 2023 (arXiv 2303.15247); images of COCO 2017"
    source = "https://github.com/miccunifi/CIRCO"
    inputs = ("annotations", "images")
    foreseen = (
        TaskOutline("val", "composed", "circo/1", trains=False),
        TaskOutline("test", "composed", "circo/1", trains=False),
    )
    Config: ClassVar[type[RecipeConfig]] = CIRCOConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = CIRCOConfig.model_validate(self.config.model_dump())

    @cached_property
    def files(self) -> AnnotationFolder:
        """Where the annotations and COCO's image list are looked for."""
        return AnnotationFolder(self.folder("annotations"), PLACES)

    @cached_property
    def splits(self) -> dict[str, Path]:
        """The chosen splits' files."""
        chosen = chosen_splits(self.options, self.files, lambda split: [f"{split}.json"])
        return {split: self.files.find(f"{split}.json") for split in chosen}

    @cached_property
    def photos(self) -> ImageFolder:
        """The user's image files."""
        return ImageFolder(self.folder("images"))

    @cached_property
    def gallery(self) -> list[str]:
        """Ids of all candidates, by the option `gallery`."""
        if self.options.gallery == "folder":
            return _ids_of(self.photos)
        path = self.files.get(GALLERY)
        if path is None:
            folders = ", ".join(str(folder) for folder in self.files.looked)
            raise DataError(
                f"{self.files.root}: no {GALLERY}, which lists CIRCO's gallery; looked in "
                f"{folders}. It is in COCO's image_info_unlabeled2017.zip; put it there, or take "
                "the images of the image folder as the gallery with the option gallery=folder "
                "(such results are not comparable)"
            )
        return read_gallery(path)

    def images(self) -> list[ImageFile]:
        """The gallery's images, `<id, 12 digits>.jpg`."""
        return [
            ImageFile(i, self.photos.find(file_name(i), f"{i}.jpg"))
            for i in named_images(self.tasks())
        ]

    def tasks(self) -> list[Task]:
        """`val` (the default where it is there) and `test` (withheld)."""
        found = []
        for split, path in self.splits.items():
            part = read_task(path, self.gallery)
            targets = any(query.relevant for query in part.queries)
            if split != "test" and not targets:
                raise DataError(
                    f"{path}: no record has 'gt_img_ids', which only test may lack; fetch it again"
                )
            queries = tuple(_with_text(path, query, self.options) for query in part.queries)
            part = replace(part, name=split, queries=queries)
            found.append(Task(split, "composed", "circo/1", None, (part,)))
        return found

    def warnings(self) -> list[str]:
        """Files that are not official, another gallery, queries with the shared concept."""
        found = []
        for task, path in zip(self.tasks(), self.splits.values(), strict=True):
            found += file_warnings(path, "circo", len(task.evaluate[0].queries))
        if self.options.gallery == "folder":
            found.append(
                f"the gallery is the {len(self.gallery)} images of the image folder (gallery: "
                f"folder), not COCO's list of {GALLERY_IMAGES}"
            )
        elif len(self.gallery) != GALLERY_IMAGES:
            found.append(
                f"the gallery has {len(self.gallery)} images, COCO 2017 unlabeled {GALLERY_IMAGES}"
            )
        if self.options.text == "shared-concept":
            found.append(
                "the queries' text has the shared concept: not comparable with the caption alone"
            )
        return found


def _with_text(path: Path, query: Query, options: CIRCOConfig) -> Query:
    if query.text is None:
        raise DataError(f"{path}: no record has a 'relative_caption'; fetch the file again")
    if options.text == "relative":
        return query
    if "shared_concept" not in query.meta:
        raise DataError(f"{path}: no record has a 'shared_concept'; use text=relative")
    text = f"Find a picture that also {query.meta['shared_concept']}, but {query.text}"
    return replace(query, text=text)


def _ids_of(photos: ImageFolder) -> list[str]:
    """COCO ids of the image files, which must be their names; sorted by number."""
    paths = photos.files()
    official.refuse(
        photos.root,
        (
            f"{path.name} is not named by a COCO id (12 digits), which gallery=folder needs"
            for path in paths
            if not (path.stem.isascii() and path.stem.isdigit())
        ),
    )
    ids = [str(int(path.stem)) for path in paths]
    official.unique(photos.root, ids, "image id")
    return sorted(ids, key=int)
