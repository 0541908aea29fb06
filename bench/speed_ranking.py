"""Benchmarks of ranking: time, and memory at CIRCO's size.

`python -m bench.speed_ranking full|blocks FILE` is the part that runs in a process of its own, so
that its peak memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from bench.metrics import average_precision, recall
from bench.ranking import rank
from bench.speed_rows import Row, close, compare
from data_recipes.core.model import Candidate, Query, RetrievalTask

QUERIES, GALLERY, DIM = 800, 123_403, 512  # CIRCO's test split, CLIP ViT-B's features


def rows(folder: Path) -> list[Row]:
    """Ranking against a sort per query; memory and time against a whole matrix sorted."""
    whole, blocks, same = ranking_memory(folder)
    ranked = f"{QUERIES} queries x {GALLERY:,} candidates x {DIM}, against a whole matrix sorted"
    units = (("extra memory", "megabytes", "MB", 10.0), ("time", "seconds", "s", 1.0))
    return [
        ranking(),
        *(
            Row(
                f"ranking {ranked}: {what}",
                whole[key],
                blocks[key],
                whole[key] / blocks[key],
                goal,
                same,
                unit,
            )
            for what, key, unit, goal in units
        ),
    ]


def ranking() -> Row:
    """Exact recall@10 and mAP@10, 300 queries x 20,000 candidates, against sorting each query."""
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (torch.randn(n, 64, generator=generator) for n in (300, 20_000))
    relevant = [torch.randperm(len(candidates), generator=generator)[:4].tolist() for _ in queries]
    task = RetrievalTask(
        "bench",
        tuple(
            Query(str(i), text="q", relevant=tuple(map(str, own))) for i, own in enumerate(relevant)
        ),
        tuple(Candidate(str(i), text="c") for i in range(len(candidates))),
    )

    def ours() -> Tensor:
        ranks = rank(task, queries, candidates).ranks
        return torch.tensor([recall(ranks, 10).mean(), average_precision(ranks, 10).mean()])

    def sorted_one_by_one() -> Tensor:
        hits, precisions = [], []
        for query, own in zip(queries, relevant, strict=True):
            order = np.argsort(-(candidates @ query).numpy(), kind="stable")[:10].tolist()
            found = [i for i, c in enumerate(order, 1) if c in own]
            hits.append(bool(found))
            precisions.append(sum((n + 1) / r for n, r in enumerate(found)) / min(10, len(own)))
        return torch.tensor([np.mean(hits), np.mean(precisions)])

    name = "ranking 300 x 20,000 x 64, against a sort per query"
    return compare(name, sorted_one_by_one, ours, close, 1.0, 5)


def ranking_memory(folder: Path) -> tuple[dict[str, float], dict[str, float], bool]:
    """(the full matrix sorted, ours, same ranks): extra peak memory (MB) and time (s) of each."""
    found, ranks = [], []
    for way in ("full", "blocks"):
        out = folder / f"{way}.npy"
        run = [sys.executable, "-m", "bench.speed_ranking", way, str(out)]
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
