"""Synthetic records: the smallest dicts that pass the schema."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

MakeRecord = Callable[..., dict[str, Any]]


def synthetic_record(
    method: str = "coop",
    shots: int = 1,
    seed: int = 1,
    accuracy: float = 0.5,
    dataset: str = "roles",
    **changes: Any,
) -> dict[str, Any]:
    """A record; `changes` replace fields of the record, or of its cell where named there."""
    cell: dict[str, Any] = {
        "study": "demo",
        "method": method,
        "dataset": dataset,
        "task": "classification",
        "shots": shots,
        "seed": seed,
        "backbone": "tiny",
        "protocol": "classification/1",
        "variant": None,
        "trains": shots > 0,
    }
    cell |= {name: changes.pop(name) for name in list(changes) if name in cell}
    key = "-".join(
        str(cell[name]) for name in ("method", "dataset", "shots", "seed", "backbone", "variant")
    ).replace("/", "_")
    record: dict[str, Any] = {
        "schema": 1,
        "key": key,
        "identity": {"method": method, "lr": 2e-3},
        "cell": cell,
        "metrics": {"accuracy": accuracy, "recall@5": min(1.0, accuracy + 0.2)},
        "headline": "accuracy",
        "n_queries": 200,
        "tie_rate": 0.005,
        "loss_curve": [[0, 3.5], [10, 2.25]],
        "trainable_parameters": 512 if shots else 0,
        "timings": {"train": 1.5, "evaluate": 0.25},
        "memory": {"peak_rss_bytes": 1000},
        "engine": {"deepspeed": "0.19", "zero_stage": 2, "world_size": 2},
        "provenance": {"git": "abc"},
        "notes": ["chance: 0.0056"],
    }
    return record | changes


def synthetic_study() -> list[dict[str, Any]]:
    """Two datasets, two training-free methods, three that train, 4 shot counts, 3 seeds."""
    draw = random.Random(7)
    gains = {"coop": 0.03, "cocoop": 0.02, "kgcoop": 0.035}
    records = []
    for dataset, base in (("roles", 0.15), ("gestures", 0.42)):
        for method, extra in (("zero-shot", 0.0), ("class-mean", 0.06)):
            records.append(synthetic_record(method, 0, 0, base + extra, dataset))
        for method, gain in gains.items():
            for doublings in range(4):
                for seed in (1, 2, 3):
                    accuracy = base + 0.04 + gain * doublings + draw.gauss(0, 0.012)
                    records.append(synthetic_record(method, 2**doublings, seed, accuracy, dataset))
    return records


@pytest.fixture
def make_record() -> MakeRecord:
    return synthetic_record


@pytest.fixture
def study() -> list[dict[str, Any]]:
    return synthetic_study()
