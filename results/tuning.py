"""How much each method was tuned: a comparison is fair where the tries and their cost are alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from results.frames import is_stage

PLACE = ("dataset", "task", "backbone", "data_version", "method")
"""What tries are counted within: a method on one version of one data set and backbone."""

LEDGER_COLUMNS = (
    *PLACE,
    "tries",
    "records",
    "gpu_seconds",
    "core_seconds",
    "selection",
    "selection_split",
)


@dataclass
class _Spent:
    configurations: set[str] = field(default_factory=set)
    gpu: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    records: int = 0


def tuning_ledger(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """`LEDGER_COLUMNS` for each method, data and way to choose options, sorted.

    `tries` are the distinct configurations and training recipes among all records, ablations and
    every seed included, and stages with the data they learned on; a try of which no record is left
    is not known. `gpu_seconds` is wall time of all timed phases x ranks of records made on a GPU,
    `core_seconds` wall time x ranks x threads of the others. `selection` is fixed (beforehand),
    validation or oracle (on what is scored), `selection_split` the split, "" where fixed. Records
    of systems scored from prediction files have no configuration that is known, and are left out.
    """
    spent: dict[tuple[str, ...], _Spent] = {}
    for record in records:
        if record["engine"].get("external"):
            continue
        cell = record["cell"]
        selection = (str(cell.get("selection") or "fixed"), str(cell.get("selection_split") or ""))
        row = spent.setdefault(
            (*(str(cell.get(name) or "") for name in PLACE), *selection), _Spent()
        )
        row.records += 1
        row.configurations.add(_configuration(record))
        seconds, on_gpu = _seconds(record)
        (row.gpu if on_gpu else row.cores).append(seconds)
    rows = [
        (
            *place[: len(PLACE)],
            len(row.configurations),
            row.records,
            math.fsum(row.gpu),
            math.fsum(row.cores),
            *place[len(PLACE) :],
        )
        for place, row in sorted(spent.items())
    ]
    types = {"tries": int, "records": int, "gpu_seconds": float, "core_seconds": float}
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS)).astype(types)


def _configuration(record: Mapping[str, Any]) -> str:
    """What was tried: options and recipe; not the data's draw, the seed or the code's version."""
    identity = record["identity"]
    tried = [identity.get("config"), identity.get("training"), is_stage(record)]
    return json.dumps(tried, sort_keys=True)


def _seconds(record: Mapping[str, Any]) -> tuple[float, bool]:
    """Seconds of all ranks (and threads, on a CPU), and whether it was a GPU's."""
    engine = record["engine"]
    on_gpu = str(engine.get("device", "cpu")) != "cpu"
    ranks = int(engine.get("world_size", 1)) * (1 if on_gpu else int(engine.get("threads", 1)))
    return math.fsum(record["timings"].values()) * ranks, on_gpu
