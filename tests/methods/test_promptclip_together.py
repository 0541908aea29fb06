"""Several PromptCLIPs in one pass: each has the loss and the gradients that it has alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import promptclip
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import Batch, TaskInfo, TrainBatch
from methods.core.prompt_rows import PromptRows, encode, prompt_rows
from methods.core.row_dropout import row_masks
from methods.core.text_tower import TextTower
from methods.promptclip import PromptCLIP, PromptCLIPConfig

OPTIONS: dict[str, dict[str, Any]] = {
    "shots": {},
    "unlabelled": {"aux": "unlabelled", "aux_images": 2, "dropout": 0.5},
    "after": {"position": "after", "n_prompts": 3, "aux": "none"},
    "linear": {"phi": "linear", "retrieval": False},
}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def learners(backbone: Backbone, **options: Any) -> list[PromptCLIP]:
    found = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        config = PromptCLIPConfig.model_validate({"hidden": 32, **options})
        found.append(PromptCLIP(config, backbone, TaskInfo("composed")).train())
    return found


def batch_of(backbone: Backbone, seed: int, rows: int, epoch: int = 0) -> TrainBatch:
    drawn = torch.Generator().manual_seed(seed)

    def unit(count: int) -> Tensor:
        vectors = torch.randn(count, backbone.dim, generator=drawn)
        return torch.nn.functional.normalize(vectors, dim=-1)

    return TrainBatch(
        queries=Batch(unit(rows), [" ".join(["now"] * (n * seed % 5)) for n in range(rows)]),
        candidates=Batch(unit(rows)),
        target=torch.arange(rows),
        weight=torch.ones(rows),
        row=torch.randperm(40, generator=drawn)[:rows],
        image_id=torch.arange(rows),
        epoch=epoch,
        unlabelled=Batch(unit(2 * rows)),
        unlabelled_id=torch.arange(2 * rows),
    )


def graded(methods: list[PromptCLIP], losses: Tensor) -> list[Tensor]:
    parameters = [p for method in methods for p in method.parameters()]
    return list(torch.autograd.grad(losses.sum(), parameters))


@pytest.mark.parametrize("kept", [None, 16])
@pytest.mark.parametrize("name", OPTIONS)
def test_losses_and_gradients_are_those_of_each_alone(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, name: str, kept: int | None
) -> None:
    """In one pass, and where a pass keeps no more than one of them."""
    methods = learners(backbone, **OPTIONS[name])
    batches = [batch_of(backbone, seed, rows) for seed, rows in ((1, 6), (2, 6), (3, 4))]
    alone = [method.loss(own) for method, own in zip(methods, batches, strict=True)]
    passes = []

    def counted(tower: TextTower, prompts: Tensor, rows: PromptRows) -> Tensor:
        passes.append(len(prompts))
        return encode(tower, prompts, rows)

    monkeypatch.setattr(promptclip, "encode", counted)
    if kept is not None:
        monkeypatch.setattr(promptclip, "KEPT_TOKENS", kept)
    together = PromptCLIP.together(methods, batches)
    assert len(passes) == (1 if kept is None else 3)
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-5)
    expected = graded(methods, torch.stack(alone))
    for own, other in zip(graded(methods, together), expected, strict=True):
        assert (own - other).norm() <= 1e-4 * other.norm()


def test_dropout_is_of_the_row_the_epoch_and_the_seed(backbone: Backbone) -> None:
    method, *_ = learners(backbone, dropout=0.5, aux="none")
    batch = batch_of(backbone, 1, 4)
    first = method.loss(batch)
    assert torch.equal(method.loss(batch), first), "the same step, the same masks"
    assert not torch.isclose(method.loss(replace(batch, epoch=1)), first, rtol=1e-4)
    assert not torch.isclose(method.loss(replace(batch, row=batch.row + 1)), first, rtol=1e-4)
    (same, *_) = learners(backbone, dropout=0.5, aux="none")
    assert torch.equal(same.loss(batch), first)
    torch.manual_seed(9)
    other = PromptCLIP(method.config, backbone, TaskInfo("composed")).train()
    other.load_state_dict(method.state_dict())
    assert not torch.isclose(other.loss(batch), first, rtol=1e-4), "another seed"


def test_without_training_there_is_no_dropout(backbone: Backbone) -> None:
    method, *_ = learners(backbone, dropout=0.5)
    (plain, *_) = learners(backbone, dropout=0.0)
    plain.load_state_dict(method.state_dict())
    batch = batch_of(backbone, 1, 4)
    assert not torch.isclose(method.loss(batch), plain.loss(batch), rtol=1e-4)
    assert torch.equal(method.eval().loss(batch), plain.loss(batch))


def test_dropout_is_that_of_a_network_with_these_masks(backbone: Backbone) -> None:
    """By hand: both hidden layers, scaled by 1 / (1 - p)."""
    method, *_ = learners(backbone, dropout=0.25, aux="none")
    batch = batch_of(backbone, 1, 4)
    masks = row_masks(1, 0, batch.row.numpy(), torch.zeros(4).numpy(), 64, 0.25)
    assert batch.queries.images is not None and batch.queries.texts is not None
    first, _, _, second, _, _, last = method.phi  # type: ignore[misc]
    hidden = (first(batch.queries.images) * masks[:, :32]).relu()
    prompts = last((second(hidden) * masks[:, 32:]).relu())[:, None]
    query = encode(backbone.text, prompts, prompt_rows(backbone.text, batch.queries.texts, 1))
    assert batch.candidates.images is not None
    logits = backbone.logit_scale * query @ batch.candidates.images.T
    expected = torch.nn.functional.cross_entropy(logits, batch.target)
    torch.testing.assert_close(method.loss(batch), expected)
