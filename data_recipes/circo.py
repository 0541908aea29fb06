"""CIRCO: the official annotation files as one retrieval task (miccunifi/CIRCO @ 267b5c9).

`annotations/<split>.json` is a list of {"reference_img_id", "target_img_id", "relative_caption",
"shared_concept", "gt_img_ids", "id", "semantic_aspects"} (test lacks the targets and aspects); ids
are whole numbers. The gallery is all of COCO 2017 unlabeled, the reference included
(`image_info_unlabeled2017.json`).

mAP@K counts every ground truth, Recall@K only `target_img_id` (src/evaluation.py): so all ground
truths are relevant, and only the target has credit.
"""

from __future__ import annotations

from pathlib import Path

from data_recipes.core import official, strict_json
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask
from data_recipes.core.protocol import CIRCO_ASPECTS


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
