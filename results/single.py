"""Intervals of training-free methods: what the queries leave open, as no seed says anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from results.frames import SERIES
from results.paired import SHAPES, Floats, Integers, Outcomes, ReadQueries, Run, headline_of
from results.pairs import EXACT

SINGLE_COLUMNS = (*SERIES, "shots", "metric", "key", "value", "low", "high", "clusters")
RESAMPLES = 2000
LEVEL = 0.95


def single_run_intervals(frame: pd.DataFrame, read_queries: ReadQueries) -> pd.DataFrame:
    """`SINGLE_COLUMNS`: a 95 % cluster bootstrap of the headline of every training-free method.

    Left out are ablations, runs without per-query outcomes or of one cluster, and those whose
    headline is no mean of the outcomes (`paired.SHAPES`).
    """
    rows: list[dict[str, Any]] = []
    free = frame["headline"] & ~frame["trains"] & (frame["ablation_of"] == "")
    for group, cells in frame[free].groupby([*SERIES, "shots"], sort=True):
        if len(cells) != 1:
            continue
        row = cells.iloc[0]
        # One at a time: nothing is kept.
        run = Outcomes(read_queries).run(row["key"], row["metric"])
        shape = next((s for s in SHAPES if run and abs(run.score(s) - row["value"]) <= EXACT), "")
        if run is None or not shape or run.layout.clusters < 2:
            continue
        low, high = cluster_bootstrap(run, shape)
        found = {name: row[name] for name in ("metric", "key", "value")}
        place = dict(zip((*SERIES, "shots"), group, strict=True))
        rows.append({**place, **found, "low": low, "high": high, "clusters": run.layout.clusters})
    return pd.DataFrame(rows, columns=list(SINGLE_COLUMNS))


def cluster_bootstrap(run: Run, shape: str, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a run's score; whole clusters are drawn with replacement.

    Needs no linear approximation, so that it holds for harmonic means of few queries as well
    (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). A draw
    without any query of a part does not count.
    """
    layout = run.layout
    parts = len(layout.sizes)
    place = layout.cluster * parts + layout.part
    size = layout.clusters * parts
    sums = np.bincount(place, weights=run.values, minlength=size).reshape(-1, parts)
    counts = np.bincount(place, minlength=size).reshape(-1, parts)

    def drawn(clusters: Integers, axis: int) -> Floats:
        # The parts are one axis more, at the end.
        axis %= clusters.ndim
        total, asked = sums[clusters].sum(axis=axis), counts[clusters].sum(axis=axis)
        with np.errstate(invalid="ignore"):
            return headline_of(shape, total / asked, asked)

    found = stats.bootstrap(
        (np.arange(layout.clusters),),
        drawn,
        n_resamples=RESAMPLES,
        batch=100,
        confidence_level=LEVEL,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    draws = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
