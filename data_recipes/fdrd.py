"""FDRD: DCAR's annotation files as retrieval tasks (wyf202322/DCAR @ 4cb2342, arXiv 2508.04028).

One object a domain: key -> {"file_name", "file_path", "positive": caption, "negative": [captions]};
flower also has "class_name" and "number", the history's `inter_*` files have no negatives. The
paths are the authors' own and useless; a class name that is absent is the key up to the last "_".

No evaluation code was published. Recall@K in both directions over the whole test file, one caption
an image, is what the paper's tables fit (34 of 36 of its CLIP values are k/N). Inferred, and so
protocols of their own:

- credit-identical: records with the same caption (up to 10 % in ucf101) are all right answers;
- hard: each image also ranks its own negative captions, those that equal its positive left out.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Literal

from data_recipes.core import official
from data_recipes.core.model import Candidate, Query, RetrievalTask

Gallery = Literal["plain", "credit-identical", "hard"]


def read_tasks(
    path: Path, gallery: Gallery = "plain", prefix: str = ""
) -> tuple[RetrievalTask, RetrievalTask]:
    """(i2t, t2i) of one domain's file.

    Query ids and candidate ids are the file's keys (a hard negative is "<key>#<number>"); image
    ids are the keys behind `prefix`, which tells domains apart.

    Raises:
        DataError: naming file, record, field, id and the number of further cases.
    """
    raw = official.read_as(path, dict, "key -> record")
    keys = list(raw)
    records = list(raw.values())
    official.refuse(
        path,
        (
            f"record {i} (id {key}): is {official.kind_of(record)}, expected an object"
            for i, (key, record) in enumerate(raw.items())
            if not isinstance(record, dict)
        ),
    )
    captions = official.column(path, records, "positive", str, keys)
    negatives = official.column(path, records, "negative", list, keys)
    official.elements(path, negatives, "negative", str, keys)
    official.refuse(
        path,
        (
            f"record {i} (id {keys[i]}): 'positive' is blank"
            for i, caption in enumerate(captions)
            if not caption.strip()
        ),
    )
    same: dict[str, list[str]] = defaultdict(list)
    for key, caption in zip(keys, captions, strict=True):
        same[caption].append(key)
    texts = dict(zip(keys, captions, strict=True))
    hard: dict[str, list[str]] = {}
    if gallery == "hard":
        for key, caption, wrong in zip(keys, captions, negatives, strict=True):
            kept = list(dict.fromkeys(text for text in wrong if text != caption))
            hard[key] = [f"{key}#{number}" for number in range(len(kept))]
            texts |= dict(zip(hard[key], kept, strict=True))
    classes = [
        str(record.get("class_name") or key.rsplit("_", 1)[0])
        for key, record in zip(keys, records, strict=True)
    ]
    queries: dict[str, list[Query]] = {"i2t": [], "t2i": []}
    for key, caption, name in zip(keys, captions, classes, strict=True):
        relevant = tuple(same[caption]) if gallery == "credit-identical" else (key,)
        own = (*keys, *hard[key]) if gallery == "hard" else None
        queries["i2t"].append(
            Query(key, image=prefix + key, relevant=relevant, gallery=own, group=name)
        )
        queries["t2i"].append(
            Query(key, text=caption, relevant=relevant, group=name, cluster=prefix + key)
        )
    return (
        RetrievalTask(
            "i2t",
            tuple(queries["i2t"]),
            tuple(Candidate(id=key, text=text) for key, text in texts.items()),
        ),
        RetrievalTask(
            "t2i",
            tuple(queries["t2i"]),
            tuple(Candidate(id=key, image=prefix + key) for key in keys),
        ),
    )
