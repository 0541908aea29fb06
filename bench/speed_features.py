"""Benchmarks of frozen features: first and later use; reading shards against bare webdataset.

`python -m bench.speed_features FOLDER` is the part that runs in a process of its own: a second use
where nothing is in memory, imports, weights and index apart.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import webdataset as wds
from torch import Tensor

from bench.embed import BATCH
from bench.features import image_features
from bench.speed_rows import Row, compare
from bench.text_files import TextFiles
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import Dataset, open_dataset
from data_recipes.core.registry import recipe
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.frozen_texts import FrozenTexts

PROCESSES = 3  # in which the second use is measured
# Of image features. The embedded text tower is so small that opening a file counts.
GOALS = {"image features": 50.0, "text features of captions": None}


def rows(folder: Path) -> list[Row]:
    """Features, first and later use, here and in a new process; reading shards."""
    build_dataset(recipe("openmoji-composed")(), folder / "openmoji-composed")
    dataset = open_dataset(folder / "openmoji-composed")
    backbone = load_backbone(BackboneSpec())
    ways: dict[str, Callable[[Path], Tensor]] = {
        "image features": lambda cache: images(dataset, backbone, cache),
        "text features of captions": lambda cache: texts(backbone, cache),
    }
    found: list[Row] = []
    for name, use in ways.items():

        def first(use: Callable[[Path], Tensor] = use) -> Tensor:
            with tempfile.TemporaryDirectory() as empty:
                return use(Path(empty)).clone()

        def later(use: Callable[[Path], Tensor] = use) -> Tensor:
            return use(folder / "cache")

        later()  # makes the file
        found.append(
            compare(f"{name}, second use against first", first, later, torch.equal, GOALS[name], 2)
        )
    values = [sha256(use(folder / "cache")) for use in ways.values()]
    for row, here, (seconds, there) in zip(tuple(found), values, elsewhere(folder), strict=True):
        ratio, same = row.baseline / seconds, row.equal and there == {here}
        name = f"{row.name}, in a new process"
        found.append(Row(name, row.baseline, seconds, ratio, row.goal, same))
    return [*found, shards(folder, dataset)]


def images(dataset: Dataset, backbone: Backbone, cache: Path) -> Tensor:
    """Features (N, D) of all images of a dataset, through the cache."""
    return image_features(dataset, backbone, cache).at([*dataset.reader.index])


def texts(backbone: Backbone, cache: Path) -> Tensor:
    """Features (N, D) of the captions that openmoji-roles is scored with, through the cache.

    Nothing is in memory: every list comes from its file, or is encoded.
    """
    frozen = FrozenTexts(backbone)
    frozen.store = TextFiles(cache, backbone)
    return torch.cat([frozen(batch) for batch in captions()])


@cache
def captions() -> list[list[str]]:
    """The lists in which scoring asks for them, each once."""
    (task,) = [task for task in recipe("openmoji-roles")().tasks() if task.kind == "image_text"]
    found: dict[tuple[str, ...], None] = {}
    for part in task.evaluate:
        for side in (part.queries, part.candidates):
            own = [text for row in side if (text := row.text) is not None]
            starts = range(0, len(own), BATCH)
            found |= dict.fromkeys(tuple(own[start : start + BATCH]) for start in starts)
    return [list(batch) for batch in found]


def elsewhere(folder: Path) -> list[tuple[float, set[str]]]:
    """Images, then texts: median seconds of a second use in new processes, and their values."""
    command = [sys.executable, "-m", "bench.speed_features", str(folder)]
    runs = []
    for _ in range(PROCESSES):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return [
        (statistics.median(run[what][0] for run in runs), {run[what][1] for run in runs})
        for what in ("images", "texts")
    ]


def main(folder: Path) -> None:
    """A second use, once: seconds, and the values' sha256, as JSON."""
    dataset = open_dataset(folder / "openmoji-composed")
    backbone = load_backbone(BackboneSpec())
    # Made once in a process, for whatever is used in it.
    made_once = (backbone.digest, backbone.dim, dataset.reader, captions())
    uses: dict[str, Callable[[Path], Tensor]] = {
        "images": lambda cache: images(dataset, backbone, cache),
        "texts": lambda cache: texts(backbone, cache),
    }
    assert all(made_once)
    told = {}
    for name, use in uses.items():
        start = time.perf_counter()
        found = use(folder / "cache")
        told[name] = time.perf_counter() - start, sha256(found)
    print(json.dumps(told))


def sha256(values: Tensor) -> str:
    """Of the bytes."""
    return hashlib.sha256(values.numpy().data).hexdigest()


def shards(folder: Path, dataset: Dataset) -> Row:
    """The bytes of all images of a dataset."""
    urls = [str(folder / "openmoji-composed" / s.name) for s in dataset.manifest.shards]

    def bare() -> list[bytes]:
        return [sample["png"] for sample in wds.WebDataset(urls, shardshuffle=False)]

    def ours() -> list[bytes]:
        return [data for _, data in dataset.reader.stream()]

    return compare("reading shards, against bare webdataset", bare, ours, list.__eq__, 0.9, 7)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
