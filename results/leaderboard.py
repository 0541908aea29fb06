"""A leaderboard: merge records into it, take one out.

What is merged does not depend on the order of the sources:

- Equal keys must have equal results: metrics, counts, notes, configuration, what each query got.
  Timings, memory, engine, provenance, the loss curve and the study's name may differ; the record
  that is there stays, and of new ones the one whose file has the smallest sha256.
- Equal keys with other results are refused, and so are two keys for one cell among new records:
  nothing tells which of them is right.
- A new key for a cell that is there replaces it. Where the score jumps (`history.py`), only with
  a reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from results.absent import EXTERNAL
from results.answers import Source as Store
from results.differences import json_difference
from results.history import (
    Line,
    Standing,
    coordinates,
    jumps,
    percent,
    title,
    tolerance,
)
from results.provenance import incomplete
from results.schema import RecordError
from results.shipped import INDEX, Entry, compact, packed

_MAY_DIFFER = frozenset({"timings", "memory", "engine", "provenance", "loss_curve"})

_LABELS = (
    "study",
    "variant",
    "backbone",
    "selection",
    "selection_split",
    "ablation_of",
    "varied",
)
"""What a study calls a cell, and says about it, without changing its key."""


@dataclass(frozen=True)
class Source:
    """Records to be merged. name: what messages call it."""

    name: str
    store: Store
    labels: Mapping[str, Mapping[str, Any]] | None = None
    """Cells of the folder's study by key; records of no study's cell are left out. None: all."""


@dataclass(frozen=True)
class Leaderboard:
    """All that a leaderboard's files are made of."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    """By key."""
    queries: Mapping[str, str] = field(default_factory=dict)
    """Texts of the queries' files by name."""
    history: str = ""

    def standings(self) -> dict[str, Standing]:
        """Cells by their `compact` coordinates."""
        found = [standing(entry) for entry in self.entries.values()]
        return {compact(one.cell): one for one in found}


def standing(entry: Entry) -> Standing:
    """The cell of a record with its key and score."""
    return Standing(coordinates(entry.record["cell"]), entry.record["key"], entry.score)


def added(
    board: Leaderboard, sources: Sequence[Source], reason: str = "", name: str = "the leaderboard"
) -> Leaderboard:
    """The leaderboard with the sources' records merged in (rules: the module's docstring).

    Raises:
        RecordError: with all conflicts, each naming both sources and the first differing field;
            incomplete provenance; jumps without a reason.
    """
    queries = dict(board.queries)
    fresh: dict[str, tuple[Entry, str]] = {}
    problems: list[str] = []
    for source in sources:
        for record, ranks in _read(source):
            entry, text = packed(record, ranks)
            lacks = incomplete(record["provenance"])
            if lacks:
                problems.append(f"{source.name}: {_called(entry)}: {lacks}")
            if text is not None and entry.outcomes is not None:
                queries[entry.outcomes["queries"]] = text
            key = record["key"]
            there = board.entries.get(key)
            known = (there, name) if there is not None else fresh.get(key)
            if known is None:
                fresh[key] = (entry, source.name)
                continue
            problems += _conflict(known, (entry, source.name))
            if there is None:
                fresh[key] = min(known, (entry, source.name), key=lambda one: one[0].digest)
    problems += _twice(fresh)
    if problems:
        raise RecordError("\n".join(sorted(problems)))
    return _placed(replace(board, queries=queries), [entry for entry, _ in fresh.values()], reason)


def removed(board: Leaderboard, key: str, reason: str) -> Leaderboard:
    """The leaderboard without the record whose key starts with `key`.

    Raises:
        RecordError: no reason, or none or several records with such a key.
    """
    if not reason.strip():
        raise RecordError("a removal stands in the history with its reason: give --reason TEXT")
    found = [known for known in board.entries if key and known.startswith(key)]
    if len(found) != 1:
        how = "several records have" if found else "no record has"
        raise RecordError(f"{how} a key that starts with {key!r}; see {INDEX}")
    gone = standing(board.entries[found[0]])
    line = Line(cell=gone.cell, change="removed", key=None, reason=reason.strip(), score=None)
    entries = {known: entry for known, entry in board.entries.items() if known != found[0]}
    return _tidy(replace(board, entries=entries, history=board.history + line.text()))


def _read(source: Source) -> Iterable[tuple[dict[str, Any], pd.DataFrame | None]]:
    """Records with the labels of the folder's study, and their per-query outcomes."""
    for record in source.store.records():
        cell = record["cell"]
        if source.labels is not None and cell["study"] != EXTERNAL:
            planned = source.labels.get(record["key"])
            if planned is None:
                continue
            names = {name: planned[name] for name in _LABELS if name in planned}
            record = {**record, "cell": {**cell, **names}}
        yield record, source.store.read_ranks(record["key"])


def _placed(board: Leaderboard, fresh: Sequence[Entry], reason: str) -> Leaderboard:
    """The records put at their cells, with a line of history for each, in the cells' order."""
    before = board.standings()
    entries = dict(board.entries)
    lines, problems = [], []
    for entry in sorted(fresh, key=lambda one: compact(coordinates(one.record["cell"]))):
        now = standing(entry)
        old = before.get(compact(now.cell))
        if old is not None:
            del entries[old.key]
            allowed = tolerance(now.cell, before.values())
            if jumps(old.score, now.score, allowed) and not reason.strip():
                problems.append(
                    f"{title(now.cell)}: {percent(old.score)} (key {old.key[:12]}) would become "
                    f"{percent(now.score)} (key {now.key[:12]})"
                )
        entries[now.key] = entry
        change: Literal["added", "replaced"] = "added" if old is None else "replaced"
        said = reason.strip() if old is not None else ""
        lines.append(Line(cell=now.cell, change=change, key=now.key, reason=said, score=now.score))
    if problems:
        raise RecordError(
            "\n".join(problems) + "\nsuch changes stand in the history with their reason: give "
            "--reason TEXT, or leave the records out"
        )
    history = board.history + "".join(line.text() for line in lines)
    return _tidy(replace(board, entries=entries, history=history))


def _tidy(board: Leaderboard) -> Leaderboard:
    """Without the queries that no record names."""
    named = {e.outcomes["queries"] for e in board.entries.values() if e.outcomes is not None}
    kept = {name: text for name, text in board.queries.items() if name in named}
    return replace(board, queries=kept)


def _conflict(known: tuple[Entry, str], other: tuple[Entry, str]) -> list[str]:
    (first, here), (second, there) = sorted([known, other], key=lambda one: (one[1], one[0].digest))
    found = json_difference(_results(first), _results(second))
    if not found:
        return []
    return [f"{_called(first)}: {found[0]} is {found[1]} in {here}, and {found[2]} in {there}"]


def _results(entry: Entry) -> dict[str, Any]:
    """What equal keys must agree in."""
    shown = {name: value for name, value in entry.record.items() if name not in _MAY_DIFFER}
    cell = {name: value for name, value in entry.record["cell"].items() if name != "study"}
    return {**shown, "cell": cell, "outcomes": entry.outcomes}


def _twice(fresh: Mapping[str, tuple[Entry, str]]) -> list[str]:
    """Cells for which the new records have several keys."""
    by_cell: dict[str, list[tuple[str, str]]] = {}
    for key, (entry, source) in fresh.items():
        by_cell.setdefault(compact(standing(entry).cell), []).append((key, source))
    return [
        f"{title(json.loads(cell))}: two keys, "
        + " and ".join(f"{key[:12]} in {source}" for key, source in sorted(found))
        + "; merge the older folder first, the newer then replaces it"
        for cell, found in by_cell.items()
        if len(found) > 1
    ]


def _called(entry: Entry) -> str:
    return f"{title(standing(entry).cell)} (key {entry.record['key'][:12]})"
