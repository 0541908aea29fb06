"""A record of a system outside this harness, from its prediction files: it enters the leaderboard.

The record holds what the scorer computed, the digests of the files it was computed from, and that
it was not trained here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import keys
from bench.cell import RECORD_SCHEMA
from bench.evaluate import Evaluation
from bench.provenance import provenance
from bench.summary import is_fraction
from data_recipes.core.digests import sha256
from data_recipes.core.model import DataError
from data_recipes.core.protocol import protocol
from results.absent import EXTERNAL

# Families whose sets are the parts of one task in this harness: protocol -> (task, its parts).
WHOLE_TASKS: Mapping[str, tuple[str, frozenset[str]]] = {
    "fashioniq-original/1": ("original", frozenset({"dress", "shirt", "toptee"})),
    "fashioniq-val/1": ("val", frozenset({"dress", "shirt", "toptee"})),
    "cirr/1": ("val", frozenset({"cirr"})),
    "cirr-soft/1": ("val-soft", frozenset({"cirr"})),
    "circo/1": ("val", frozenset({"circo"})),
}


@dataclass(frozen=True)
class System:
    """Who made the predictions. shots, seed: 0 and 0 unless it was trained on few shots."""

    method: str
    backbone: str
    shots: int = 0
    seed: int = 0
    source: str = ""


def record_of(found: Evaluation, system: System, predictions: list[Path]) -> dict[str, Any]:
    """The record of an evaluation; `found.queries` are its per-query ranks.

    The dataset is the protocol's family; the task is the harness' own where the sets are all its
    parts, else the names of the sets, so that half a benchmark never shares a column with it.

    Raises:
        DataError: queries were left out of the means, or the headline could not be computed.
    """
    rules = protocol(found.protocol)
    if found.missing and len(found.queries) == found.n:
        raise DataError(
            f"{found.missing} of {found.n + found.missing} queries have no prediction and were "
            "left out, which no other row of the leaderboard does; predict all of them, or pass "
            "--missing miss"
        )
    named = {name.removeprefix("mean "): value for name, value in found.metrics.items()}
    values = {name: value for name, value in named.items() if value is not None}
    for metric in rules.metrics:  # two directions: the plain mean has the metric's own name
        parts = [v for n, v in values.items() if n in {p + metric for _, p in rules.prefixes}]
        if metric not in values and parts:
            values[metric] = sum(parts) / len(parts)
    if rules.headline not in values:
        raise DataError(f"{rules.headline}, the headline of {rules.name}, has no value to record")
    family = rules.name.split("/")[0].split("-")[0]
    task, whole = WHOLE_TASKS.get(rules.name, ("", frozenset()))
    if set(found.sets) != whole:
        task = "+".join(found.sets)
    identity = {
        "external": {
            "method": system.method,
            "backbone": system.backbone,
            "shots": system.shots,
            "seed": system.seed,
            "protocol": rules.name,
            "predictions": sorted(sha256(path) for path in predictions),
            "annotations": found.digests,
        }
    }
    origin = "scored from prediction files, not run here"
    return {
        "schema": RECORD_SCHEMA,
        "key": keys.key(identity),
        "identity": identity,
        "cell": {
            "study": EXTERNAL,
            "method": system.method,
            "variant": None,
            "dataset": family,
            "task": task,
            "shots": system.shots,
            "seed": system.seed,
            "backbone": system.backbone,
            "protocol": rules.name,
            "trained_on": None,
            "trains": system.shots > 0,
        },
        "metrics": {name: value for name, value in values.items() if is_fraction(name)},
        "statistics": {name: value for name, value in values.items() if not is_fraction(name)},
        "headline": rules.headline,
        "n_queries": len(found.queries),
        "n_used": found.n,
        "tie_rate": found.tie_rate or 0.0,
        "loss_curve": [],
        "trainable_parameters": 0,
        "timings": {},
        "memory": {},
        "engine": {"external": True},
        "provenance": provenance(),
        "notes": [f"{origin} ({system.source})" if system.source else origin, *found.notes],
    }
