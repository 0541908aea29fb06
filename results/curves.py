"""Loss curves as a tidy frame, thinned. Of large stores only what a figure shows is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from results.frames import REPLICATE, SERIES, place

CURVE_COLUMNS = (*SERIES, "shots", *REPLICATE, "key", "step", "loss")
MOST_POINTS = 50
MOST_SEEDS = 5
"""Curves of one row; more would hide one another."""


class Curves:
    """Takes records one at a time and keeps each row's curves at its highest shot count."""

    def __init__(self) -> None:
        """No curves yet."""
        self._kept: dict[tuple[Any, ...], tuple[int, dict[tuple[int, int, str], Any]]] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep the record's curve if it is one of those that a figure shows."""
        curve = record["loss_curve"]
        if not curve:
            return
        at = place(record["cell"])
        series = tuple(at[name] for name in SERIES)
        shots, replicate = at["shots"], (at["draw"], at["seed"], str(record["key"]))
        highest, runs = self._kept.setdefault(series, (shots, {}))
        if shots < highest:
            return
        if shots > highest:
            runs = {}
            self._kept[series] = (shots, runs)
        runs[replicate] = thinned(curve)
        if len(runs) > MOST_SEEDS:
            del runs[max(runs)]

    def frame(self) -> pd.DataFrame:
        """`CURVE_COLUMNS`, sorted: the first `MOST_SEEDS` runs of each row."""
        rows = [
            (*series, shots, *run, int(step), float(loss))
            for series, (shots, runs) in sorted(self._kept.items())
            for run, curve in sorted(runs.items())
            for step, loss in curve
        ]
        return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def thinned(curve: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most `MOST_POINTS` of a curve's points, evenly spaced, with its first and last."""
    if len(curve) <= MOST_POINTS:
        return [*curve]
    return [curve[i] for i in np.linspace(0, len(curve) - 1, MOST_POINTS).round().astype(int)]
