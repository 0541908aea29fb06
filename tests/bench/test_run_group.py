"""Cells in one pass as a unit of the queue: records, failures and events stay each cell's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.plan import Plan
from bench.run import from_record, keep, run_plan, work
from bench.run_group import key, needed, of_each_cell, run_group, unit
from bench.study import RunOptions
from cluster.gang import RankContext
from results.store import WEIGHTS_FILE, RecordStore
from tests.cells import QUICK, tiny_cells

CONTEXT = RankContext(rank=0, world_size=1, local_rank=0, device="cpu", gang="gang0")
DIVERGING = {"name": "coop", "label": "diverging", "config": {"n_ctx": 2}}


def cells_of(data: Path, folder: Path, **fields: Any) -> list[Any]:
    return tiny_cells(data, folder / "cache", **{"seeds": [1, 2, 3], **fields})


def test_a_unit_holds_its_cells_and_a_single_one_is_its_cell(
    tiny_data: Path, tmp_path: Path
) -> None:
    works = [work(cell, tmp_path) for cell in cells_of(tiny_data, tmp_path)]
    assert unit(works[:1]) == works[0]
    together = unit(works)
    assert together.key == f"{works[0].key}+2" == key([one.key for one in works])
    assert together.payload["cells"] == [one.payload["cell"] for one in works]
    assert together.payload["store"] == works[0].payload["store"]
    assert together.cost == pytest.approx(3 * works[0].cost)
    assert together.warm == works[0].warm


def test_every_record_is_stored_and_none_is_made_twice(tiny_data: Path, tmp_path: Path) -> None:
    cells = cells_of(tiny_data, tmp_path)
    store = RecordStore(tmp_path / "out")
    whole = unit([work(cell, store.root) for cell in cells])
    pair = unit([work(cell, store.root) for cell in cells[:2]])
    finish = run_group(pair.payload, CONTEXT, keep, from_record)
    assert not [*store.keys()], "nothing is stored before the unit is finished"
    assert finish()["cells"].keys() == {cell.key for cell in cells[:2]}
    before = [store.read(cell.key) for cell in cells[:2]]
    told = run_group(whole.payload, CONTEXT, keep, from_record)()["cells"]
    assert told.keys() == {cell.key for cell in cells}
    assert {*store.keys()} == {cell.key for cell in cells}
    assert [store.read(cell.key) for cell in cells[:2]] == before
    assert "together" not in store.read(cells[2].key)["engine"], "there was no other left"
    assert all(summary["metric"] == "accuracy" for summary in told.values())


def test_a_pass_that_was_cut_short_while_it_stored_runs_again_as_it_was(
    tiny_data: Path, tmp_path: Path
) -> None:
    cells = cells_of(tiny_data, tmp_path)
    whole, cut = RecordStore(tmp_path / "whole"), RecordStore(tmp_path / "cut")
    for store in (whole, cut):
        assert needed(store, cells) == cells
        run_group(unit([work(c, store.root) for c in cells]).payload, CONTEXT, keep, from_record)()
        assert needed(store, cells) == []
    shutil.rmtree(cut.folder(cells[1].key))
    assert needed(cut, cells) == cells
    assert needed(cut, cells[1:]) == cells[1:2], "the pass was of others too"
    untouched = cut.read(cells[0].key)
    payload = unit([work(cell, cut.root) for cell in needed(cut, cells)]).payload
    told = run_group(payload, CONTEXT, keep, from_record)()["cells"]
    assert told.keys() == {cell.key for cell in cells}
    assert cut.read(cells[0].key) == untouched
    weights = [load_file(store.folder(cells[1].key) / WEIGHTS_FILE) for store in (whole, cut)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    curves = [store.read(cells[1].key)["loss_curve"] for store in (whole, cut)]
    assert curves[0] == curves[1]


def test_one_event_of_a_unit_is_one_of_each_cell(tiny_data: Path, tmp_path: Path) -> None:
    cells = cells_of(tiny_data, tmp_path)
    first, second, third = (cell.key for cell in cells)
    event: dict[str, Any] = {"kind": "done", "key": "k", "error": None, "gang": "gang0"}
    told = {first: {"value": 0.5}, second: {"error": "why"}, third: {"value": 0.25}}
    found = [*of_each_cell({**event, "summary": {"cells": told}}, cells)]
    assert [(e["key"], e["kind"], e["error"]) for e in found] == [
        (first, "done", None),
        (second, "failed", "why"),
        (third, "done", None),
    ]
    assert found[0]["summary"] == {"value": 0.5}
    killed = {**event, "kind": "failed", "error": "a rank died", "summary": None}
    assert {(e["kind"], e["error"]) for e in of_each_cell(killed, cells)} == {
        ("failed", "a rank died")
    }
    alone = {**event, "key": first, "summary": {"value": 1.0}}
    assert [*of_each_cell(alone, cells[:1])] == [alone]
    again = {**event, "summary": {"cells": told}}  # only the third had no record
    assert [e["key"] for e in of_each_cell(again, cells[2:])] == [third]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_study_whose_seeds_run_together(tiny_data: Path, tmp_path: Path) -> None:
    """Over Ray: each cell has its record or its own failure, and is told of once."""
    methods = ["zero-shot", {"name": "coop", "config": {"n_ctx": 2}}]
    methods.append({**DIVERGING, "training": {"lr": 1e38}})
    here = {"model": "openmoji-vit"}  # known to the ranks too
    cells = cells_of(tiny_data, tmp_path, methods=methods, training=QUICK, backbone=here)
    out = tmp_path / "out"
    events: list[dict[str, Any]] = []
    options = RunOptions(gangs=1, gpu=False, seeds_together=None)
    ran = run_plan(Plan(cells, []), options, out, on_event=events.append)
    assert ran.outcome is not None and ran.outcome.ok and len(ran.outcome.done) == 3
    store = RecordStore(out)
    diverging = {cell.key for cell in cells if cell.variant == "diverging"}
    assert {*store.keys()} == {cell.key for cell in cells} - diverging
    assert store.failures().keys() == ran.failures.keys() == diverging
    assert all("lower training.lr" in found["reason"] for found in ran.failures.values())
    assert sorted(event["key"] for event in events) == sorted(cell.key for cell in cells)
    together = [r for r in store.read_all() if r["cell"]["trains"]]
    assert all(len(record["engine"]["together"]) == 3 for record in together)
    table = (out / "tables" / "leaderboard.md").read_text()
    assert "in one pass: equal up to rounding" in table and "lower training.lr" in table
