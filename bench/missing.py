"""Queries without a prediction: refused, left out, or counted as misses; never silently."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.summary import RankedPart
from data_recipes.core.model import DataError, RetrievalTask
from data_recipes.core.protocol import Protocol

Missing = Literal["refuse", "leave-out", "miss"]


@dataclass(frozen=True)
class Ranked:
    """The ranked parts of one set, fold by fold, and what was said on the way.

    answered, absent: queries with and without a prediction, over all parts.
    pessimistic: the folds with every tie against the target; None for lists, which have no ties.
    """

    folds: list[list[RankedPart]]
    answered: int
    absent: int
    notes: list[str]
    pessimistic: list[list[RankedPart]] | None = None


def divide(
    rules: Protocol, path: Path, task: RetrievalTask, known: Container[str], policy: Missing
) -> tuple[RetrievalTask, RetrievalTask]:
    """The task's queries with and without a prediction.

    Raises:
        DataError: queries lack a prediction and `policy` refuses that, or none has one.
    """
    there = tuple(q for q in task.queries if q.id in known)
    gone = tuple(q for q in task.queries if q.id not in known)
    if gone and not there:
        raise DataError(
            f"{path}: no prediction for any of the {len(gone)} queries, for instance "
            f"{gone[0].id!r}; are the annotations of another split?"
        )
    if gone and policy == "refuse":
        raise DataError(
            f"{path}: {len(gone)} of {len(task.queries)} queries have no prediction, the first is "
            f"{gone[0].id!r}; predict all of them, or pass --missing leave-out (score the others) "
            "or --missing miss (count them as misses)"
        )
    if gone and rules.consecutive and there != task.queries[: len(there)]:
        raise DataError(
            f"{path}: query {gone[0].id!r} has no prediction but later ones have; {rules.name} "
            "takes all queries, or the first ones"
        )
    return replace(task, queries=there), replace(task, queries=gone)


def absence(answered: int, absent: int, policy: Missing) -> list[str]:
    """The note on queries without a prediction."""
    if not absent:
        return []
    what = "count as misses" if policy == "miss" else "are left out of the means"
    return [
        f"{absent} of {answered + absent} queries have no prediction and {what}: this is no "
        "result on the whole split"
    ]
