"""Every registered method over the real shapes of ViT-B-32: one training step, one evaluation.

The weights are random, so that only shapes, devices and finite numbers are tried here. One backbone
serves all.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from bench.score import score
from data_recipes.core.model import TaskKind
from methods.core.backbone import BackboneSpec
from methods.core.config import Training
from tests.conform import CASES, RECIPE, World, open_world, setting

pytestmark = pytest.mark.slow
SPEC = BackboneSpec(model="ViT-B-32-quickgelu", random_seed=0)


@pytest.fixture(scope="module")
def world(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tiny_data, tmp_path_factory.mktemp("real"), SPEC)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_one_step_and_one_evaluation(name: str, kind: TaskKind, world: World) -> None:
    backbone, data = world.backbone, world.data(name, kind)
    assert (backbone.dim, backbone.text.width) == (512, 512)
    method = world.build(name, kind)
    if method.trains:
        recipe = Training.model_validate(RECIPE | setting(name).training | {"steps": 1})
        seen = world.teach(name, kind, recipe, shots=1)
        assert len(seen.curve) == 1 and math.isfinite(seen.curve[0])
        assert seen.reached == seen.declared
        assert any(not torch.equal(v, seen.before[k]) for k, v in seen.after.items())
        method = seen.method
    scored = score(method, data.task, data.images(method), data.missing, world.inputs.engine)
    assert scored is not None
    assert scored.metrics and all(map(math.isfinite, scored.metrics.values()))
    assert len(scored.queries) == sum(len(part.queries) for part in data.task.evaluate)
