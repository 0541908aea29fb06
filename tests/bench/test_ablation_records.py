"""From a study's `vary:` and `draws:` to what its report says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.cell_spec import Cell
from bench.plan import Plan
from bench.run import expected_cells
from results.answers import Answers, answers
from results.store import RecordStore
from tests.cells import lease, tiny_cells

BASE = {"name": "coop", "config": {"n_ctx": 2}}
VARIED = {**BASE, "vary": {"each": {"n_ctx": [4]}}}
CROSSED: dict[str, Any] = {"draws": [1, 5], "seeds": [2, 3]}


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Cell]]:
    """A store with the records of a study that varies CoOp, and the study's cells."""
    folder = tmp_path_factory.mktemp("run")
    cells = tiny_cells(tiny_data, folder, methods=[VARIED, "zero-shot"], **CROSSED)
    for cell in cells:
        record = lease(cell, folder)
        assert record["cell"]["varied"] == ({"n_ctx": 4} if cell.ablation_of else {})
    return folder, cells


def told(run: tuple[Path, list[Cell]], cells: list[Cell] | None = None) -> Answers:
    folder, own = run
    return answers(RecordStore(folder), expected_cells(Plan(cells or own, [])))


def test_ablations_stand_in_their_own_table_alone(run: tuple[Path, list[Cell]]) -> None:
    found = told(run)
    assert found.absent.empty and found.left_out == 0
    (effect,) = found.ablations.to_dict("records")
    assert (effect["base"], effect["option"], effect["shots"]) == ("coop", "n_ctx=4", 2)
    assert effect["replicates"] == 4 and effect["low"] <= effect["difference"] <= effect["high"]
    assert effect["difference"] == pytest.approx(effect["mean"] - effect["base_mean"])
    assert set(found.standings["label"]) == {"coop", "zero-shot"}
    assert set(found.comparisons[["first", "second"]].to_numpy().ravel()) == {"coop", "zero-shot"}


def test_draws_and_seeds_are_replicates(run: tuple[Path, list[Cell]]) -> None:
    found = told(run)
    own = found.frame[(found.frame["variant"] == "") & (found.frame["method"] == "coop")]
    heads = own[own["headline"]]
    crossed = list(zip(heads["draw"], heads["seed"], strict=True))
    assert crossed == [(1, 2), (1, 3), (5, 2), (5, 3)]
    split = found.variance[found.variance["variant"] == ""]
    assert set(split["draws"]) == {2} and set(split["seeds"]) == {2}


def test_another_study_finds_the_record_as_a_method_of_its_own_and_back(
    run: tuple[Path, list[Cell]], tiny_data: Path
) -> None:
    long = {"name": "coop", "label": "long", "config": {"n_ctx": 4}}
    turned = tiny_cells(tiny_data, run[0], methods=[BASE, long], **CROSSED)
    found = told(run, turned)
    assert found.absent.empty and found.ablations.empty and found.left_out == 1  # zero-shot
    assert set(found.standings["label"]) == {"coop", "long"}

    other = {**long, "vary": {"each": {"n_ctx": [2]}}}
    found = told(run, tiny_cells(tiny_data, run[0], methods=[other], **CROSSED))
    (effect,) = found.ablations.to_dict("records")
    assert (effect["base"], effect["variant"]) == ("long", "long[n_ctx=2]")
    first = told(run).ablations.to_dict("records")[0]
    assert effect["difference"] == pytest.approx(-first["difference"])
