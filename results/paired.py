"""What a paired comparison rests on: the outcomes of each query, and their crossed variance.

A run's headline is a function of its parts' means: the mean over all queries, the plain mean of
the parts, or the harmonic mean of two parts. A query's influence on it is linear to first order
(the delta method), so that clusters of queries have scores whose mean is the headline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
ReadQueries = Callable[[str], pd.DataFrame | None]

_AT_K = re.compile(r"(?:.*/|.*_|mean )?(?:recall|r)@([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Layout:
    """The queries that several runs have in common, sorted by (part, query_id).

    names: `part`, `query_id`, `cluster` of each query. part, cluster: (Q,) codes from 0.
    sizes: (P,) queries of each part. clusters: number of clusters over all parts.
    """

    names: pd.DataFrame
    part: Integers
    sizes: Integers
    cluster: Integers
    clusters: int


@dataclass(frozen=True, eq=False)
class Run:
    """The outcomes of one record. values: (Q,) in the layout's order; means: (P,) of parts."""

    layout: Layout
    values: Floats
    means: Floats
    _scores: dict[str, Floats] = field(default_factory=dict)

    def score(self, shape: str) -> float:
        """What the run's part means give under `shape`; NaN where the shape does not apply."""
        return float(headline_of(shape, self.means, self.layout.sizes))

    def cluster_scores(self, shape: str) -> Floats:
        """(C,) linearised scores, whose mean over the clusters is `score(shape)`."""
        if shape not in self._scores:
            self._scores[shape] = self._linearised(shape)
        return self._scores[shape]

    def _linearised(self, shape: str) -> Floats:
        value, gradient = self.score(shape), _gradient(shape, self.means, self.layout.sizes)
        share = (gradient / self.layout.sizes)[self.layout.part]
        influence = share * (self.values - _centre(shape, self)[self.layout.part])
        size = self.layout.clusters
        summed = np.bincount(self.layout.cluster, weights=influence, minlength=size)
        return np.asarray(value + size * summed, dtype=np.float64)


SHAPES = ("mean of parts", "mean of queries", "harmonic mean")
"""How part means make a headline; with one part the first two are equal."""


def headline_of(shape: str, means: Floats, sizes: npt.NDArray[Any]) -> Floats:
    """What part means (..., P) of so many queries each give; NaN where the shape does not apply."""
    if shape == "mean of queries":
        return np.asarray((means * sizes).sum(axis=-1) / sizes.sum(axis=-1))
    if shape == "mean of parts":
        return np.asarray(means.mean(axis=-1))
    if means.shape[-1] != 2:
        return np.full(means.shape[:-1], np.nan)
    total = means.sum(axis=-1)
    return np.where(
        means.min(axis=-1) > 0.0, 2.0 * means.prod(axis=-1) / np.where(total, total, 1.0), np.nan
    )


def _gradient(shape: str, means: Floats, sizes: Integers) -> Floats:
    """(P,) how the headline moves with each part's mean."""
    if shape == "mean of queries":
        return np.asarray(sizes / sizes.sum(), dtype=np.float64)
    if shape == "mean of parts":
        return np.full(len(means), 1.0 / len(means))
    return np.asarray(2.0 * (means[::-1] / means.sum()) ** 2, dtype=np.float64)


def _centre(shape: str, run: Run) -> Floats:
    """(P,) what influences are measured from: parts have fixed weights, or are pooled."""
    if shape == "mean of queries":
        return np.full(len(run.means), run.score(shape))
    return run.means


class Outcomes:
    """Per-query outcomes of records; runs with the same queries share one `Layout`."""

    def __init__(self, read_queries: ReadQueries) -> None:
        """read_queries: such as `RecordStore.read_ranks`; None for a record without outcomes."""
        self._read = read_queries
        self._told: list[tuple[pd.DataFrame, Integers, Layout]] = []
        self._runs: dict[str, Run | None] = {}

    def forget(self, keys: Iterable[str]) -> None:
        """Free what was kept of these records."""
        for key in keys:
            self._runs.pop(key, None)

    def run(self, key: str, metric: str) -> Run | None:
        """As `_load`, and kept, so that a file is read once."""
        if key not in self._runs:
            self._runs[key] = self._load(key, metric)
        return self._runs[key]

    def _load(self, key: str, metric: str) -> Run | None:
        """The record's outcomes, or None where it has none.

        Where the file has no column `value`, it is whether the rank is within the K that `metric`
        names (1 for accuracy). Queries without a `cluster` are clusters of their own.

        Raises:
            ValueError: a value is not finite; names the record.
        """
        table = self._read(key)
        if table is None or table.empty:
            return None
        names = pd.DataFrame(
            {
                "part": table["part"].astype(str) if "part" in table else "",
                "query_id": table["query_id"].astype(str),
                "cluster": table["cluster" if "cluster" in table else "query_id"].astype(str),
            }
        )
        values = _values(table, metric)
        if not np.isfinite(values).all():
            raise ValueError(f"record {key!r}: a per-query value is not finite")
        # Most files of a table list the same queries in the same order: sort that once.
        for told, order, layout in self._told:
            if names.equals(told):
                return run_of(layout, values[order])
        order = np.lexsort((names["query_id"].to_numpy(object), names["part"].to_numpy(object)))
        layout = self._layout(names.iloc[order].reset_index(drop=True))
        self._told.append((names, order, layout))
        return run_of(layout, values[order])

    def _layout(self, names: pd.DataFrame) -> Layout:
        """The known layout of these sorted queries, or a new one."""
        for _, _, layout in self._told:
            if names.equals(layout.names):
                return layout
        part, parts = pd.factorize(names["part"])
        cluster, clusters = pd.factorize(names["cluster"])
        sizes = np.bincount(part, minlength=len(parts))
        return Layout(names, part, sizes, cluster, len(clusters))


def run_of(layout: Layout, values: Floats) -> Run:
    """A run from its values in the layout's order."""
    sums = np.bincount(layout.part, weights=values, minlength=len(layout.sizes))
    return Run(layout, values, sums / layout.sizes)


def _values(table: pd.DataFrame, metric: str) -> Floats:
    if "value" in table:
        return table["value"].to_numpy(np.float64)
    named = _AT_K.fullmatch(metric)
    ranks = table["rank"].to_numpy()
    return ((ranks >= 1) & (ranks <= (int(named.group(1)) if named else 1))).astype(np.float64)


@dataclass(frozen=True)
class Spread:
    """A mean with its standard error and degrees of freedom; NaN where there are none."""

    mean: float
    standard_error: float
    df: float


def crossed(scores: Floats, seeds: tuple[float, float] | None = None) -> Spread:
    """Mean of (S replicates, C clusters) scores, both random (two-way crossed random effects).

    Var = (MS_S + MS_C - MS_E) / (S C), with Satterthwaite's degrees of freedom (Biometrics
    Bulletin 2, 1946); MS_S and MS_C count as at least MS_E. One replicate: clusters alone. One
    cluster: replicates alone.

    seeds: variance of one replicate's mean and its degrees of freedom, where more is known about
    it than these S say (`seed_noise`); MS_S is C times that.
    """
    s, c = scores.shape
    mean = float(scores.mean())
    if min(s, c) == 1:
        return _simple(scores.ravel())
    by_replicate, by_cluster = scores.mean(axis=1), scores.mean(axis=0)
    rest = scores - by_replicate[:, None] - by_cluster + mean
    own = float(np.square(by_replicate - mean).sum() / (s - 1))
    variance, df = seeds or (own, float(s - 1))
    ms_e = float(np.square(rest).sum() / ((s - 1) * (c - 1)))
    ms_s = max(c * variance, ms_e)
    ms_c = max(float(s * np.square(by_cluster - mean).sum() / (c - 1)), ms_e)
    total = ms_s + ms_c - ms_e
    if total <= 0.0:
        return Spread(mean, 0.0, df)
    spread = ms_s**2 / df + ms_c**2 / (c - 1) + ms_e**2 / ((s - 1) * (c - 1))
    return Spread(mean, float(np.sqrt(total / (s * c))), total**2 / spread)


def _simple(values: Floats) -> Spread:
    n = len(values)
    if n < 2:
        return Spread(float(values.mean()), float("nan"), float("nan"))
    return Spread(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)), float(n - 1))


def standardised(differences: Any) -> float:
    """Mean over standard deviation (n - 1) of paired differences: Cohen's d_z.

    0 where all are 0; NaN where they are equal and not 0. Source: Cohen, Statistical Power
    Analysis (1988), section 2.3.5; the name d_z as in Lakens, Frontiers in Psychology 4 (2013).
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    if spread > 1e-12:
        return mean / spread
    return 0.0 if abs(mean) <= 1e-12 and len(values) > 1 else float("nan")
