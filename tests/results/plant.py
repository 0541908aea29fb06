"""Records with planted per-query outcomes, for tests of the statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.frames import from_records
from tests.results.conftest import synthetic_record

Floats = npt.NDArray[np.float64]


class Planted:
    """Records and their outcomes, as a store would hold them; `reads` counts per key."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.tables: dict[str, pd.DataFrame] = {}
        self.reads: dict[str, int] = {}

    def add(
        self,
        method: str,
        values: Sequence[float] | Floats,
        seed: int = 1,
        shots: int = 4,
        parts: Sequence[str] | None = None,
        clusters: Sequence[str] | None = None,
        headline: float | None = None,
        outcomes: bool = True,
        metrics: dict[str, float] | None = None,
        draw: int | None = None,
        **cell: Any,
    ) -> str:
        """One record; its headline is the mean of `values` unless given. Returns its key."""
        outcome = np.asarray(values, dtype=np.float64)
        accuracy = float(outcome.mean()) if headline is None else headline
        record = synthetic_record(
            method, shots, 0 if shots == 0 else seed, accuracy, n_queries=len(outcome), **cell
        )
        if metrics is not None:
            record["metrics"] = metrics
        if draw is not None:
            record["cell"]["draw"] = draw
            record["key"] += f"-{draw}"
        self.records.append(record)
        if outcomes:
            names = [f"q{i}" for i in range(len(outcome))]
            self.tables[record["key"]] = pd.DataFrame(
                {
                    "query_id": names,
                    "part": list(parts) if parts is not None else "test",
                    "cluster": list(clusters) if clusters is not None else names,
                    "rank": np.where(outcome > 0.5, 1, 2),
                    "value": outcome,
                }
            )
        return str(record["key"])

    @property
    def frame(self) -> pd.DataFrame:
        return from_records(self.records)

    def read(self, key: str) -> pd.DataFrame | None:
        self.reads[key] = self.reads.get(key, 0) + 1
        return self.tables.get(key)

    def of(self, method: str) -> pd.DataFrame:
        """The headline rows of a method."""
        frame = self.frame
        return frame[(frame["method"] == method) & frame["headline"]]
