"""Speed, as ratios against a baseline in the same run: `make bench`.

Each row names a baseline (what one would otherwise run), our way, the ratio of their median
times, and whether both gave the same numbers. Written to results/benchmarks.json and .md.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from torch import Tensor

from bench.features import image_features
from bench.metrics import average_precision, recall
from bench.provenance import provenance
from bench.ranking import rank
from bench.speed_scale import DIM, GALLERY, QUERIES, ranking_memory, shard_reading
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import Candidate, Query, RetrievalTask
from data_recipes.core.registry import recipe
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import TaskInfo

OUT = Path(__file__).resolve().parent.parent / "results"


@dataclass(frozen=True)
class Row:
    """Baseline and ours in `unit` (medians of seconds); goal: the ratio asked for."""

    name: str
    baseline: float
    ours: float
    ratio: float
    goal: float
    equal: bool
    unit: str = "s"


def compare(
    name: str,
    baseline: Callable[[], Any],
    ours: Callable[[], Any],
    same: Callable[[Any, Any], bool],
    goal: float,
    repeats: int,
) -> Row:
    """Run both in turn, `repeats` times after one warm-up; the medians' ratio is the result."""
    results = (baseline(), ours())
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for way, run in enumerate((baseline, ours)):
            start = time.perf_counter()
            run()
            times[way].append(time.perf_counter() - start)
    first, second = (statistics.median(t) for t in times)
    return Row(name, first, second, first / second, goal, same(*results))


def close(first: Tensor, second: Tensor) -> bool:
    """Equal to 1e-4 of the larger norm."""
    return bool((first - second).norm() <= 1e-4 * first.norm())


def prompt_step() -> Row:
    """CoOp's text side, forward and backward: padded to 77 tokens against cut at the longest."""
    backbone = load_backbone(BackboneSpec(model="ViT-B-32-quickgelu", random_seed=0))
    names = tuple(recipe("openmoji-roles")().tasks()[0].training().candidates[:50])
    classes = tuple(c.text or "" for c in names)
    torch.manual_seed(0)
    method = CoOp(CoOpConfig(), backbone, TaskInfo("classification", classes))
    weight = torch.randn(len(classes), backbone.dim)

    def gradient(features: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad((features * weight).sum(), method.ctx)
        return grad

    def ours() -> Tensor:
        return gradient(method.text(classes))

    def padded() -> Tensor:
        return gradient(padded_text(method, classes, backbone))

    return compare("prompt step, ViT-B-32 text, 50 classes, M = 16", padded, ours, close, 1.0, 3)


def padded_text(method: CoOp, classes: tuple[str, ...], backbone: Backbone) -> Tensor:
    """The official code's way: every prompt runs at the full context length."""
    tower = backbone.text
    ids = tower.tokenize([" ".join(["X"] * method.config.n_ctx) + f" {c}." for c in classes])
    embeddings = tower.embed(ids)
    context = method.ctx.expand(len(ids), -1, -1)
    m = method.config.n_ctx
    x = torch.cat([embeddings[:, :1], context, embeddings[:, 1 + m :]], dim=1)
    model: Any = backbone.model
    x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
    x = model.ln_final(x)[torch.arange(len(ids)), tower.end(ids)] @ model.text_projection
    return torch.nn.functional.normalize(x, dim=-1)


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


def data_rows(folder: Path) -> list[Row]:
    """Features, first and later use; reading shards against bare webdataset."""
    build_dataset(recipe("openmoji-composed")(), folder / "openmoji-composed")
    dataset = open_dataset(folder / "openmoji-composed")
    backbone = load_backbone(BackboneSpec())
    ids = list(dataset.reader.index)

    def first() -> Tensor:
        with tempfile.TemporaryDirectory() as cache:
            return image_features(dataset, backbone, Path(cache)).at(ids)

    image_features(dataset, backbone, folder / "cache")

    def later() -> Tensor:
        return image_features(dataset, backbone, folder / "cache").at(ids)

    urls = [str(folder / "openmoji-composed" / s.name) for s in dataset.manifest.shards]

    def bare() -> list[bytes]:
        return [sample["png"] for sample in wds.WebDataset(urls, shardshuffle=False)]

    def ours() -> list[bytes]:
        return [data for _, data in dataset.reader.stream()]

    return [
        compare("image features, second use against first", first, later, torch.equal, 1.0, 2),
        compare("reading shards, against bare webdataset", bare, ours, list.__eq__, 0.9, 7),
    ]


def scale_rows(folder: Path) -> list[Row]:
    """Reading shards of photos; memory and time of ranking CIRCO's gallery."""
    (bare, ours), (bare_decoded, ours_decoded) = shard_reading(folder)
    whole, blocks, same = ranking_memory(folder)
    ranked = f"{QUERIES} queries x {GALLERY:,} candidates x {DIM}, against a whole matrix sorted"
    units = (("extra memory", "megabytes", "MB", 10.0), ("time", "seconds", "s", 1.0))
    return [
        compare("reading shards of photos, bytes", bare, ours, list.__eq__, 1.0, 5),
        compare(
            "reading shards of photos, decoded", bare_decoded, ours_decoded, list.__eq__, 1.0, 3
        ),
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


def markdown(rows: list[Row], machine: dict[str, Any]) -> str:
    """The table with the machine's description."""
    facts = f"{machine['processor']}, {machine['cores']} cores; torch {torch.__version__}"
    lines = [
        "# Benchmarks",
        "",
        f"{facts}, {torch.get_num_threads()} threads, float32. Medians of one run.",
        "",
        "| what | baseline | ours | unit | ratio | goal | equal |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    lines += [
        f"| {r.name} | {r.baseline:.4g} | {r.ours:.4g} | {r.unit} | {r.ratio:.2f} | {r.goal:g} | "
        f"{'yes' if r.equal else 'NO'} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all benchmarks, print the table, write both files; exit 1 if results differ."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        rows = [prompt_step(), ranking(), *data_rows(Path(folder))]
        rows += scale_rows(Path(folder))
    text = markdown(rows, provenance()["hardware"])
    print(text)
    OUT.joinpath("benchmarks.md").write_text(text)
    OUT.joinpath("benchmarks.json").write_text(json.dumps([asdict(r) for r in rows], indent=1))
    if not all(row.equal for row in rows):
        raise SystemExit("a benchmark's two ways gave different numbers")


if __name__ == "__main__":
    main()
