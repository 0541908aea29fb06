"""CoOp's published recipe, step for step, as the training loop really runs it.

Expected numbers: `configs/trainers/CoOp/*.yaml` and `scripts/coop/main.sh` of KaiyangZhou/CoOp, and
the optimizer, scheduler and loader of KaiyangZhou/Dassl.pytorch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bench.batches import Dealt
from bench.study import Study
from bench.train import Engine, train
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone
from methods.core.config import Training
from methods.core.contract import Batch, TaskInfo, TrainBatch

STUDIES = Path(__file__).resolve().parents[2] / "studies" / "reproduce"
NAMES = ("red", "green", "blue", "grey", "black")
BATCH = 32
# (study, shots) -> epochs
EPOCHS = {
    **{("coop-paper", shots): n for shots, n in {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}.items()},
    **{("coop-paper-imagenet", shots): 50 for shots in (1, 2, 4, 8, 16)},
}


def published(name: str) -> tuple[Study, list[Training]]:
    """A study of the repository, and the recipes of its entries that train."""
    study = Study.model_validate(yaml.safe_load((STUDIES / f"{name}.yaml").read_text()))
    recipes = [entry.recipe(study.training) for entry in study.methods]
    return study, [recipe for recipe in recipes if recipe is not None]


@pytest.mark.parametrize("name", ["coop-paper", "coop-paper-imagenet"])
def test_the_studies_show_the_published_recipe(name: str) -> None:
    study, recipes = published(name)
    assert (study.shots, study.seeds, study.few_shot) == ([1, 2, 4, 8, 16], [1, 2, 3], "coop")
    changed = (
        {"precision", "augment"} if name == "coop-paper" else {"precision", "augment", "epochs"}
    )
    assert study.training.keys() == changed
    assert len(set(map(repr, recipes))) == 1 and recipes[0].precision == "fp16"
    assert {e.name for e in study.methods} == {"zero-shot", "coop"}


class Watched(CoOp):
    """CoOp that notes the rows of each batch."""

    rows: list[list[int]]

    def loss(self, batch: TrainBatch) -> Tensor:
        self.rows.append(batch.row.tolist())
        assert batch.weight.tolist() == [1.0] * len(batch.row)
        return super().loss(batch)


@pytest.mark.parametrize(("study", "shots"), EPOCHS)
def test_every_step_is_the_published_one(tiny_backbone: Backbone, study: str, shots: int) -> None:
    rows, epochs = shots * len(NAMES), EPOCHS[study, shots]
    torch.manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(rows, tiny_backbone.dim), dim=-1)
    target = torch.arange(rows) % len(NAMES)
    classes = Batch(texts=NAMES)

    def batch(dealt: Dealt) -> TrainBatch:
        own = torch.from_numpy(dealt.rows)
        weight = torch.from_numpy(dealt.weight)
        return TrainBatch(Batch(images=images[own]), classes, target[own], weight, own, own)

    steps: list[dict[str, Any]] = []

    def note(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        (group,) = optimizer.param_groups
        (parameter,) = group["params"]
        steps.append(
            {k: group[k] for k in ("lr", "momentum", "weight_decay", "dampening", "nesterov")}
            | {"grad": parameter.grad.clone(), "before": parameter.detach().clone()}
        )

    method = Watched(CoOpConfig(n_ctx=2), tiny_backbone, TaskInfo("classification", NAMES))
    method.rows = []
    _, (recipe, *_) = published(study)
    hook = register_optimizer_step_pre_hook(note)
    try:
        losses = train(method, recipe, shots, rows, batch, 1, Engine())
    finally:
        hook.remove()

    per_epoch = max(1, rows // BATCH)  # the last incomplete batch is dropped from 32 rows on
    assert len(steps) == len(losses) == len(method.rows) == epochs * per_epoch
    velocity = torch.zeros_like(steps[0]["grad"])
    after = [step["before"] for step in steps[1:]] + [method.ctx.detach()]
    for number, (step, now) in enumerate(zip(steps, after, strict=True)):
        epoch = number // per_epoch
        cosine = 0.002 * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        assert step["lr"] == pytest.approx(1e-5 if epoch == 0 else cosine, rel=1e-12)
        fixed = (step["momentum"], step["weight_decay"], step["dampening"], step["nesterov"])
        assert fixed == (0.9, 5e-4, 0, False)
        velocity = 0.9 * velocity + step["grad"] + 5e-4 * step["before"]
        torch.testing.assert_close(now, step["before"] - step["lr"] * velocity)
    assert 0 < steps[-1]["lr"] < 0.002 / epochs  # the counter starts after the warm-up

    orders = [
        [row for own in method.rows[e * per_epoch : (e + 1) * per_epoch] for row in own]
        for e in range(epochs)
    ]
    assert {len(own) for own in method.rows} == {min(rows, BATCH)}
    assert all(len(set(order)) == len(order) for order in orders), "drawn without replacement"
    assert len(set(map(tuple, orders))) > epochs / 2, "a new random order in each epoch"
    assert {row for order in orders for row in order} == set(range(rows))
