"""A unit of several cells that run in one pass (`bench.together`), for a gang and the driver."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cell import CellResult
from bench.cell_spec import Cell
from bench.together import run_cells
from bench.train import Engine
from cluster.gang import RankContext
from cluster.work import Work
from results.store import RecordStore

Keep = Callable[[RecordStore, Cell, CellResult], dict[str, Any]]
Known = Callable[[RecordStore, Cell], dict[str, Any]]


def unit(works: Sequence[Work]) -> Work:
    """The works of single cells as one; a single one stays as it is."""
    if len(works) == 1:
        return works[0]
    payload = {
        "cells": [work.payload["cell"] for work in works],
        "store": works[0].payload["store"],
    }
    cost = sum(work.cost for work in works)
    return replace(works[0], key=key([work.key for work in works]), payload=payload, cost=cost)


def key(keys: Sequence[str]) -> str:
    """Of a unit: its first cell's, and how many more there are."""
    return f"{keys[0]}+{len(keys) - 1}" if len(keys) > 1 else keys[0]


def needed(store: RecordStore, group: Sequence[Cell]) -> list[Cell]:
    """Those of a group that run, so that its missing records are made.

    They are the missing cells. Where a record was made in one pass with one of these, that pass was
    cut short while it stored: it runs again as it was, for its last bits are those of all in it.
    """
    keys = {cell.key for cell in group}
    wanted = missing = {key for key in keys if not store.has(key)}
    for key in keys - missing if missing else ():
        made = {*store.read(key)["engine"].get("together", ())}
        if made & missing and made <= keys:
            wanted = wanted | made
    return [cell for cell in group if cell.key in wanted]


def run_group(
    payload: dict[str, Any], context: RankContext, keep: Keep, known: Known
) -> Callable[[], dict[str, Any]]:
    """Run the cells of a unit that are `needed` by now; the result stores the missing records.

    payload: `cells` (JSON of each) and `store` (folder). The summary has one for each cell: what
    `keep` returns of its result, or `known` of its record, or its `error`.
    """
    store = RecordStore(Path(payload["store"]))
    cells = [Cell.model_validate_json(text) for text in payload["cells"]]
    todo = needed(store, cells)
    results = run_cells(todo, Engine(device=context.device))
    ran = {cell.key: result for cell, result in zip(todo, results, strict=True)}

    def finish() -> dict[str, Any]:
        return {"cells": {cell.key: stored(cell) for cell in cells}}

    def stored(cell: Cell) -> dict[str, Any]:
        result = ran.get(cell.key)
        if result is None or store.has(cell.key):
            return known(store, cell)
        if isinstance(result, Exception):
            return {"error": "".join(traceback.format_exception(result))}
        return keep(store, cell, result)

    return finish


def of_each_cell(event: dict[str, Any], group: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """A unit's `done` or `failed` event as one of each of these cells of it."""
    told = (event["summary"] or {}).get("cells")
    if told is None and event["kind"] == "done":
        yield event  # a unit of one cell
        return
    told = told or {}
    for cell in group:
        own = told.get(cell.key)
        error = event["error"] if own is None else own.get("error")
        kind = "failed" if error is not None else "done"
        yield {**event, "key": cell.key, "kind": kind, "error": error, "summary": own}
