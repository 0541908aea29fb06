"""Which shots a cell learns from, and which a run saves for others: both samplers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cell import Cell
from bench.learn import learn
from bench.loaded import Inputs
from bench.run import save_splits
from bench.train import Engine
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import Query
from data_recipes.core.registry import recipes
from data_recipes.core.sampler import coop_few_shot, few_shot
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone
from methods.core.contract import TaskInfo, TrainBatch
from tests.cells import QUICK, tiny_cells
from tests.tiny import TINY_SPEC
from tests.worlds import WORLDS


def images(queries: list[Query]) -> set[str]:
    return {str(query.image) for query in queries}


@pytest.mark.parametrize("draw", ["nested", "coop"])
def test_a_cell_learns_from_the_shots_of_its_sampler(
    tiny_data: Path, tmp_path: Path, tiny_backbone: Backbone, draw: Any
) -> None:
    class Watched(CoOp):
        def loss(self, batch: TrainBatch) -> Any:
            seen.update(batch.image_id.tolist())
            return super().loss(batch)

    (cell,) = tiny_cells(tiny_data, tmp_path, few_shot=draw, training={**QUICK, "batch_size": 9})
    assert cell.few_shot == draw
    inputs = Inputs(TINY_SPEC, tiny_backbone.digest, str(tiny_data), str(tmp_path), Engine())
    data = inputs.data("tiny", cell.dataset_digest, cell.task)
    task, seen = data.task, set[int]()
    method = Watched(CoOpConfig(n_ctx=2), tiny_backbone, TaskInfo(task.kind, task.class_names))
    assert cell.training is not None
    _, notes = learn(method, cell.training, data, 2, 1, Engine(), cell.few_shot)
    queries = task.training().queries
    expected = {
        "nested": few_shot(queries, 2, 1, data.digest),
        "coop": coop_few_shot(queries, 2, 1)[0],
    }
    assert images(expected["nested"]) != images(expected["coop"])  # else nothing is tried here
    names = task.training().image_ids()
    assert {names[n] for n in seen} == images(expected[draw])
    assert ("the shots are those that CoOp's code draws: not nested" in notes) == (draw == "coop")


def test_a_method_that_trains_nothing_has_one_cell_whatever_the_sampler(
    tiny_data: Path, tmp_path: Path
) -> None:
    free: dict[str, Any] = {"methods": ["zero-shot"]}
    (nested,) = tiny_cells(tiny_data, tmp_path, **free)
    (coop,) = tiny_cells(tiny_data, tmp_path, few_shot="coop", **free)
    assert nested.key == coop.key


@pytest.mark.parametrize("sampler", ["nested", "coop"])
def test_a_draw_decides_the_shots_and_the_seed_does_not(
    tiny_data: Path, tmp_path: Path, tiny_backbone: Backbone, sampler: Any
) -> None:
    class Watched(CoOp):
        def loss(self, batch: TrainBatch) -> Any:
            dealt.append(batch.image_id.tolist())
            return super().loss(batch)

    fields: dict[str, Any] = {"few_shot": sampler, "draws": [1, 5], "seeds": [2, 3]}
    cells = tiny_cells(tiny_data, tmp_path, training={**QUICK, "batch_size": 4}, **fields)
    assert [(c.draw, c.seed) for c in cells] == [(1, 2), (1, 3), (5, 2), (5, 3)]
    inputs = Inputs(TINY_SPEC, tiny_backbone.digest, str(tiny_data), str(tmp_path), Engine())
    data = inputs.data("tiny", cells[0].dataset_digest, cells[0].task)
    queries, names = data.task.training().queries, data.task.training().image_ids()
    info = TaskInfo(data.task.kind, data.task.class_names)
    shots, orders = [], []
    for cell in cells:
        dealt: list[list[int]] = []
        method = Watched(CoOpConfig(n_ctx=2), tiny_backbone, info)
        assert cell.training is not None
        learn(method, cell.training, data, 2, cell.seed, Engine(), sampler, None, cell.draw)
        shots.append({names[n] for batch in dealt for n in batch})
        orders.append(dealt)

    def drawn(draw: int | None) -> list[Query]:
        if sampler == "coop":
            return coop_few_shot(queries, 2, draw or 0)[0]
        return few_shot(queries, 2, draw or 0, data.digest)

    assert shots == [images(drawn(cell.draw)) for cell in cells]
    assert shots[0] == shots[1] != shots[2] == shots[3]
    assert orders[0] != orders[1]  # the seed still orders the batches


def test_the_split_of_a_draw_is_saved_under_the_draw(tiny_data: Path, tmp_path: Path) -> None:
    crossed = saved(tiny_cells(tiny_data, tmp_path, seeds=[2, 3], draws=[1, 5]), tmp_path / "a")
    plain = saved(tiny_cells(tiny_data, tmp_path, seeds=[1, 5]), tmp_path / "b")
    assert crossed == plain and len(crossed) == 2


def saved(cells: list[Cell], out: Path) -> dict[str, Any]:
    save_splits(cells, out)
    return {path.name: json.loads(path.read_text()) for path in (out / "splits").iterdir()}


def test_the_shots_of_both_samplers_are_saved(tmp_path: Path) -> None:
    data, world = tmp_path / "data", WORLDS["dtd"](tmp_path / "raw")
    build_dataset(recipes()["dtd"](folders=world.folders), data / "dtd")
    dataset = open_dataset(data / "dtd")
    digest, train = dataset.manifest.digest, dataset.task().training().queries
    fields: dict[str, Any] = {"datasets": ["dtd"], "shots": [1, 2]}
    nested = saved(tiny_cells(data, tmp_path, **fields), tmp_path / "nested")
    ((name, content),) = nested.items()
    assert name == f"dtd-classification-{digest[:12]}-seed1.json"
    drawn = {q.id for q in few_shot(train, 1, 1, digest)}
    assert {ids[0] for ids in content["order"].values()} == drawn
    coop = saved(tiny_cells(data, tmp_path, few_shot="coop", **fields), tmp_path / "coop")
    for shots in (1, 2):
        content = coop[f"dtd-classification-{digest[:12]}-seed1-coop-{shots}shots.json"]
        val = dataset.task("val").evaluate[0].queries
        expected = coop_few_shot(train, shots, 1, val)
        assert [content["train"], content["val"]] == [[q.id for q in part] for part in expected]
        assert len(content["train"]) == 4 * shots and len(content["val"]) == 4
    assert len(coop) == 2
