"""Score anyone's predictions by a dataset's official protocol, from the official files alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bench.metrics import metric_k, of_subset
from bench.missing import Missing
from bench.official_sets import read_set, with_reference
from bench.predictions import Lists, read_predictions
from bench.ranking import BLOCK_VALUES
from bench.score import query_table
from bench.score_lists import from_lists, whole_numbers
from bench.score_matrix import from_matrix
from bench.summary import Metrics, over_folds, over_sets, summary
from data_recipes.core.digests import sha256, stranger
from data_recipes.core.model import DataError
from data_recipes.core.protocol import newest

Reference = Literal["keep", "remove"]
SAID: dict[Reference, str] = {"keep": "kept", "remove": "removed"}


@dataclass(frozen=True)
class Files:
    """One set of files: one category of FashionIQ, one task of GeneCIS, one domain of FDRD."""

    annotations: Path
    predictions: Path
    gallery: Path | None = None
    subset: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """metrics: official name -> value, None for an empty slice.

    n, missing: scored queries, and queries without a prediction.
    tie_rate: share of queries whose best relevant candidate ties with a wrong one; None for
        ranked lists, which have no ties.
    digests: sha256 of the annotation and gallery files, by name.
    sets: names of the sets. queries: one row per query, as in a record (`bench.score.Score`).
    pessimistic: the metrics with every tie against the target, where the protocol settled ties
        otherwise (GeneCIS); else None.
    """

    protocol: str
    metrics: Metrics
    n: int
    missing: int
    tie_rate: float | None
    notes: list[str]
    digests: dict[str, str]
    sets: tuple[str, ...]
    queries: pd.DataFrame
    pessimistic: Metrics | None = None

    def as_json(self) -> dict[str, Any]:
        """One flat object: the metrics by name, beside protocol, n, missing and so on."""
        return {
            "protocol": self.protocol,
            **self.metrics,
            "n": self.n,
            "missing": self.missing,
            "tie_rate": self.tie_rate,
            **({} if self.pessimistic is None else {"pessimistic": self.pessimistic}),
            "notes": self.notes,
            "digests": self.digests,
        }


def evaluate(
    protocol: str,
    files: Sequence[Files],
    missing: Missing | None = None,
    metrics: Sequence[str] | None = None,
    reference: Reference | None = None,
    block_values: int = BLOCK_VALUES,
) -> Evaluation:
    """Score prediction files against official annotation files.

    protocol: its name, with or without the version.
    files: one set; or several, whose plain mean is reported too.
    missing: what to do about queries without a prediction; None: the protocol's own rule.
    metrics: per-query metrics instead of the protocol's (then no longer its official result).
    reference: "keep" or "remove" every query's reference image in its gallery, against the
        protocol's own rule (to show what that does to a number; then no longer official either).

    Raises:
        DataError: a file is unsound, or predictions and annotations do not fit.
    """
    rules = newest(protocol)
    if metrics is not None:
        rules = replace(rules, metrics=tuple(metrics))
    policy: Missing = missing or rules.missing
    notes = list(rules.notes)
    if reference is not None:
        notes.append(f"references are {SAID[reference]}, whatever {rules.name} says: not official")
    sets: dict[str, Metrics] = {}
    hard: dict[str, Metrics] = {}
    digests: dict[str, str] = {}
    family = rules.name.split("/")[0].split("-")[0]
    tables: list[pd.DataFrame] = []
    scored, absent, tied, comparable = 0, 0, 0, 0
    for one in files:
        if one.subset is not None and not rules.name.startswith("cirr"):
            raise DataError(f"{rules.name} has no subset file; leave --subset {one.subset} out")
        predictions = read_predictions(one.predictions)
        if isinstance(predictions, Lists) and rules.name.startswith("circo"):
            predictions = whole_numbers(predictions)
        official = read_set(rules, one.annotations, one.gallery, predictions)
        if reference is not None:
            official = with_reference(official, reference)
        if official.name in sets:
            raise DataError(f"two sets are called {official.name!r}; each one counts once")
        if isinstance(predictions, Lists):
            found = from_lists(rules, official, predictions, one.subset, policy)
        else:
            if one.subset is not None:
                raise DataError(
                    f"{one.subset}: a similarity matrix ranks the subset too; leave --subset out"
                )
            found = from_matrix(rules, official, predictions, policy, block_values)
        sets[official.name] = over_folds([summary(rules, parts) for parts in found.folds])
        folds = found.pessimistic or found.folds
        hard[official.name] = over_folds([summary(rules, parts) for parts in folds])
        said = list(found.notes)
        for path in (one.annotations, one.gallery):
            if path is not None:
                digests[path.name] = sha256(path)
                warning = stranger(path, family)
                said += [] if warning is None else [warning]
        for part in (part for parts in found.folds for part in parts):
            alone = len(files) == 1 or part.task.name == official.name
            name = part.task.name if alone else f"{official.name}/{part.task.name}"
            tables.append(query_table(rules, part.task, part.rankings).assign(part=name))
            if official.closed:
                said += clamps(rules.metrics, part.task.name, int(part.rankings.gallery.min()))
            if not isinstance(predictions, Lists):
                tied += int(part.rankings.tied.sum())
                comparable += len(part.task.queries)
        notes += [f"{official.name}: {line}" if len(files) > 1 else line for line in said]
        scored += found.answered
        absent += found.absent
    metrics_found, pessimistic = over_sets(rules, sets), over_sets(rules, hard)
    if metrics_found != pessimistic:
        notes.append("a few ties went to the target, as in the official code; see pessimistic")
    name = rules.name if reference is None else f"{rules.name}, references {SAID[reference]}"
    return Evaluation(
        name,
        metrics_found,
        scored,
        absent,
        tied / comparable if comparable else None,
        list(dict.fromkeys(notes)),
        digests,
        tuple(sets),
        pd.concat(tables, ignore_index=True),
        pessimistic if metrics_found != pessimistic else None,
    )


def clamps(metrics: Sequence[str], part: str, smallest: int) -> list[str]:
    """A note on each metric whose K is not below the size of the smallest gallery."""
    return [
        f"{name}: K is above the gallery of {smallest} ({part}) and is clamped to it"
        for name in metrics
        if not of_subset(name) and metric_k(name) >= smallest
    ]
