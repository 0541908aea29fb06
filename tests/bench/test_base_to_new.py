"""Base-to-new on the embedded drawings: a context learned on 69 classes, scored on 69 others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.cell import run_cell
from bench.embed import batch
from bench.loaded import Inputs
from bench.plan import plan
from bench.study import Study
from bench.train import Engine
from data_recipes.core.build import build_dataset
from data_recipes.core.registry import recipes
from methods.coop import CoOp, CoOpConfig
from methods.core.contract import TaskInfo

SPECIFIC = {"name": "coop", "label": "csc", "config": {"n_ctx": 4, "class_specific": True}}


@pytest.mark.slow
def test_the_context_of_base_classes_is_scored_with_the_names_of_new_ones(tmp_path: Path) -> None:
    data_root = tmp_path / "shards"
    build_dataset(recipes()["openmoji-base-new"](), data_root / "openmoji-base-new")
    study = {
        "name": "b2n",
        "datasets": ["openmoji-base-new"],
        "methods": [{"name": "coop", "config": {"ctx_init": "a photo of a"}}, SPECIFIC],
        "shots": [4],
        "seeds": [1],
        "training": {"schedule": "cosine", "epochs": 2, "lr": 0.02},
    }
    planned = plan(Study.model_validate(study), data_root, tmp_path / "cache")
    (cell,) = planned.cells
    assert planned.left_out == [
        "csc on openmoji-base-new/classification: coop with class_specific knows only the classes "
        "it learned on (part new)"
    ]
    result = run_cell(cell)
    assert result is not None
    metrics, context = result.record["metrics"], result.weights["ctx"]

    inputs = Inputs(cell.backbone, cell.backbone_digest, cell.data_root, cell.cache, Engine())
    data = inputs.data(cell.dataset, cell.dataset_digest, cell.task)
    parts = {part.name: part for part in data.task.evaluate}
    base, new = ([c.text or "" for c in parts[name].candidates] for name in ("base", "new"))
    assert len(base) == len(new) == 69 and not set(base) & set(new)
    assert data.task.class_names == tuple(base)
    for name, names in (("base", base), ("new", new)):
        # Built for these classes from the start, with the learned context: no base name left.
        info = TaskInfo("classification", tuple(names))
        method = CoOp(CoOpConfig(n_ctx=4), inputs.backbone(), info)
        method.load_learned({"ctx": context})
        part = parts[name]
        with torch.no_grad():
            images = method.query(batch(part.queries, data.images(method)))
            best = (images @ method.text(names).T).argmax(dim=1).tolist()
        ids = [part.candidates[n].id for n in best]
        right = [one in q.relevant for one, q in zip(ids, part.queries, strict=True)]
        accuracy = metrics[f"{name}/accuracy"]
        assert accuracy == pytest.approx(sum(right) / len(right), abs=0.003)
        assert accuracy > 5 / 69, "far above chance"
