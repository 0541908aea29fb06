"""Similarity matrices against a protocol's official tasks: rows and columns by id, then ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.lists import rank_lists, together
from bench.missing import Missing, Ranked, absence, divide
from bench.official_sets import OfficialSet
from bench.predictions import Matrix
from bench.ranking import NotFiniteError, Rankings, rank_blocks, settle
from bench.summary import RankedPart
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask
from data_recipes.core.protocol import Protocol

_HALF = (torch.float16, torch.bfloat16, torch.float32)


def from_matrix(
    rules: Protocol, official: OfficialSet, matrix: Matrix, policy: Missing, block_values: int
) -> Ranked:
    """Rank the rows of `matrix`; with two directions, its columns too.

    Numbers are compared as they are given: float32 and below in float32, others in float64.

    Raises:
        DataError: ids or shape do not fit the official files, or a number is not finite.
    """
    first = official.whole[0]
    two = len(official.whole) > 1
    rows = _places(matrix, 0, [q.id for q in first.queries], whole=two)
    columns = {}
    if not official.own_galleries:
        columns = _places(matrix, 1, [c.id for c in first.candidates], whole=True)
    elif matrix.column_ids is not None:
        raise DataError(
            f"{matrix.path}: {rules.name} ranks an own gallery for each query; its columns are the "
            "target and the gallery in file order, so leave column_ids out"
        )
    notes = []
    if matrix.row_ids is None:
        notes.append("the matrix has no row_ids: rows are taken in the order of the annotations")
    if matrix.column_ids is None and columns:
        notes.append("the matrix has no column_ids: columns are taken in the gallery's order")
    folds: list[list[RankedPart]] = []
    pessimistic: list[list[RankedPart]] = []
    answered, absent = 0, 0
    for fold in official.folds:
        folds.append([])
        pessimistic.append([])
        for task in fold:
            across = two and task.name != first.name
            there, gone = divide(rules, matrix.path, task, columns if across else rows, policy)
            if official.own_galleries:
                local, block = _own_galleries(there, matrix, rows)
            else:
                local, block = there, _block(matrix, there, rows, columns, across)
            ranked = partial(_ranked, matrix.path, local, block, block_values)
            hard = ranked(False)
            settled = settle(hard, rules.target_first_ties, partial(ranked, True))
            for kept, rankings in ((folds[-1], settled), (pessimistic[-1], hard)):
                part = RankedPart(there, rankings)
                if policy == "miss" and gone.queries:
                    both = replace(there, queries=there.queries + gone.queries)
                    part = RankedPart(both, together(rankings, rank_lists(gone, {})))
                kept.append(part)
            answered, absent = answered + len(there.queries), absent + len(gone.queries)
    said = notes + absence(answered, absent, policy)
    return Ranked(folds, answered, absent, said, pessimistic)


def _places(matrix: Matrix, axis: int, official: Sequence[str], whole: bool) -> dict[str, int]:
    """Official id -> row (axis 0) or column (axis 1) of the matrix.

    whole: every official id must be there; else the matrix may have fewer, the first ones.
    """
    what, size = ("row", "column")[axis], matrix.values.shape[axis]
    given = (matrix.row_ids, matrix.column_ids)[axis]
    if given is None:
        if size > len(official) or (whole and size < len(official)):
            raise DataError(
                f"{matrix.path}: has {size} {what}s, the annotations have {len(official)} for "
                f"them (the shape is {tuple(matrix.values.shape)}); give all of them in the order "
                f"of the annotations, or add {what}_ids"
            )
        return {i: place for place, i in enumerate(official[:size])}
    places = {i: place for place, i in enumerate(given)}
    known = set(official)
    strange = [i for i in given if i not in known]
    if strange:
        raise DataError(
            f"{matrix.path}: {what}_ids names {strange[0]!r}, which the official files have not "
            f"({len(strange)} such ids); theirs are like {official[0]!r}"
        )
    lacking = [i for i in official if i not in places]
    if lacking and whole:
        raise DataError(
            f"{matrix.path}: no {what} for {lacking[0]!r} ({len(lacking)} of {len(official)} "
            "lack one); a smaller gallery would be another protocol"
        )
    return places


def _block(
    matrix: Matrix, task: RetrievalTask, rows: dict[str, int], columns: dict[str, int], across: bool
) -> Callable[[slice], Tensor]:
    """Blocks of similarities for `rank_blocks`. across: the queries are the matrix's columns."""
    queries, candidates = (columns, rows) if across else (rows, columns)
    q = torch.tensor([queries[query.id] for query in task.queries])
    c = torch.tensor([candidates[candidate.id] for candidate in task.candidates])
    if across:
        return lambda block: _comparable(matrix.values[:, q[block]])[c].T
    return lambda block: _comparable(matrix.values[q[block]])[:, c]


def _own_galleries(
    task: RetrievalTask, matrix: Matrix, rows: dict[str, int]
) -> tuple[RetrievalTask, Callable[[slice], Tensor]]:
    """Columns are places in each query's own gallery: the target first. Places as a task."""
    width = matrix.values.shape[1]
    queries: list[Query] = []
    for query in task.queries:
        gallery = query.gallery or ()
        if len(gallery) != width:
            raise DataError(
                f"{matrix.path}: has {width} columns, query {query.id!r} ranks {len(gallery)} "
                "images (the target, then its gallery)"
            )
        relevant = tuple(str(gallery.index(i)) for i in query.relevant)
        queries.append(replace(query, relevant=relevant, gallery=None))
    places = tuple(Candidate(id=str(i), text=str(i)) for i in range(width))
    q = torch.tensor([rows[query.id] for query in task.queries])
    local = RetrievalTask(task.name, tuple(queries), places)
    return local, lambda block: _comparable(matrix.values[q[block]])


def _ranked(
    path: Path,
    task: RetrievalTask,
    block: Callable[[slice], Tensor],
    block_values: int,
    target_first: bool,
) -> Rankings:
    try:
        return rank_blocks(task, block, block_values, target_first)
    except NotFiniteError as error:
        raise DataError(f"{path}: {error}") from None


def _comparable(values: Tensor) -> Tensor:
    return values.float() if values.dtype in _HALF else values.double()
