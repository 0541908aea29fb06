"""Benchmarks of ranking at CIRCO's size: time against the bare product, and memory.

`python -m bench.speed_ranking full|blocks FILE` is the part that runs in a process of its own, so
that its peak memory is its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from bench.metrics import average_precision, recall
from bench.ranking import rank, search
from bench.speed_rows import Row, close, compare
from data_recipes.core.model import Candidate, Query, RetrievalTask

QUERIES, GALLERY, DIM = 800, 123_403, 512  # CIRCO's test split, CLIP ViT-B's features
SIZE = f"{QUERIES} queries x {GALLERY:,} candidates x {DIM}"
CUTS = (5, 10, 25, 50)


def rows(folder: Path) -> list[Row]:
    """Against the bare product and a sort per query; memory and time against a sorted matrix."""
    whole, blocks, same = ranking_memory(folder)
    units = (("extra memory", "megabytes", "MB", 10.0, 300.0), ("time", "seconds", "s", 1.0, None))
    return [
        ranking(),
        *circo(),
        *(
            Row(
                f"ranking {SIZE}, against a whole matrix sorted: {what}",
                whole[key],
                blocks[key],
                whole[key] / blocks[key],
                goal,
                same,
                unit,
                limit,
            )
            for what, key, unit, goal, limit in units
        ),
    ]


def circo() -> list[Row]:
    """Ranks, mAP@5 to 50 and the first 50 of each query, in one pass.

    Against the bare fp32 product as one writes it, `queries @ candidates.T`, whose 395 MB are new
    memory each time; against the product alone, into memory that is kept for all similarities or
    for a tenth of them in turn (whichever is faster; nobody has ranks from that, so it has no
    goal); and against a sort per query with the metrics in Python.
    """
    task, queries, candidates = composed()
    buffer = torch.empty(QUERIES, GALLERY)
    tenth = -(-GALLERY // 10)

    def product() -> None:
        queries @ candidates.T

    def product_kept() -> None:
        torch.mm(queries, candidates.T, out=buffer)

    def product_in_parts() -> None:
        for first in range(0, GALLERY, tenth):
            part = candidates[first : first + tenth]
            room = buffer.view(-1)[: QUERIES * len(part)].view(QUERIES, len(part))
            torch.mm(queries, part.T, out=room)

    found: list[tuple[Tensor, list[list[int]]]] = []

    def ours() -> None:
        seen = search(task, queries, candidates, k=50)
        assert seen is not None and seen.first is not None
        ranks = seen.rankings.ranks
        values = [float(average_precision(ranks, k).mean()) for k in CUTS]
        found.append((torch.tensor(values), seen.first.tolist()))

    ways = (product, product_kept, product_in_parts, ours)
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(8):
        for way, run in zip(times, ways, strict=True):
            start = time.perf_counter()
            run()
            if turn:  # the first is the warm-up
                way.append(time.perf_counter() - start)
    bare, *kept, own = (statistics.median(way) for way in times)
    start = time.perf_counter()
    values, lists = one_by_one(task, queries, candidates)
    plain = time.perf_counter() - start
    same = close(values, found[-1][0]) and lists == found[-1][1] and float(values[0]) > 0
    name = f"ranking {SIZE}, top 50 and mAP@k, against"
    return [
        Row(f"{name} the bare product", bare, own, bare / own, 0.87, same),
        Row(f"{name} the product into kept memory", min(kept), own, min(kept) / own, None, same),
        Row(f"{name} a sort per query", plain, own, plain / own, 10.0, same),
    ]


def composed() -> tuple[RetrievalTask, Tensor, Tensor]:
    """A task like CIRCO's: 1 to 25 right candidates, 4.5 in the mean; most ranks below 1,000.

    A query shares a part with its candidates. Whole numbers, whose products are exact.
    """
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    candidates = _features(GALLERY, generator)
    queries = torch.empty(QUERIES, DIM)
    several = rng.geometric(1 / 4.5, QUERIES).clip(1, 25)
    own = np.split(rng.permutation(GALLERY)[: several.sum()], several.cumsum()[:-1])
    for row, relevant in enumerate(own):
        shared = rng.integers(-35, 36, DIM)
        queries[row] = torch.from_numpy(shared + rng.integers(-69, 70, DIM))
        noise = rng.integers(-85, 86, (len(relevant), DIM))
        candidates[relevant] = torch.from_numpy(shared + noise).float()
    task = RetrievalTask(
        "bench",
        tuple(
            Query(str(n), text="q", relevant=tuple(map(str, relevant)))
            for n, relevant in enumerate(own)
        ),
        tuple(Candidate(str(n), text="c") for n in range(GALLERY)),
    )
    task.position  # noqa: B018  # made once, whatever ranks
    return task, queries, candidates


def one_by_one(
    task: RetrievalTask, queries: Tensor, candidates: Tensor
) -> tuple[Tensor, list[list[int]]]:
    """The plain way: mAP at CUTS and the first 50, by a sort and a Python loop for each query.

    A right candidate is last among equals in the metrics, as in ours.
    """
    precisions: list[list[float]] = []
    lists = []
    for query, row in zip(task.queries, queries @ candidates.T, strict=True):
        own = [task.position[c] for c in query.relevant]
        order = np.argsort(-row.numpy(), kind="stable")[:100].tolist()
        lists.append(order[:50])
        order.sort(key=lambda c: (-float(row[c]), c in own))
        places = [place for place, c in enumerate(order, 1) if c in own]
        precisions.append(
            [
                sum((n + 1) / r for n, r in enumerate(places) if r <= k) / min(k, len(own))
                for k in CUTS
            ]
        )
    return torch.tensor(precisions, dtype=torch.float64).mean(dim=0).float(), lists


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
    return compare(name, sorted_one_by_one, ours, close, 10.0, 5)


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
        found = search(task, queries, candidates, k=50)
        assert found is not None
        ranks = found.rankings.ranks[:, 0]
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
