"""Benchmark of the report: tables and plots of 100,000 records through the command line.

The records are synthetic, written as `record.json` files: 20 methods on 10 datasets at 5 shot
counts with 100 seeds each, five metrics, and a loss curve of 50 steps. A second, smaller store has
the outcome of every query too.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.speed_rows import Row
from results.store import RANKS_FILE, RECORD_FILE

METHODS, DATASETS, SHOTS, SEEDS, STEPS = 20, 10, (1, 2, 4, 8, 16), 100, 50
SERIES = METHODS * DATASETS * len(SHOTS)
PAIRED_SEEDS, QUERIES = 2, 1_000
MOST_SECONDS, MOST_MEGABYTES = 60.0, 2000.0
# Stand in a template for what differs between the seeds of one run.
KEY, SEED, SCORE, LOSS = "the key", 123454321, 0.987654321, 9.87654321

# VmHWM, because a process inherits its parent's ru_maxrss.
_REPORT = """
import sys
from pathlib import Path
from bench.cli import app
app(["report", sys.argv[1]], standalone_mode=False)
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def rows(folder: Path) -> list[Row]:
    """Seconds and peak memory of a large store's report; seconds that outcomes of queries add."""
    large, plain, paired = (folder / name for name in ("large", "plain", "paired"))
    write_store(large, SEEDS)
    seconds, megabytes = report(large)
    write_store(plain, PAIRED_SEEDS)
    write_store(paired, PAIRED_SEEDS, QUERIES)
    without, _ = report(plain)
    with_queries, _ = report(paired)
    name = f"report of {SERIES * SEEDS:,} records (baseline: the limit)"
    more = f"report of {SERIES * PAIRED_SEEDS:,} records with {QUERIES:,} queries each, "
    return [
        _limited(name, seconds, MOST_SECONDS, "s"),
        _limited(f"{name}, peak memory", megabytes, MOST_MEGABYTES, "MB"),
        Row(f"{more}against none", without, with_queries, without / with_queries, None, True),
    ]


def _limited(name: str, ours: float, limit: float, unit: str) -> Row:
    return Row(name, limit, ours, limit / ours, None, True, unit, limit)


def report(folder: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of `promptgrid report FOLDER`, in a process of its own."""
    start = time.perf_counter()
    words = [sys.executable, "-c", _REPORT, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the report ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - start, float(done.stderr.split()[-1]) * 1024 / 1e6


def write_store(folder: Path, seeds: int, queries: int = 0) -> None:
    """`SERIES` times `seeds` records; queries: how many outcomes each has, 0 for none."""
    draw = np.random.default_rng(7)
    for group, template in enumerate(_templates(max(1, queries))):
        text = json.dumps(template, sort_keys=True, indent=1)
        for seed in range(1, seeds + 1):
            key = f"{random.Random(group * seeds + seed).getrandbits(256):064x}"
            place = folder / "records" / key
            place.mkdir(parents=True)
            score = min(0.9, max(0.05, 0.2 + 0.0004 * group + draw.normal(0.0, 0.01)))
            if queries:
                ranks = _ranks(queries, score, draw)
                ranks.to_parquet(place / RANKS_FILE, index=False)
                score = float(ranks["value"].mean())
            own = text.replace(KEY, key).replace(str(SEED), str(seed))
            own = own.replace(str(SCORE), repr(score)).replace(str(LOSS), repr(3 + draw.random()))
            place.joinpath(RECORD_FILE).write_text(own + "\n", encoding="utf-8")


def _templates(n_queries: int) -> Iterator[dict[str, Any]]:
    """A record of each method, dataset and shot count."""
    for method in range(METHODS):
        for dataset in range(DATASETS):
            for shots in SHOTS:
                yield _template(f"method-{method:02}", f"data-{dataset:02}", shots, n_queries)


def _template(method: str, dataset: str, shots: int, n_queries: int) -> dict[str, Any]:
    place = {"method": method, "dataset": dataset, "task": "composed", "protocol": "composed/1"}
    run: dict[str, Any] = {"shots": shots, "seed": SEED, "stage": False, "trained_on": None}
    recipe = {"optimizer": "sgd", "lr": 0.002, "epochs": 50, "batch_size": 32, "views": 8}
    config = {"n_ctx": 16, "ctx_init": "a photo of a", "class_token_position": "end"}
    versions = {"data_version": "95525a16d786", "backbone_version": "6619a44adbb5"}
    return {
        "schema": 1,
        "key": KEY,
        "identity": {**place, **run, "config": config, "training": recipe},
        "cell": {
            **place,
            **run,
            **versions,
            "study": "large",
            "backbone": "openmoji-vit",
            "variant": None,
            "trains": True,
        },
        "metrics": {
            "recall@1": SCORE,
            **dict.fromkeys(("recall@5", "recall@10", "recall@50", "map@10"), 0.95),
        },
        "headline": "recall@1",
        "n_queries": n_queries,
        "tie_rate": 0.0,
        "loss_curve": [[step, LOSS if step == 0 else 2.0 / step] for step in range(STEPS)],
        "trainable_parameters": 8192,
        "timings": {"load": 0.01, "setup": 0.1, "train": 2.5, "score": 0.4},
        "memory": {"process_peak_bytes": 1980170240},
        "engine": {"device": "cpu", "threads": 1, "world_size": 1, "zero_stage": 0},
        "provenance": {
            "git": {"changed": False, "revision": "65943a880a1966d13819b474052b6e7c7e390885"},
            "hardware": {"cores": 2, "gpus": [], "memory_bytes": 25276063744},
            "packages": {"deepspeed": "0.19.8", "numpy": "2.4.6", "torch": "2.15.0"},
            "python": "3.11.7",
        },
        "notes": ["inferred: late fusion (the paper classifies only)", "chance: 0.000993"],
    }


def _ranks(queries: int, score: float, draw: np.random.Generator) -> pd.DataFrame:
    """Outcomes of queries in clusters of two, `score` of them right."""
    right = draw.random(queries) < score
    return pd.DataFrame(
        {
            "query_id": [f"query-{number:06}" for number in range(queries)],
            "part": "test",
            "group": [f"query-{number:06}" for number in range(queries)],
            "cluster": [f"image-{number // 2:06}" for number in range(queries)],
            "rank": np.where(right, 1, draw.integers(2, 500, queries)),
            "value": right.astype(float),
            "gallery": 1000,
        }
    )
