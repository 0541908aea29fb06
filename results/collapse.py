"""Runs that look broken: shown with what is wrong, and kept in every mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from results.frames import REPLICATE, SERIES, chance_level, is_stage, place
from results.statistics import collapsed, sampling_half_width

Floats = npt.NDArray[np.float64]

FLAG_COLUMNS = (*SERIES, "shots", *REPLICATE, "key", "flag", "detail")

DIVERGED = "diverged"
BELOW_CHANCE = "below chance"
FAR = "far from its siblings"

GROWN = 1.5
"""A loss that ends this many times above its first half is more than the noise of batches."""

ENOUGH_SIBLINGS = 5
"""From here on the others' median and spread say what is far."""

SPREADS = 6.0
ALPHA = 0.05

_NOT_FINITE = re.compile(
    r"DivergedError|\bloss is (?:nan|-?inf)|\bloss\b.{0,20}\b(?:not|non)[- ]finite"
    r"|\b(?:not|non)[- ]finite loss",
    re.IGNORECASE,
)


def flags(frame: pd.DataFrame, failures: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """`FLAG_COLUMNS`, sorted: every run that looks broken; a run may have several flags.

    diverged: the loss ends above where it was in its first half, or the run failed with a loss that
    is not finite. below chance: significantly (one-sided binomial, 5 %) under the chance level that
    its notes state. far from its siblings: beyond what the sampling of queries explains and, with 5
    seeds or more, over 6 robust standard deviations (1.4826 MAD) from the median of the others, or
    less than half of the best one (`statistics.collapsed`).

    frame: of `frames.from_records`; `last_loss_ratio` where it has one.
    failures: of `RecordStore.failures`. No flag takes a run out of a mean.
    """
    heads = frame[frame["headline"]]
    rows: list[dict[str, Any]] = []
    for row in heads.to_dict("records"):
        found = {str(name): value for name, value in row.items()}
        rows += [_flagged(found, flag, detail) for flag, detail in _alone(found)]
    for _, cells in heads[heads["trains"]].groupby([*SERIES, "shots"], sort=True):
        if len(cells) > 1:
            rows += [
                _flagged(cells.iloc[i].to_dict(), FAR, detail) for i, detail in _siblings(cells)
            ]
    rows += _failed(failures)
    order = [*(name for name in SERIES if name != "trains"), "shots", *REPLICATE, "key", "flag"]
    table = pd.DataFrame(rows, columns=list(FLAG_COLUMNS))
    return table.sort_values(order, kind="stable", ignore_index=True)


def _flagged(row: Mapping[Any, Any], flag: str, detail: str) -> dict[str, Any]:
    own = {name: row[name] for name in (*SERIES, "shots", *REPLICATE, "key")}
    return {**own, "flag": flag, "detail": detail}


def _alone(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a run's own numbers say."""
    ratio = row.get("last_loss_ratio", math.nan)
    if ratio > GROWN:
        yield DIVERGED, f"its loss ends {ratio:.2f} times above its first half"
    chance = chance_level([row["notes"]])
    if chance is None or row["value"] >= chance:
        return
    n = int(row["n_queries"])
    p = float(stats.binom.cdf(round(row["value"] * n), n, chance))
    if p < ALPHA:
        yield (
            BELOW_CHANCE,
            f"{100 * row['value']:.2f} % of {n:,} queries, where chance is {100 * chance:.2f} %",
        )


def _siblings(cells: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """Positions of runs far from the others of their row and shot count."""
    values = cells["value"].to_numpy(np.float64)
    queries = int(cells["n_queries"].min())
    halves = set(collapsed(values.tolist(), queries))
    far = np.zeros(len(values), dtype=bool)
    middles = values
    if len(values) >= ENOUGH_SIBLINGS:
        middles, spreads = _others(values)
        noise = [math.sqrt(2.0) * sampling_half_width(float(m), queries) for m in middles]
        far = np.abs(values - middles) > np.maximum(SPREADS * spreads, noise)
    for i, value in enumerate(100 * values):
        if i in halves:
            best = 100 * float(values.max())
            yield i, f"{value:.1f} %, less than half of the best seed's {best:.1f} %"
        elif far[i]:
            others = f"the median of the {len(values) - 1} others is {100 * middles[i]:.1f} %"
            yield i, f"{value:.1f} %, where {others}"


def _others(values: Floats) -> tuple[Floats, Floats]:
    """Of each value's others: the median, and 1.4826 MAD, a normal's standard deviation."""
    n = len(values)
    others = np.broadcast_to(values, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    middles = np.median(others, axis=1)
    return middles, 1.4826 * np.median(np.abs(others - middles[:, None]), axis=1)


def _failed(failures: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Cells that failed because a loss was not finite."""
    for key, failure in sorted(failures.items()):
        cell = failure.get("cell") or {}
        if _NOT_FINITE.search(failure["reason"]) and not is_stage({"cell": cell}):
            yield _flagged({**place(cell), "key": key}, DIVERGED, "failed: its loss is not finite")
