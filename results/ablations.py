"""Ablations: what each changed option does to its method, apart from the leaderboard."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import pandas as pd

from results.compare import finished, holm, other_metrics
from results.frames import SERIES, TABLE, label_of, series_label
from results.paired import Outcomes, ReadQueries
from results.pairs import Column, Pair, Side, compared, refused

ABLATION_COLUMNS = (
    *TABLE,
    "shots",
    "base",
    "variant",
    "option",
    "base_mean",
    "mean",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "effect",
    "replicates",
    "queries",
    "note",
)

_OF_A_BASE = [*TABLE, "trained_on", "method"]
_FAMILY = [*TABLE, "shots", "base"]


def ablation_effects(frame: pd.DataFrame, read_queries: ReadQueries) -> pd.DataFrame:
    """One row for each ablation and shot count: the ablation minus its base, `ABLATION_COLUMNS`.

    frame: of `frames.from_records`. read_queries: key of a record -> its per-query outcomes. Values
    are fractions of the headline metric. Holm's adjustment is over the ablations of one base on one
    dataset at one shot count. What needs no training stands at its counterpart's shot counts. An
    ablation without its base, or that cannot be compared with it, has NaN and a note.
    """
    varied = frame[frame["ablation_of"] != ""]
    bases = _bases(frame, varied)
    places: list[dict[str, Any]] = []
    pairs: list[Pair] = []
    for key, family in varied.groupby([*_OF_A_BASE, "ablation_of"], sort=True):
        outcomes = Outcomes(read_queries)  # the base's files are read once
        base = bases.get(key)
        for shots, made in _columns(family, base).items():
            own = None if base is None else _at(base, shots)
            places += [{**_place(rows, own), "shots": shots} for rows in made]
            pairs += _compared(made, own, outcomes)
    found = pd.concat([pd.DataFrame(places), finished(pairs)], axis=1)
    found = found.reindex(columns=list(ABLATION_COLUMNS))
    if found.empty:
        return found
    found["difference"] = found["difference"].fillna(found["mean"] - found["base_mean"])
    for _, family in found.groupby(_FAMILY, sort=True):
        found.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    order = found["option"].map(_natural)
    return (
        found.assign(order=order)
        .sort_values([*_FAMILY, "order", "variant"], kind="stable", ignore_index=True)
        .drop(columns="order")
    )


def option_of(base: str, variant: str) -> str:
    """`n_ctx=16` of the ablation `coop[n_ctx=16]`; the whole label where it is of another form."""
    inner = variant.removeprefix(f"{base}[").removesuffix("]")
    return inner if variant == f"{base}[{inner}]" else variant


def _bases(frame: pd.DataFrame, varied: pd.DataFrame) -> dict[Hashable, pd.DataFrame]:
    """The rows of every method that an ablation may be of."""
    own = frame[frame["ablation_of"] == ""]
    called = own["variant"].where(own["variant"] != "", own["method"])
    own = own.assign(called=called)[called.isin(set(varied["ablation_of"]))]
    return dict(iter(own.groupby([*_OF_A_BASE, "called"], sort=True)))


def _columns(family: pd.DataFrame, base: pd.DataFrame | None) -> dict[int, list[pd.DataFrame]]:
    """Shot count -> rows of each ablation; what needs no training stands where its base does."""
    columns: dict[int, list[pd.DataFrame]] = {}
    for _, own in family.groupby(list(SERIES), sort=True):
        free = base is not None and not own["trains"].any()
        for shots in _shots(base if free and base is not None else own):
            columns.setdefault(shots, []).append(own if free else own[own["shots"] == shots])
    return columns


def _shots(rows: pd.DataFrame) -> list[int]:
    return sorted(set(rows["shots"].tolist()))


def _at(base: pd.DataFrame, shots: int) -> pd.DataFrame | None:
    """The base's rows at a shot count; one that trains nothing stands at any."""
    own = base[base["shots"] == shots] if base["trains"].any() else base
    return None if own.empty else own


def _place(first: pd.DataFrame, second: pd.DataFrame | None) -> dict[str, Any]:
    """Names and means of one row."""
    where = first.iloc[0].to_dict()
    called, variant = where["ablation_of"], where["variant"] or where["method"]
    return {
        **{name: where[name] for name in TABLE},
        "base": series_label(where["method"], called, where["trained_on"]),
        "variant": label_of(where),
        "option": option_of(called, variant),
        "base_mean": math.nan if second is None else _mean(second),
        "mean": _mean(first),
    }


def _compared(
    made: Sequence[pd.DataFrame], base: pd.DataFrame | None, outcomes: Outcomes
) -> Iterator[Pair]:
    """Each ablation against its base.

    The noise of seeds is that of these two alone: options change how steadily a method trains, so
    that the ablations of one base do not share it as the methods of a column do.
    """
    if base is None:
        yield from (refused("its base has no record at these shots") for _ in made)
        return
    second, *sides = [Side.of(rows, other_metrics(rows)) for rows in (base, *made)]
    for side in sides:
        yield compared(side, second, outcomes.run, Column([side, second]))
        outcomes.forget(side.keys.values())


def _mean(rows: pd.DataFrame) -> float:
    values = rows.loc[rows["headline"], "value"]
    return math.fsum(values) / len(values)


def _natural(text: str) -> tuple[tuple[bool, float, str], ...]:
    """`n_ctx=4` before `n_ctx=16`."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return tuple(
        (number % 2 == 0, float(part) if number % 2 else 0.0, part)
        for number, part in enumerate(parts)
    )
