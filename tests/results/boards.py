"""A small leaderboard for tests: one dataset, three methods, with outcomes for every query."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd

from results.store import RecordStore
from tests.results.conftest import synthetic_record

QUERIES = 40
PROVENANCE: dict[str, Any] = {
    "git": {"revision": "0123456789abcdef" * 2 + "01234567", "changed": False},
    "packages": {"promptgrid": "0.1.0", "torch": "2.15.0"},
    "python": "3.11.7",
    "hardware": {
        "processor": "A | processor",
        "cores": 2,
        "memory_bytes": 1024,
        "gpus": [],
        "system": "Linux x86_64",
    },
}


def outcomes(right: int, seed: int = 0, order: int | None = None) -> pd.DataFrame:
    """Ranks with `right` of `QUERIES` first; order: seed of the rows' order."""
    firsts = set(random.Random(seed).sample(range(QUERIES), right))
    rows = [
        {
            "query_id": f"q{n}",
            "part": "test",
            "group": None if n % 7 == 0 else f"g{n % 3}",
            "cluster": f"image {n // 2}",
            "rank": 1 if n in firsts else 3,
            "value": 1.0 if n in firsts else 0.0,
            "gallery": 9,
        }
        for n in range(QUERIES)
    ]
    if order is not None:
        random.Random(order).shuffle(rows)
    return pd.DataFrame(rows)


def cell(
    method: str = "coop", shots: int = 1, seed: int = 1, right: int = 20, **changes: Any
) -> tuple[dict[str, Any], pd.DataFrame]:
    """A record with complete provenance, and its ranks: `right` of `QUERIES` queries."""
    changes = {"n_queries": QUERIES, "provenance": PROVENANCE} | changes
    record = synthetic_record(method, shots, seed, right / QUERIES, **changes)
    return record, outcomes(right, seed)


def some_cells() -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Two methods that train, at one and two shots, three seeds each, and one that does not."""
    draw = random.Random(5)
    cells = [cell("zero-shot", 0, 0, 11)]
    for method, base in (("coop", 15), ("cocoop", 21)):
        for shots in (1, 2):
            cells += [
                cell(method, shots, seed, base + 5 * shots + draw.randrange(3))
                for seed in (1, 2, 3)
            ]
    return cells


def run_folder(
    root: Path, cells: list[tuple[dict[str, Any], pd.DataFrame]] | None = None
) -> RecordStore:
    """A run's folder with these cells."""
    store = RecordStore(root)
    for record, ranks in some_cells() if cells is None else cells:
        store.write(record, ranks=ranks)
    return store


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
