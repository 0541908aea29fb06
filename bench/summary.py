"""A protocol's numbers from the rankings of its parts. Pure: no file, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.metrics import Ints
from bench.ranking import NEVER, Rankings
from data_recipes.core.model import RetrievalTask
from data_recipes.core.protocol import Protocol

Metrics = dict[str, float | None]
NOT_FRACTIONS = frozenset({"rsum", "medr", "meanr"})


@dataclass(frozen=True)
class RankedPart:
    """A task and the rankings of its queries, in the task's order."""

    task: RetrievalTask
    rankings: Rankings


def summary(rules: Protocol, parts: Sequence[RankedPart]) -> Metrics:
    """All metrics of one set, under the names of the official code; None for an empty slice.

    parts: one, or the parts that the protocol tells apart by a prefix ("text_R@1").
    """
    prefixes = dict(rules.prefixes)
    found: Metrics = {}
    for part in parts:
        prefix = prefixes[part.task.name] if prefixes else ""
        found |= {f"{prefix}{name}": v for name, v in part_metrics(rules, part).items()}
    return found | _made(rules, found)


def over_sets(rules: Protocol, sets: Mapping[str, Metrics]) -> Metrics:
    """Several sets (categories, domains, tasks): "dress/R@1", and "mean R@1", their plain mean.

    sets: name -> `summary`. One set keeps its names.
    """
    several = list(sets.values())
    if len(several) == 1:
        return several[0]
    found = {f"{name}/{metric}": v for name, one in sets.items() for metric, v in one.items()}
    found |= {f"mean {metric}": mean([one[metric] for one in several]) for metric in several[0]}
    return found | _made(rules, found)


def of_task(rules: Protocol, parts: Sequence[RankedPart]) -> Metrics:
    """All metrics of a task's parts, as records hold them.

    Parts that the protocol tells apart by a prefix are one set; others are a set each
    ("dress/R@10"). The plain mean over the parts has the metric's own name.
    """
    if rules.prefixes:
        found = summary(rules, parts)
    else:
        found = over_sets(rules, {part.task.name: summary(rules, [part]) for part in parts})
        found = {name.removeprefix("mean "): value for name, value in found.items()}
    for name in rules.metrics:
        if name not in found:
            found[name] = mean([float(part.rankings.per_query(name).mean()) for part in parts])
    return found


def is_fraction(name: str) -> bool:
    """Whether a metric lies in [0, 1]; sums of percentages and ranks do not."""
    return name.split("/")[-1].split("_")[-1].removeprefix("mean ") not in NOT_FRACTIONS


def over_folds(folds: Sequence[Metrics]) -> Metrics:
    """Each metric's plain mean over the folds."""
    return {name: mean([fold[name] for fold in folds]) for name in folds[0]}


def part_metrics(rules: Protocol, part: RankedPart) -> Metrics:
    """The metrics, slices and statistics of one part."""
    count = len(part.task.queries)
    share = count / (count + rules.extra_queries)
    found: Metrics = {
        name: float(part.rankings.per_query(name).mean()) * share for name in rules.metrics
    }
    for slices in rules.slices:
        values = part.rankings.per_query(slices.metric)
        tags = [set(query.meta.get(slices.key, ())) for query in part.task.queries]
        for tag in slices.values:
            inside = np.array([tag in of for of in tags])
            found[slices.name(tag)] = float(values[inside].mean()) if inside.any() else None
    best = part.rankings.ranks[:, 0]
    # What is never retrieved stands behind the whole gallery.
    best = np.where((best == NEVER) | (best == 0), part.rankings.gallery + 1, best)
    return found | {name: rank_statistic(name, best) for name in rules.statistics}


def rank_statistic(name: str, best: Ints) -> float:
    """`medr` = floor(median of 0-based ranks) + 1, `meanr` = mean 1-based rank (VSE++'s code).

    best: (Q,) 1-based rank of each query's best relevant candidate.
    """
    if name == "medr":
        return float(np.floor(np.median(best - 1)) + 1)
    if name == "meanr":
        return float(best.mean())
    raise ValueError(f"unknown statistic {name!r}; known: medr, meanr")


def mean(values: Sequence[float | None]) -> float | None:
    """The plain mean, None where a value is absent."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def harmonic(first: float, second: float) -> float:
    """2ab / (a + b), 0 where both are 0: CoCoOp's H of base and new accuracy."""
    return 2 * first * second / (first + second) if first + second else 0.0


def _made(rules: Protocol, found: Metrics) -> Metrics:
    """The metrics made of others, where all their terms are there."""

    def values(terms: Sequence[str]) -> list[float]:
        there = [value for term in terms if (value := found.get(term)) is not None]
        return there if len(there) == len(terms) else []

    made: Metrics = {
        one.name: one.scale * sum(terms) for one in rules.sums if (terms := values(one.terms))
    }
    made |= {one.name: harmonic(*terms) for one in rules.harmonics if (terms := values(one.terms))}
    return made
