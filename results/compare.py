"""Paired comparisons of methods: differences, intervals, and Holm over a column's pairs.

The queries are clustered by reference image, the replicates are pairs of runs with the same
(draw, seed); both count as drawn at random, so that an interval speaks about other queries of the
same kind and about other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from results.frames import SERIES, TABLE
from results.paired import Outcomes, ReadQueries
from results.pairs import Column, Pair, Side, compared

COMPARISON_COLUMNS = (
    *TABLE,
    "shots",
    "measure",
    "first",
    "second",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "effect",
    "won",
    "lost",
    "detectable",
    "replicates",
    "queries",
    "clusters",
    "note",
)

LEVEL = 0.95
POWER = 0.80
ROUNDING = 1e-12
"""A standard error below this is rounding: all paired differences are equal."""


FOUND = (
    "difference",
    "low",
    "high",
    "p",
    "df",
    "standard_error",
    "effect",
    "won",
    "lost",
    "detectable",
    "measure",
    "replicates",
    "queries",
    "clusters",
    "note",
)
"""What `finished` says of a pair: the first method minus the second, in fractions; NaN is what
cannot be known.

low, high: 95 % interval. effect: Cohen's d_z, the mean over the standard deviation of paired
differences (over queries and replicates; over replicates where there are no outcomes).
won, lost: shares of queries in which the first is better, worse, mean over the replicates.
detectable: smallest true difference found with 80 % power at the 5 % level,
(t(0.975) + t(0.8)) * standard error (Bloom, Evaluation Review 19, 1995).
measure: the metric that is compared. clusters: 0 where replicates alone were compared.
"""


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Scandinavian Journal of Statistics 6, 1979), in the given order.

    NaN stays NaN and counts as no test.
    """
    tests = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    adjusted, least = [math.nan] * len(p_values), 0.0
    for done, i in enumerate(sorted(tests, key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(tests) - done) * p_values[i]))
        adjusted[i] = least
    return adjusted


def comparisons(frame: pd.DataFrame, read_queries: ReadQueries) -> pd.DataFrame:
    """`COMPARISON_COLUMNS` for all pairs of rows in each column of each table.

    A column holds the methods at one shot count and the training-free ones; Holm's adjustment is
    over its pairs. Ablations are left out. A pair that cannot be compared has NaN and a note.
    """
    frame = frame[frame["ablation_of"] == ""]
    others = other_metrics(frame)
    places: list[dict[str, Any]] = []
    pairs: list[Pair] = []
    for table, rows in frame[frame["headline"]].groupby(list(TABLE), sort=True):
        outcomes = Outcomes(read_queries)
        place = dict(zip(TABLE, table, strict=True))
        for shots, sides in _columns(rows, others).items():
            column = Column(sides)
            for first, second in combinations(sides, 2):
                named = {"first": first.label, "second": second.label}
                places.append({**place, "shots": shots, **named})
                pairs.append(compared(first, second, outcomes.run, column))
            # Training-free runs stand in every column: their files are read once.
            outcomes.forget(key for side in sides if side.trains for key in side.keys.values())
    found = pd.concat([pd.DataFrame(places), finished(pairs)], axis=1)
    found["p_holm"] = np.nan
    for _, family in found.groupby([*TABLE, "shots"]) if places else ():
        found.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    return found.reindex(columns=list(COMPARISON_COLUMNS))


def detectable_line(column: pd.DataFrame) -> str:
    """One sentence on what a column's comparisons cannot see; "" where none has an interval.

    `with 3 seeds and 4,181 queries a difference under 1.4 points cannot be seen`: the median
    over the pairs of `detectable`, and its range where it shows.
    """
    known = column[column["detectable"].notna()]
    if known.empty:
        return ""
    # Pairs of training-free methods have one run each and say nothing about seeds.
    repeated = known[known["replicates"] > 1]
    known = known if repeated.empty else repeated
    seeds, queries = (_range(known[name], "{:,}") for name in ("replicates", "queries"))
    points = 100 * known["detectable"]
    line = f"with {seeds} seed{'' if seeds == '1' else 's'}"
    if known["queries"].max() > 0:
        line += f" and {queries} queries"
    line += f" a difference under {points.median():.1f} points cannot be seen"
    extremes = _range(points, "{:.1f}")
    by_pair = f", {extremes} by pair" if " to " in extremes else ""
    return f"{line} (80 % power in one comparison{by_pair})"


def _range(values: pd.Series, form: str) -> str:
    texts = list(dict.fromkeys(form.format(value) for value in (values.min(), values.max())))
    return " to ".join(texts)


def _columns(rows: pd.DataFrame, others: Mapping[str, dict[str, float]]) -> dict[int, list[Side]]:
    """Shot count -> its sides, sorted by label, of one table's headline rows."""
    sides = [
        (int(cells["shots"].iloc[0]), Side.of(cells, others))
        for _, cells in rows.groupby([*SERIES, "shots"], sort=True)
    ]
    free = [side for _, side in sides if not side.trains]
    columns: dict[int, list[Side]] = {0: [*free]} if free else {}
    for shots, side in sides:
        if side.trains:
            columns.setdefault(shots, [*free]).append(side)
    return {
        shots: sorted(columns[shots], key=lambda side: (side.label, side.trains))
        for shots in sorted(columns)
    }


def other_metrics(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Key -> its metrics; the headline alone where `frame` holds headline rows alone."""
    metrics: dict[str, dict[str, float]] = {}
    for key, metric, value in zip(frame["key"], frame["metric"], frame["value"], strict=True):
        metrics.setdefault(key, {})[metric] = value
    return metrics


def finished(pairs: Sequence[Pair]) -> pd.DataFrame:
    """A frame of `FOUND`, a row for each pair; all at once, because t is slow."""
    raw = pd.DataFrame(
        [
            (*(p.spread.mean, p.spread.standard_error, p.spread.df, p.effect, p.won, p.lost),)
            for p in pairs
        ],
        columns=["difference", "standard_error", "df", "effect", "won", "lost"],
        dtype=np.float64,
    )
    for name in ("measure", "replicates", "queries", "clusters", "note"):
        raw[name] = [getattr(pair, name) for pair in pairs]
    difference, error, df = (
        raw[name].to_numpy() for name in ("difference", "standard_error", "df")
    )
    exact = error < ROUNDING
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(difference) / error, df)
        quantile = stats.t.ppf(0.5 + LEVEL / 2, df)
        raw["p"] = np.where(exact, (np.abs(difference) < ROUNDING).astype(float), p)
        half = np.where(exact, 0.0, quantile * error)
        raw["low"], raw["high"] = difference - half, difference + half
        detectable = (quantile + stats.t.ppf(POWER, df)) * error
        raw["detectable"] = np.where(exact, np.nan, detectable)
    return raw[list(FOUND)]
