"""Benchmarks at the size of real data sets: reading shards of photos, and ranking's memory.

`python -m bench.speed_scale full|blocks FILE` is the part that runs in a process of its own, so
that its peak memory is its own.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import webdataset as wds
from PIL import Image
from torch import Tensor

from bench.ranking import rank
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import open_dataset
from data_recipes.core.images import RawImage, decode
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.core.recipe import Recipe
from data_recipes.core.spans import ahead

PHOTOS, PER_SHARD = 2_000, 500
DECODED = 500  # images of the decoding row: the first shard
QUERIES, GALLERY, DIM = 800, 123_403, 512  # CIRCO's test split, CLIP ViT-B's features
Pair = tuple[Callable[[], Any], Callable[[], Any]]


class Photos(Recipe):
    """Coloured noise of a photo's size in bytes: JPEG of 400 x 300 pixels, about 50 KB."""

    name = "bench-photos"

    def images(self) -> Iterator[RawImage]:
        """A few pictures, many times."""
        rng = np.random.default_rng(0)
        pictures = [_jpeg(rng) for _ in range(20)]
        for number in range(PHOTOS):
            yield RawImage(f"photo-{number:05d}", pictures[number % len(pictures)], "jpg")

    def tasks(self) -> list[Task]:
        """One query; a dataset needs a task."""
        query = Query("q", image="photo-00000", relevant=("photo-00001",))
        gallery = (Candidate("photo-00001", image="photo-00001"),)
        part = RetrievalTask("test", (query,), gallery)
        return [Task("composed", "composed", "composed/1", None, (part,))]


def _jpeg(rng: np.random.Generator) -> bytes:
    coarse = rng.integers(0, 255, (40, 53, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def shard_reading(folder: Path) -> tuple[Pair, Pair]:
    """(bare webdataset, ours) for all bytes of several shards, and for one shard decoded."""
    build_dataset(Photos(), folder / "photos", per_shard=PER_SHARD)
    dataset = open_dataset(folder / "photos")
    urls = [str(dataset.folder / shard.name) for shard in dataset.manifest.shards]
    first = list(dataset.reader.index)[:DECODED]

    def bare() -> list[bytes]:
        return [sample["jpg"] for sample in wds.WebDataset(urls, shardshuffle=False)]

    def ours() -> list[bytes]:
        return [data for _, data in dataset.reader.stream()]

    def bare_decoded() -> list[int]:
        samples = wds.WebDataset(urls[:1], shardshuffle=False).decode("pilrgb")
        return [_checksum(sample["jpg"]) for sample in samples]

    def ours_decoded() -> list[int]:
        def made(found: tuple[str, bytes]) -> int:
            return _checksum(decode(found[1], found[0]))

        return list(ahead(made, dataset.reader.stream(first), torch.get_num_threads()))

    return (bare, ours), (bare_decoded, ours_decoded)


def _checksum(image: Image.Image) -> int:
    return zlib.crc32(image.tobytes())


def ranking_memory(folder: Path) -> tuple[dict[str, float], dict[str, float], bool]:
    """(the full matrix sorted, ours, same ranks): extra peak memory (MB) and time (s) of each."""
    found, ranks = [], []
    for way in ("full", "blocks"):
        out = folder / f"{way}.npy"
        run = [sys.executable, "-m", "bench.speed_scale", way, str(out)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        ranks.append(np.load(out))
    return found[0], found[1], bool(np.array_equal(*ranks))


def _features(count: int, generator: torch.Generator) -> Tensor:
    """Whole numbers: their products are exact, so that both ways see the same similarities."""
    features = torch.empty(count, DIM)
    for start in range(0, count, 256):
        block = features[start : start + 256]  # small: what is freed stays with the process
        block.copy_(torch.randint(-100, 101, block.shape, generator=generator))
    return features


def sorted_whole(queries: Tensor, candidates: Tensor, target: Tensor) -> Tensor:
    """The official codes' way: all similarities, a sort per query, the target's place (Q,).

    The target is lowered by half a unit, so that it comes last among equals, as ours has it.
    """
    similarity = queries @ candidates.T
    similarity[torch.arange(len(queries)), target] -= 0.5
    order = similarity.argsort(dim=1, descending=True)
    return (order == target[:, None]).int().argmax(dim=1) + 1


def main(way: str, out: Path) -> None:
    """Rank once, in this process, one way; print extra peak memory (MB) and time (s) as JSON."""
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (_features(count, generator) for count in (QUERIES, GALLERY))
    target = torch.randint(GALLERY, (QUERIES,), generator=generator)
    task = RetrievalTask(
        "bench",
        tuple(Query(str(n), text="q", relevant=(str(int(t)),)) for n, t in enumerate(target)),
        tuple(Candidate(str(n), text="c") for n in range(GALLERY)),
    )
    task.position  # noqa: B018  # made once, whatever ranks
    queries[:8] @ candidates[:8].T  # the library's own buffers and threads
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    if way == "full":
        ranks = sorted_whole(queries, candidates, target).numpy()
    else:
        ranks = rank(task, queries, candidates).ranks[:, 0]
    seconds = time.perf_counter() - start
    extra = _peak() - before
    np.save(out, ranks)
    print(json.dumps({"megabytes": extra / 1e6, "seconds": seconds}))


def _peak() -> int:
    """Bytes. Not getrusage's figure: a new program inherits that one from the old (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
