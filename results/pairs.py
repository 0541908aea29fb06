"""Two methods side by side: which runs are paired, by which measure, and what was left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from results.frames import label_of
from results.paired import SHAPES, Run, Spread, crossed, standardised
from results.seed_noise import seed_noise

EXACT = 1e-9
"""How near per-query values must come to a record's metric to be what it averages."""

Replicate = tuple[int, int]
RunOf = Callable[[str, str], Run | None]


@dataclass(frozen=True, eq=False)
class Side:
    """One method at one shot count. keys, values: of each (draw, seed), sorted.

    values: of `metric`, the headline. others: all known metrics of each key.
    """

    label: str
    trains: bool
    metric: str
    keys: dict[Replicate, str]
    values: dict[Replicate, float]
    others: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, rows: pd.DataFrame, others: Mapping[str, Mapping[str, float]]) -> Side:
        """From the rows of `frames.from_records` of one series at one shot count.

        Raises:
            ValueError: no row; two records have the same draw and seed, or other headlines.
        """
        heads = rows[rows["headline"]] if "headline" in rows else rows
        if heads.empty:
            raise ValueError("a method without records cannot be compared")
        row = heads.iloc[0]
        label = label_of(row.to_dict()) if "method" in rows else ""
        if heads["metric"].nunique() > 1:
            named = ", ".join(sorted(set(heads["metric"])))
            raise ValueError(f"{label}: records disagree on the headline metric ({named})")
        keys: dict[Replicate, str] = {}
        values: dict[Replicate, float] = {}
        for draw, seed, key, value in sorted(
            zip(heads["draw"], heads["seed"], heads["key"], heads["value"], strict=True)
        ):
            replicate = (int(draw), int(seed))
            if replicate in keys:
                raise ValueError(
                    f"{label}: the records {keys[replicate]} and {key} have the same draw and "
                    f"seed ({draw}, {seed}); delete one of them"
                )
            keys[replicate], values[replicate] = str(key), float(value)
        return cls(label, bool(row["trains"]), str(row["metric"]), keys, values, others)


@dataclass(frozen=True)
class Pair:
    """What a comparison rests on; `spread` is NaN where there is none, and `note` says why."""

    spread: Spread
    note: str
    effect: float = math.nan
    won: float = math.nan
    lost: float = math.nan
    measure: str = ""
    replicates: int = 0
    queries: int = 0
    clusters: int = 0


class Column:
    """The sides of one column, and the noise of seeds that they show together.

    The noise is of the methods that train and have the column's most frequent set of replicates.
    """

    def __init__(self, sides: Sequence[Side]) -> None:
        """sides: of one table and shot count, and the training-free ones."""
        trained = [side for side in sides if side.trains and len(side.keys) > 1]
        frequent = Counter(tuple(side.keys) for side in trained)
        most = max(frequent, key=lambda keys: (frequent[keys], len(keys), keys), default=())
        block = [side for side in trained if tuple(side.keys) == most]
        self.sides = sides
        self._at = {side: i for i, side in enumerate(block)}
        if block:
            self._noise = seed_noise(np.array([[*side.values.values()] for side in block]))

    def noise(self, first: Side, second: Side) -> tuple[float, float] | None:
        """Variance of a difference by seeds alone and its df; None where the column lacks it."""
        if any(side.trains and side not in self._at for side in (first, second)):
            return None
        if first.trains and second.trains:
            return self._noise.between(self._at[first], self._at[second])
        return self._noise.against_free(self._at[first if first.trains else second])


def compared(first: Side, second: Side, run_of: RunOf, column: Column) -> Pair:
    """First minus second: per query where both have outcomes, else over replicates alone.

    run_of: (key, headline) -> outcomes, such as `Outcomes.run`. column: which both stand in.
    """
    if first.metric != second.metric:
        return refused(f"the headline metrics differ ({first.metric}, {second.metric})")
    replicates, notes = _paired(first, second)
    runs: list[tuple[Replicate, Replicate, Run, Run]] = []
    for one, other in replicates:
        ours = run_of(first.keys[one], first.metric)
        theirs = run_of(second.keys[other], second.metric)
        if ours is not None and theirs is not None:
            runs.append((one, other, ours, theirs))
    if not runs:
        return _by_replicates(first, second, replicates, notes)
    if len(runs) < len(replicates):
        notes.append(f"{len(runs)} of {len(replicates)} replicates have per-query outcomes")
    if any(run.layout is not runs[0][2].layout for row in runs for run in row[2:]):
        return refused("the records do not ask the same queries")
    return _by_queries(first, second, runs, notes, column)


def refused(reason: str) -> Pair:
    """A pair that cannot be compared."""
    return Pair(Spread(math.nan, math.nan, math.nan), f"not compared: {reason}")


def _paired(first: Side, second: Side) -> tuple[list[tuple[Replicate, Replicate]], list[str]]:
    """Replicates of both by (draw, seed); a training-free method's one run stands against all."""
    ours, theirs = list(first.keys), list(second.keys)
    if not first.trains and len(ours) == 1:
        return [(ours[0], other) for other in theirs], []
    if not second.trains and len(theirs) == 1:
        return [(one, theirs[0]) for one in ours], []
    common = [one for one in ours if one in second.keys]
    if not common:
        pairs = list(zip(ours, theirs, strict=False))
        note = "no seed and draw in common, so that runs are paired in their order"
        unused = len(ours) + len(theirs) - 2 * len(pairs)
        return pairs, [note + (f"; {unused} left over" if unused else "")]
    unused = len(ours) + len(theirs) - 2 * len(common)
    notes = [f"{unused} runs without a counterpart of the same seed are left out"] if unused else []
    return [(one, one) for one in common], notes


def _by_replicates(
    first: Side,
    second: Side,
    replicates: Sequence[tuple[Replicate, Replicate]],
    notes: Sequence[str],
) -> Pair:
    """Paired t over replicates, where the records have no outcomes."""
    if len(replicates) < 2:
        return refused("one run each, and no per-query outcomes")
    differences = np.array([first.values[one] - second.values[two] for one, two in replicates])
    return Pair(
        crossed(differences[:, None]),
        "; ".join(["no per-query outcomes: over seeds alone", *notes]),
        effect=standardised(differences),
        measure=first.metric,
        replicates=len(replicates),
    )


def _by_queries(
    first: Side,
    second: Side,
    runs: Sequence[tuple[Replicate, Replicate, Run, Run]],
    notes: list[str],
    column: Column,
) -> Pair:
    """Replicates crossed with clusters of queries."""
    keyed = [(first.keys[one], ours) for one, _, ours, _ in runs]
    keyed += [(second.keys[other], theirs) for _, other, _, theirs in runs]
    measure, shape = _measure(first.metric, keyed, {**first.others, **second.others})
    if not measure:
        notes.append("per-query values are compared, which average to no metric of the records")
    elif measure != first.metric:
        notes.append(f"{first.metric} is no mean of the per-query values: {measure} is compared")
    layout = runs[0][2].layout
    scores = np.array(
        [ours.cluster_scores(shape) - theirs.cluster_scores(shape) for *_, ours, theirs in runs]
    )
    differences = np.array([ours.values - theirs.values for *_, ours, theirs in runs])
    trained = first.trains or second.trains
    if layout.clusters == 1:
        notes.append("one cluster of queries: over seeds alone")
    elif len(runs) == 1 and trained:
        notes.append("one run each: the noise of training is not in the interval")
    return Pair(
        crossed(scores, _noise(first, second, runs, measure, shape, column)),
        "; ".join(notes),
        effect=standardised(differences),
        won=float(np.mean(differences > 0)),
        lost=float(np.mean(differences < 0)),
        measure=measure or "per-query value",
        replicates=len(runs),
        queries=len(layout.part),
        clusters=layout.clusters,
    )


def _noise(
    first: Side,
    second: Side,
    runs: Sequence[tuple[Replicate, Replicate, Run, Run]],
    measure: str,
    shape: str,
    column: Column,
) -> tuple[float, float] | None:
    """The column's noise of seeds where all runs and the headline are compared; else the pair's."""
    if len(runs) < 2 or not (first.trains or second.trains):
        return None
    whole = measure == first.metric and all(
        len(side.keys) in (1, len(runs)) for side in (first, second)
    )
    known = column.noise(first, second) if whole else None
    if known is not None:
        return known
    scores = [
        [run.score(shape) for run in of_side]
        for side, of_side in zip((first, second), list(zip(*runs, strict=True))[2:], strict=True)
        if side.trains
    ]
    alone = seed_noise(np.array(scores))
    return alone.between(0, 1) if len(scores) == 2 else alone.against_free(0)


def _measure(
    headline: str, runs: Sequence[tuple[str, Run]], others: Mapping[str, Mapping[str, float]]
) -> tuple[str, str]:
    """The metric that the per-query values of all runs average to, and how; "" for none."""
    known = set.intersection(*(set(others[key]) for key, _ in runs))
    for metric in sorted(known, key=lambda name: (name != headline, name)):
        for shape in SHAPES:
            # NaN, where a shape does not apply, is near nothing.
            if all(abs(run.score(shape) - others[key][metric]) <= EXACT for key, run in runs):
                return metric, shape
    return "", "mean of queries"
