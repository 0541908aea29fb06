"""The training loop: equal to plain torch, the schedule followed, divergence named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.batches import Dealt, epoch_batches
from bench.schedule import learning_rate
from bench.train import HALVES, DivergedError, Engine, train
from data_recipes.core.model import TaskKind
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, load_backbone
from methods.core.config import Training
from methods.core.contract import Batch, TaskInfo, TrainBatch
from tests.tiny import TINY_SPEC

NAMES = ("red", "green", "blue", "grey")
ROWS = 11


def make(backbone: Backbone) -> CoOp:
    torch.manual_seed(5)
    kind: TaskKind = "classification"
    return CoOp(CoOpConfig(n_ctx=2), backbone, TaskInfo(kind, NAMES))


@pytest.fixture
def batch(tiny_backbone: Backbone) -> Any:
    torch.manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(ROWS, tiny_backbone.dim), dim=-1)
    target = torch.randint(len(NAMES), (ROWS,))

    def dealt_batch(dealt: Dealt) -> TrainBatch:
        rows = torch.from_numpy(dealt.rows)
        return TrainBatch(
            Batch(images=images[rows]),
            Batch(texts=list(NAMES)),
            target[rows],
            torch.from_numpy(dealt.weight),
            rows,
            rows,
        )

    return dealt_batch


def plain_torch(method: CoOp, recipe: Training, shots: int, batch: Any) -> list[float]:
    """The same run in nine lines without DeepSpeed."""
    optimizer = torch.optim.SGD(
        method.parameters(), lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    losses, step, per_epoch = [], 0, max(1, ROWS // recipe.batch_size)
    for epoch in range(recipe.epochs_at(shots)):
        for rows in epoch_batches(ROWS, recipe.batch_size, 3, epoch):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, shots, per_epoch)
            loss = method.loss(batch(Dealt(rows, torch.ones(len(rows)).numpy(), 1.0, epoch)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            step += 1
    return losses


@pytest.mark.parametrize("size", [4, 32])
def test_deepspeed_equals_plain_torch(tiny_backbone: Backbone, batch: Any, size: int) -> None:
    recipe = Training(epochs={1: 3}, batch_size=size, lr=0.1)
    reference, method = make(tiny_backbone), make(tiny_backbone)
    expected = plain_torch(reference, recipe, 1, batch)
    losses = train(method, recipe, 1, ROWS, batch, 3, Engine())
    assert len(losses) == 3 * max(1, ROWS // size)
    assert losses == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(method.ctx, reference.ctx, rtol=0, atol=1e-6)


class Late(CoOp):
    """A parameter of it has no gradient before the second epoch."""

    def __init__(self, config: CoOpConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.late = torch.nn.Parameter(torch.ones(3))

    def loss(self, batch: TrainBatch) -> Tensor:
        found = super().loss(batch)
        return found + (self.late**2).sum() if batch.epoch else found


def test_a_gradient_that_comes_late_meets_no_momentum(tiny_backbone: Backbone, batch: Any) -> None:
    def late() -> Late:
        torch.manual_seed(5)
        return Late(CoOpConfig(n_ctx=2), tiny_backbone, TaskInfo("classification", NAMES))

    def epochs(dealt: Dealt) -> TrainBatch:
        return replace(batch(dealt), epoch=dealt.epoch)

    recipe = Training(epochs=4, batch_size=4, lr=0.05)
    ours, plain = late(), late()
    losses = train(ours, recipe, 1, ROWS, epochs, 3, Engine())
    assert losses == pytest.approx(plain_torch(plain, recipe, 1, epochs), rel=1e-6)
    torch.testing.assert_close(ours.late, plain.late)
    assert float(ours.late.detach().max()) < 0.9


def test_accumulation_equals_one_batch_where_rows_are_independent(
    tiny_backbone: Backbone, batch: Any
) -> None:
    recipe = Training(schedule="cosine", steps=4, batch_size=ROWS, lr=0.1)
    whole, cut = make(tiny_backbone), make(tiny_backbone)
    expected = train(whole, recipe, 1, ROWS, batch, 3, Engine())
    losses = train(cut, recipe.model_copy(update={"accumulation": 3}), 1, ROWS, batch, 3, Engine())
    assert losses == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(cut.ctx, whole.ctx, rtol=0, atol=1e-5)


def test_bf16_and_adamw_run_and_learn(tiny_backbone: Backbone, batch: Any) -> None:
    recipe = Training(
        optimizer="adamw", lr=0.05, schedule="cosine", steps=12, batch_size=ROWS, precision="bf16"
    )
    method = make(tiny_backbone)
    losses = train(method, recipe, 1, ROWS, batch, 3, Engine())
    assert losses[-1] < losses[0] and method.ctx.dtype == torch.float32


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("precision", "half"), HALVES.items())
def test_half_precision_is_that_of_the_loss_and_of_no_parameter(
    tiny_backbone: Backbone, batch: Any, device: str, precision: Any, half: torch.dtype
) -> None:
    class Watched(CoOp):
        def loss(self, batch: TrainBatch) -> Tensor:
            seen.append((self.ctx @ self.ctx.T).dtype)
            return super().loss(batch)

    def moved(dealt: Dealt) -> TrainBatch:
        b: TrainBatch = batch(dealt)
        assert b.queries.images is not None
        return replace(
            b,
            queries=Batch(images=b.queries.images.to(device)),
            target=b.target.to(device),
            weight=b.weight.to(device),
        )

    seen: list[torch.dtype] = []
    backbone = load_backbone(TINY_SPEC, device)
    torch.manual_seed(5)
    method = Watched(CoOpConfig(n_ctx=2), backbone, TaskInfo("classification", NAMES)).to(device)
    recipe = Training(schedule="constant", steps=4, lr=0.05, batch_size=ROWS)
    whole = train(make(tiny_backbone), recipe, 1, ROWS, batch, 3, Engine())
    recipe = recipe.model_copy(update={"precision": precision})
    losses = train(method, recipe, 1, ROWS, moved, 3, Engine(device=device))
    assert seen == [half] * 4 and method.ctx.dtype == torch.float32
    assert losses == pytest.approx(whole, rel=0.02) and losses != whole
    assert all(p.dtype == torch.float32 for p in backbone.model.parameters())


def test_a_diverged_run_names_its_step(tiny_backbone: Backbone, batch: Any) -> None:
    def poisoned(dealt: Dealt) -> TrainBatch:
        given: TrainBatch = batch(dealt)
        assert given.queries.images is not None
        return replace(given, queries=Batch(images=given.queries.images * float("nan")))

    recipe = Training(schedule="cosine", steps=3, batch_size=4)
    with pytest.raises(DivergedError, match=r"the loss is nan at step 0 of 3; lower training\.lr"):
        train(make(tiny_backbone), recipe, 1, ROWS, poisoned, 3, Engine())


def test_too_many_micro_batches_are_refused(tiny_backbone: Backbone, batch: Any) -> None:
    recipe = Training(schedule="cosine", steps=1, batch_size=4, accumulation=5)
    with pytest.raises(ValueError, match=r"lower training\.accumulation"):
        train(make(tiny_backbone), recipe, 1, ROWS, batch, 3, Engine())


def test_several_ranks_need_a_group_that_was_started(tiny_backbone: Backbone, batch: Any) -> None:
    recipe = Training(schedule="cosine", steps=1)
    with pytest.raises(RuntimeError, match="ranks"):
        train(make(tiny_backbone), recipe, 1, ROWS, batch, 3, Engine(world_size=2))
