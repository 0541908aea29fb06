"""AAPE: its scores and its loss pair by pair, what is never read at test, what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import methods.aape.method as aape
from bench.batches import Dealt
from bench.features import image_features
from bench.learn import learn, lesson, training_batches, training_pairs
from bench.loaded import Data, Inputs
from bench.score import score
from bench.train import Engine
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import RetrievalTask, Task
from methods.aape import AAPE, AAPEConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.config import Training
from methods.core.contract import Lesson, TaskInfo, TrainBatch
from methods.core.frozen_texts import FrozenTexts
from methods.core.text_tower import TextTower
from tests.tiny import DESCRIPTIONS, TINY_SPEC

CLASSES = ("red_square", "green_square", "blue_square", "grey_square")
G = {"bottleneck": {}, "fc": {"g": "fc"}, "relu": {"output_relu": True}, "res": {"residual": True}}


def build(backbone: Backbone, kind: str = "classification", **options: Any) -> AAPE:
    torch.manual_seed(1)
    classes = CLASSES if kind == "classification" else ()
    config = AAPEConfig.model_validate(options)
    return AAPE(config, backbone, TaskInfo(kind, classes))  # type: ignore[arg-type]


def whole(count: int, epoch: int = 0) -> Dealt:
    rows = np.arange(count)
    return Dealt(rows, np.ones(count, dtype=np.float32), 1.0, epoch)


def taught(
    backbone: Backbone, dataset: Dataset, cache: Path, kind: str = "classification", **options: Any
) -> tuple[AAPE, TrainBatch]:
    """A method that has begun its training on the tiny world, and all rows in one batch."""
    method = build(backbone, kind, **options)
    task = dataset.task("classification" if kind == "classification" else "image-text")
    pairs = training_pairs(task, task.training().queries)
    method.begin_training(lesson(task, pairs, DESCRIPTIONS))
    images = image_features(dataset, backbone, cache).at
    batch = training_batches(method, task, pairs, images, 1, Engine())(whole(len(pairs)))
    return method, batch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def aggregate(method: AAPE, batch: TrainBatch) -> Tensor:
    assert method.aggregator is not None and batch.queries.images is not None
    which = method._set_of[batch.row]
    return method.aggregator(which, batch.queries.images, batch.row, batch.epoch)


# --- scores ---


def double_loop(method: AAPE, images: Tensor, classes: Tensor) -> Tensor:
    """cos(x, g([w ; h(x)])), one pair at a time, as it is written."""
    assert method.g is not None
    first = torch.cat([method.g.of_class.weight, method.g.of_image.weight], dim=1)
    scores = torch.empty(len(images), len(classes))
    for b, x in enumerate(images):
        for c, w in enumerate(classes):
            adapted = first @ torch.cat([w, method.h(x)])
            if method.g.out is not None:
                adapted = method.g.out.weight @ adapted.relu()
            if method.config.output_relu:
                adapted = adapted.relu()
            if method.config.residual:
                adapted = adapted + w
            scores[b, c] = torch.cosine_similarity(x, adapted, dim=0)
    return scores


@pytest.mark.parametrize("values", [1, 40, 200, 2**22])
@pytest.mark.parametrize("options", G.values(), ids=G)
def test_scores_in_chunks_equal_the_double_loop(
    tiny_backbone: Backbone,
    options: dict[str, Any],
    values: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """values: from one pair at a time to all at once; D is 16, which a pair is counted as."""
    method = build(tiny_backbone, **options)
    images = torch.nn.functional.normalize(torch.randn(7, 16), dim=-1)
    classes = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    monkeypatch.setattr(aape, "PAIR_VALUES", values)
    sizes: list[int] = []
    assert method.g is not None
    method.g.register_forward_hook(lambda _, __, cosine: sizes.append(16 * cosine.numel()))
    with torch.no_grad():
        found = method.similarity(images, classes)
        torch.testing.assert_close(found, double_loop(method, images, classes))
    assert max(sizes) <= max(values, 16) and sum(sizes) == 7 * 5 * 16


def test_gradients_flow_through_chunks(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(7, 16), dim=-1)
    classes = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    found = []
    for values in (40, 2**22):
        monkeypatch.setattr(aape, "PAIR_VALUES", values)
        method = build(tiny_backbone)
        (method.similarity(images, classes) ** 2).sum().backward()
        found.append([p.grad for p in method.parameters()])
    torch.testing.assert_close(found[0], found[1])
    assert all(grad is not None and bool(grad.any()) for grad in found[0])


@pytest.mark.parametrize("options", G.values(), ids=G)
def test_gradients_are_those_of_the_double_loop(
    tiny_backbone: Backbone, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    method = build(tiny_backbone, **options)
    images = torch.nn.functional.normalize(torch.randn(4, 16), dim=-1)
    classes = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    weight = torch.randn(4, 5)
    found = []
    for scores in (method.similarity, lambda *given: double_loop(method, *given)):
        total = (weight * scores(images, classes)).sum()
        found.append(torch.autograd.grad(total, [*method.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_a_pair_whose_weight_is_nothing_scores_0_and_has_finite_gradients(
    tiny_backbone: Backbone,
) -> None:
    method = build(tiny_backbone)
    assert method.g is not None
    torch.nn.init.constant_(method.g.of_class.weight, -1.0)
    torch.nn.init.zeros_(method.g.of_image.weight)
    scores = method.similarity(torch.eye(16)[:3], torch.eye(16)[:2])  # before the ReLU all are -1
    assert torch.equal(scores, torch.zeros(3, 2))
    scores.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in method.parameters() if p.grad is not None)


def test_h_alone_stands_for_the_image(tiny_backbone: Backbone) -> None:
    method = build(tiny_backbone, h_only=True)
    images = torch.nn.functional.normalize(torch.randn(3, 16), dim=-1)
    made, classes = method.image(images), method.text(CLASSES)
    torch.testing.assert_close(made, torch.nn.functional.normalize(method.h(images), dim=-1))
    torch.testing.assert_close(method.similarity(made, classes), made @ classes.T)
    assert [name.split(".")[0] for name, _ in method.named_parameters()] == ["h", "h"]


def test_parameter_counts_are_the_papers() -> None:
    """33k for h and 82k for h and g at D = 512; g as one layer would have 524k alone."""
    backbone = load_backbone(BackboneSpec(model="ViT-B-32-quickgelu", random_seed=0))
    method = build(backbone)
    assert sum(p.numel() for p in method.h.parameters()) == 32_768
    assert sum(p.numel() for p in method.parameters()) == 81_920
    literal = build(backbone, g="fc")
    assert sum(p.numel() for p in literal.parameters()) == 32_768 + 524_288


def test_the_loss_is_the_sum_that_the_paper_says(
    tiny_backbone: Backbone, tiny_dataset: Dataset, cache: Path
) -> None:
    method, batch = taught(tiny_backbone, tiny_dataset, cache, distill_weight=3.0)
    x, scale = batch.queries.images, tiny_backbone.logit_scale
    assert x is not None
    goal = torch.nn.functional.normalize(aggregate(method, batch), dim=-1)
    distance = (method.h(x) - goal).square().sum(dim=-1).mean()
    near = (x * goal).sum(dim=-1).clamp(min=0).mean()
    logits = scale * double_loop(method, x, method.text(CLASSES))
    task = torch.nn.functional.cross_entropy(logits, batch.target)
    expected = task + 3.0 * distance - 2.5 * near
    torch.testing.assert_close(method.loss(batch), expected)


# --- training only ---


class Overheard(Mapping[str, tuple[str, ...]]):
    """Descriptions of the base classes; remembers what was asked for."""

    def __init__(self) -> None:
        self.told = {name: DESCRIPTIONS[name] for name in CLASSES[:2]}
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> tuple[str, ...]:
        self.asked.add(key)
        return self.told[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.told)

    def __len__(self) -> int:
        return len(self.told)


def base_to_new(task: Task) -> Task:
    """Red and green are learned; blue and grey are new."""

    def part(of: RetrievalTask, name: str, colours: tuple[str, ...]) -> RetrievalTask:
        queries = tuple(q for q in of.queries if q.group in colours)
        return RetrievalTask(name, queries, tuple(c for c in of.candidates if c.id in colours))

    base, new, test = ("red", "green"), ("blue", "grey"), task.evaluate[0]
    parts = (part(test, "base", base), part(test, "new", new))
    train = part(task.training(), "train", base)
    return replace(task, protocol="base-to-new/1", train=train, evaluate=parts)


def test_no_description_of_a_new_class_is_read_and_none_at_test(
    tiny_data: Path,
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, digest = Engine(), tiny_dataset.manifest.digest
    inputs = Inputs(TINY_SPEC, tiny_backbone.digest, str(tiny_data), str(tmp_path), engine)
    told = Overheard()
    found = inputs.data("tiny", digest, "classification")
    data: Data = replace(found, task=base_to_new(found.task), descriptions=told)
    method = AAPE(AAPEConfig(), tiny_backbone, TaskInfo("classification", data.task.class_names))
    recipe = Training(schedule="constant", steps=4, lr=0.01, batch_size=8)
    names = {name for name, _ in method.named_parameters()}
    learn(method, recipe, data, 4, 1, engine)
    assert told.asked == set(CLASSES[:2])
    assert set(method.learned()) == names == {n for n, _ in method.named_parameters()}
    fresh = AAPE(AAPEConfig(), tiny_backbone, TaskInfo("classification", data.task.class_names))
    fresh.load_learned(method.learned())
    told.asked.clear()
    encoded: list[str] = []
    encode, remember = TextTower.encode_texts, FrozenTexts.__call__

    def overhear(tower: TextTower, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        encoded.extend(texts)
        return encode(tower, texts, batch_size)

    def overhear_known(known: FrozenTexts, texts: Sequence[str]) -> Tensor:
        encoded.extend(texts)
        return remember(known, texts)

    monkeypatch.setattr(TextTower, "encode_texts", overhear)
    monkeypatch.setattr(FrozenTexts, "__call__", overhear_known)
    metrics = []
    for one in (method, fresh):
        scored = score(one, data.task, data.images(one))
        assert scored is not None
        metrics.append(scored.metrics)
    assert metrics[0] == metrics[1] and "H" in metrics[0]
    assert told.asked == set()
    assert set(encoded) == {f"a photo of a {name.replace('_', ' ')}" for name in CLASSES}


def test_a_class_without_a_description_is_named(tiny_backbone: Backbone) -> None:
    taught = Lesson(("red_square", "blue_square"), ("red", "blue"), (("a square.",), ()), ((), ()))
    with pytest.raises(ValueError, match="class 'blue_square' has no description; give sentences"):
        build(tiny_backbone).begin_training(taught)
    without = build(tiny_backbone, distill_weight=0.0)
    without.begin_training(taught)
    assert without.aggregator is None


def test_draws_in_any_order_ask_for_one_list_of_prompts(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every cell would encode the descriptions anew: features belong to a whole list."""
    encoded: list[list[str]] = []
    encode = FrozenTexts._encode

    def counted(self: FrozenTexts, texts: Sequence[str]) -> Tensor:
        encoded.append([*texts])
        return encode(self, texts)

    monkeypatch.setattr(FrozenTexts, "_encode", counted)
    monkeypatch.setattr(tiny_backbone, "text_features", FrozenTexts(tiny_backbone))
    texts, told = ("red_square", "blue_square"), (("it is red.", "four sides."), ("it is blue.",))
    kept = []
    for turn in (slice(None), slice(None, None, -1)):
        method = build(tiny_backbone)
        method.begin_training(Lesson(texts[turn], texts[turn], told[turn], ((), ())))
        assert method.aggregator is not None
        kept.append(method.aggregator.prompts)
    assert encoded == [["four sides.", "it is blue.", "it is red."]]
    torch.testing.assert_close(kept[0].mean, kept[1].mean.flip(0), rtol=0, atol=0)


def test_it_asks_for_descriptions_of_classes_alone() -> None:
    assert AAPE.describes(AAPEConfig(), "classification")
    assert not AAPE.describes(AAPEConfig(), "image_text")
    assert not AAPE.describes(AAPEConfig(distill_weight=0), "classification")


def test_no_more_prompts_than_asked_for(
    tiny_backbone: Backbone, tiny_dataset: Dataset, cache: Path
) -> None:
    method, _ = taught(tiny_backbone, tiny_dataset, cache, prompts_per_class=2)
    assert method.aggregator is not None
    first = tiny_backbone.text.encode_texts(DESCRIPTIONS["green_square"][:2])
    found = method.aggregator.prompts.features
    assert found.shape == (4, 2, 16)
    torch.testing.assert_close(found[1], first)


# --- options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"h_only": True, "residual": True}, "h_only has no g; leave out residual"),
        ({"h_only": True, "g": "fc"}, "h_only has no g; leave out g"),
        ({"aggregator": "mean", "aggregator_query": "adapted"}, "'mean' has no query"),
        ({"aggregator": "max"}, "attention"),
        ({"bottleneck": 0}, "greater than 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AAPEConfig.model_validate(options)


def test_what_does_not_fit_the_task_or_the_backbone_is_refused(
    tiny_backbone: Backbone, tiny_dataset: Dataset, cache: Path
) -> None:
    with pytest.raises(ValueError, match="with residual does classification, not image_text"):
        build(tiny_backbone, "image_text", residual=True)
    with pytest.raises(ValueError, match="with h_only does classification"):
        build(tiny_backbone, "image_text", h_only=True)
    with pytest.raises(ValueError, match="heads: 3 does not divide 16"):
        taught(tiny_backbone, tiny_dataset, cache, heads=3)
