"""What every registered method must do, generated for each method and each task it names."""

from __future__ import annotations

import pytest
import torch

from bench.batches import Dealt
from bench.embed import Images
from bench.embed import batch as as_batch
from bench.features import image_features
from bench.learn import lesson, training_batches, training_pairs
from bench.pixels import Pixels
from bench.train import Engine, train
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import Task
from methods.core.backbone import Backbone
from methods.core.config import Training
from methods.core.contract import Method, TaskInfo
from methods.core.registry import registered
from tests.llava import released

TASK_NAMES = {
    "classification": "classification",
    "image_text": "image-text",
    "composed": "composed",
}
CASES = [(name, kind) for name, method in registered().items() for kind in sorted(method.tasks)]
TRAINED = [(name, kind) for name, kind in CASES if registered()[name].trains]
RECIPE = Training(schedule="constant", steps=2, lr=0.01, batch_size=64)


def build(name: str, task: Task, backbone: Backbone) -> Method:
    torch.manual_seed(7)
    kind = registered()[name]
    names = tuple(c.text or "" for c in task.train.candidates)
    classes = names if task.kind == "classification" else ()
    options = {"model": str(released()), "dtype": "float32"} if name == "instructcir" else {}
    config = kind.Config.model_validate(options)
    return kind(config, backbone, TaskInfo(task.kind, classes, task.templates))


def images_of(method: Method, dataset: Dataset, features: object) -> Images:
    """Image ids -> what the method takes for them."""
    if method.frozen_images is not None:
        transform, encode = method.frozen_images.transform, method.frozen_images.encode_pixels
        return lambda ids: encode(torch.stack([transform(i) for i in dataset.images(ids)]))
    if method.pixels:
        return Pixels(dataset, method.transform, "cpu").at
    return features.at  # type: ignore[attr-defined]


def described(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """A caption for each image."""
    return {name: (f"a picture of {name}",) for name in dataset.reader.index}


@pytest.fixture
def features(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> object:
    return image_features(tiny_dataset, tiny_backbone, tmp_path_factory.getbasetemp() / "features")


@pytest.mark.parametrize("name", registered())
def test_it_declares_itself(name: str) -> None:
    method = registered()[name]
    assert method.name == name and method.paper and method.tasks and method.__doc__
    assert all(isinstance(choice, str) and choice for choice in method.inferred)
    method.Config()  # every option has a default
    assert method.Config.model_config["strict"] and method.Config.model_config["extra"] == "forbid"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_outputs_are_unit_norm(
    name: str, kind: str, tiny_dataset: Dataset, tiny_backbone: Backbone, features: object
) -> None:
    task = tiny_dataset.task(TASK_NAMES[kind])
    method = build(name, task, tiny_backbone)
    images = images_of(method, tiny_dataset, features)
    for part in task.evaluate:
        for encode, rows in ((method.query, part.queries), (method.candidate, part.candidates)):
            out = encode(as_batch(rows, images)).detach()
            assert out.shape == (len(rows), method.dim) and out.dtype == torch.float32
            torch.testing.assert_close(out.norm(dim=1), torch.ones(len(rows)))


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_two_steps_move_only_its_own_parameters_and_lower_the_loss(
    name: str, kind: str, tiny_dataset: Dataset, tiny_backbone: Backbone, features: object
) -> None:
    task = tiny_dataset.task(TASK_NAMES[kind])
    frozen = {k: v.clone() for k, v in tiny_backbone.model.state_dict().items()}
    weights, curves = [], []
    for _ in range(2):
        method = build(name, task, tiny_backbone)
        before = {k: v.clone() for k, v in method.state_dict().items()}
        pairs = training_pairs(task, task.train.queries)
        rows = len(pairs)
        method.begin_training(lesson(task, pairs, described(tiny_dataset)))
        images = images_of(method, tiny_dataset, features)
        batch = training_batches(method, task, pairs, images, 1, Engine())
        curves.append(train(method, RECIPE, 1, rows, batch, 1, Engine()))
        whole = Dealt(torch.arange(rows).numpy(), torch.ones(rows).numpy(), 1.0)
        with torch.no_grad():
            after = float(method.loss(batch(whole)))
        assert torch.isfinite(torch.tensor(curves[-1])).all() and after < curves[-1][0]
        assert any(not torch.equal(before[k], v) for k, v in method.state_dict().items())
        weights.append(method.state_dict())
    assert curves[0] == curves[1]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    now = tiny_backbone.model.state_dict()
    assert all(torch.equal(frozen[k], now[k]) for k in frozen)


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_state_saves_and_loads_to_equal_embeddings(
    name: str, kind: str, tiny_dataset: Dataset, tiny_backbone: Backbone, features: object
) -> None:
    task = tiny_dataset.task(TASK_NAMES[kind])
    method, fresh = build(name, task, tiny_backbone), build(name, task, tiny_backbone)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter))
    fresh.load_state_dict(method.state_dict())
    part, images = task.evaluate[0], images_of(method, tiny_dataset, features)
    for encode in ("query", "candidate"):
        rows = part.queries if encode == "query" else part.candidates
        batch = as_batch(rows, images)
        assert torch.equal(getattr(method, encode)(batch), getattr(fresh, encode)(batch))
