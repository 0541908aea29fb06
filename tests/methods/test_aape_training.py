"""AAPE's training: the aggregate, what the reward and the distillation move, equality of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.batches import deal
from bench.features import image_features
from bench.learn import lesson, training_batches, training_pairs
from bench.train import Engine
from data_recipes.core.dataset import Dataset, open_dataset
from methods.aape.aggregator import Aggregator, Prompts
from methods.core.backbone import Backbone, load_backbone
from tests.methods.test_aape import aggregate, build, taught
from tests.ranks import on_ranks
from tests.tiny import DESCRIPTIONS, TINY_SPEC


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("query", ["class", "adapted"])
def test_the_attention_starts_at_the_mean_of_the_real_prompts(query: str) -> None:
    """Sets of different sizes are padded; padding has no part in the mean or the attention."""
    torch.manual_seed(0)
    sets = [torch.randn(count, 16) for count in (3, 1, 5)]
    given: dict[str, Any] = {"heads": 4, "width": 8, "share": 0.2, "seed": 0}
    module = Aggregator("attention", Prompts(sets), adapted=query == "adapted", **given)
    which, images, rows = torch.tensor([0, 1, 2, 0]), torch.randn(4, 16), torch.arange(4)
    expected = torch.stack([sets[n].mean(dim=0) for n in which.tolist()])
    torch.testing.assert_close(module(which, images, rows, 0), expected)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    moved = module(which, images, rows, 0)
    assert float((moved - expected).detach().abs().amax(dim=1).min()) > 1e-3
    module.prompts.features[~module.prompts.present] = 9.0
    assert torch.equal(module(which, images, rows, 0), moved)
    assert torch.equal(moved[0], moved[3]) == (query == "class")


def as_torch_has_it(module: Aggregator, which: Tensor, images: Tensor) -> Tensor:
    """The aggregate by torch's own attention over all keys and values."""
    mean = module.prompts.mean[which]
    query = module.query[which] if module.adapt is None else mean + module.adapt(images)
    on_query, on_prompts, on_feed = module.norms
    keys, absent = on_prompts(module.prompts.features[which]), ~module.prompts.present[which]
    asked = on_query(query)[:, None]
    query = query + module.attention(asked, keys, keys, key_padding_mask=absent)[0][:, 0]
    found: Tensor = query + module.feed(on_feed(query))
    return found


@pytest.mark.parametrize("adapted", [False, True])
def test_the_attention_and_its_gradients_are_torchs(adapted: bool) -> None:
    torch.manual_seed(0)
    sets = [torch.randn(count, 16) for count in (3, 1, 5)]
    prompts = Prompts(sets)
    module = Aggregator("attention", prompts, adapted=adapted, heads=4, width=8, share=0.2, seed=0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    which, images = torch.tensor([0, 1, 2, 0]), torch.randn(4, 16)
    rows, weight = torch.arange(4), torch.randn(4, 16)
    found = module(which, images, rows, 0)
    expected = as_torch_has_it(module, which, images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    own, torchs = (
        torch.autograd.grad((weight * one).sum(), [*module.parameters()])
        for one in (found, expected)
    )
    torch.testing.assert_close(own, torchs, rtol=1e-3, atol=1e-3)


def test_the_plain_aggregates() -> None:
    torch.manual_seed(0)
    sets = [torch.randn(count, 16) for count in (4, 2)]
    given: dict[str, Any] = {"adapted": False, "heads": 4, "width": 8, "seed": 3}
    which, images, rows = torch.tensor([1, 0, 0]), torch.randn(3, 16), torch.tensor([7, 8, 9])
    means = torch.stack([sets[n].mean(dim=0) for n in which.tolist()])
    mean = Aggregator("mean", Prompts(sets), share=0.2, **given)
    torch.testing.assert_close(mean(which, images, rows, 0), means)
    mlp = Aggregator("mlp", Prompts(sets), share=0.2, **given)
    expected = 0.2 * mlp.mlp(means) + 0.8 * means
    torch.testing.assert_close(mlp(which, images, rows, 0), expected)
    drawn = Aggregator("random", Prompts(sets), share=0.2, **given)
    found = {epoch: drawn(which, images, rows, epoch) for epoch in range(60)}
    for row, number in enumerate(which.tolist()):
        told = {tuple(prompt.tolist()) for prompt in sets[number]}
        assert {tuple(one[row].tolist()) for one in found.values()} == told
    assert torch.equal(found[3][1:], drawn(which[1:], images[1:], rows[1:], 3))
    assert [kind.learns for kind in (mean, mlp, drawn)] == [False, True, False]


def test_the_reward_moves_the_aggregate_toward_the_images(
    tiny_backbone: Backbone, tiny_dataset: Dataset, cache: Path
) -> None:
    method, batch = taught(tiny_backbone, tiny_dataset, cache)
    images = batch.queries.images
    near: list[float] = []
    for _ in range(20):
        assert method.aggregator is not None and images is not None
        found = torch.cosine_similarity(aggregate(method, batch), images, dim=-1).clamp(min=0)
        near.append(float(found.detach().mean()))
        method.zero_grad()
        method.loss(batch).backward()
        with torch.no_grad():
            for parameter in method.aggregator.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    assert near[-1] > near[0] + 0.05


@pytest.mark.parametrize("stop", [True, False])
def test_the_distillation_moves_the_aggregate_only_where_asked(
    tiny_backbone: Backbone, tiny_dataset: Dataset, cache: Path, stop: bool
) -> None:
    method, batch = taught(
        tiny_backbone, tiny_dataset, cache, reward_weight=0.0, stop_gradient=stop
    )
    method.loss(batch).backward()
    assert method.aggregator is not None
    moved = [p.grad is not None and bool(p.grad.any()) for p in method.aggregator.parameters()]
    assert any(moved) == (not stop)
    assert all(p.grad is not None and bool(p.grad.any()) for p in method.h.parameters())


@pytest.mark.parametrize("kind", ["classification", "image_text"])
def test_the_generator_learns_to_make_the_aggregate(
    tiny_backbone: Backbone, tiny_dataset: Dataset, cache: Path, kind: str
) -> None:
    method, batch = taught(tiny_backbone, tiny_dataset, cache, kind)
    assert batch.queries.images is not None
    optimizer = torch.optim.SGD(method.parameters(), lr=0.02)
    distances = []
    for _ in range(60):
        goal = torch.nn.functional.normalize(aggregate(method, batch), dim=-1).detach()
        gap = (method.h(batch.queries.images) - goal).square().sum(dim=-1)
        distances.append(float(gap.detach().mean()))
        optimizer.zero_grad()
        method.loss(batch).backward()
        optimizer.step()
    assert distances[-1] < 0.2 * distances[0]


VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("classification", {}),
    ("classification", {"aggregator": "random", "residual": True}),
    ("classification", {"aggregator": "mlp", "h_only": True}),
    ("classification", {"aggregator_query": "adapted", "stop_gradient": False}),
    ("image_text", {}),
)


def on_rank(engine: Engine, folder: str, cache: str) -> list[tuple[float, list[Tensor]]]:
    """This rank's share of loss and gradients of 9 rows; two ranks have one row of padding."""
    dataset, backbone, found = open_dataset(folder), load_backbone(TINY_SPEC), []
    images = image_features(dataset, backbone, Path(cache)).at
    for kind, options in VARIANTS:
        method = build(backbone, kind, **options)
        task = dataset.task("classification" if kind == "classification" else "image-text")
        pairs = training_pairs(task, task.training().queries)
        method.begin_training(lesson(task, pairs, DESCRIPTIONS))
        batch_of = training_batches(method, task, pairs, images, 1, engine)
        (dealt,) = deal(np.arange(3, 12), 1, engine.rank, engine.world_size, 2)
        loss = method.loss(batch_of(dealt))
        loss.backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in method.parameters()]
        found.append((float(loss.detach()), gradients))
    return found


@pytest.mark.slow
def test_two_ranks_give_the_loss_and_gradients_of_one(tiny_data: Path, tmp_path: Path) -> None:
    folder = str(tiny_data / "tiny")
    alone = on_rank(Engine(), folder, str(tmp_path))
    both = on_ranks(on_rank, 2, tmp_path, folder, str(tmp_path))
    for (loss, gradients), *shares in zip(alone, *both, strict=True):
        assert abs(sum(share[0] for share in shares) / 2 - loss) < 1e-5
        for own, *others in zip(gradients, *(share[1] for share in shares), strict=True):
            mean = torch.stack(others).mean(dim=0)
            torch.testing.assert_close(mean, own, rtol=1e-4, atol=1e-5)
