"""What every registered method must do, generated for each method and each task it names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from bench.embed import batch as as_batch
from data_recipes.core.model import RetrievalTask, TaskKind
from methods.core.config import Training
from methods.core.contract import Method
from methods.core.registry import registered
from tests.conform import (
    CASES,
    RECIPE,
    SETTINGS,
    STAGED,
    TRAINED,
    Taught,
    World,
    open_world,
    ranks_curves,
)
from tests.ranks import on_ranks


@pytest.fixture(scope="module")
def world(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tiny_data, tmp_path_factory.mktemp("conform"))


@pytest.fixture(scope="module")
def taught(world: World) -> object:
    """The trained method of a case, trained once for all tests that only look at it."""
    return cache(world.teach)


@torch.no_grad()
def embeddings(world: World, method: Method, kind: TaskKind) -> list[tuple[Tensor, ...]]:
    """Queries, candidates and scores of each evaluated part, as scoring sees them."""
    method.eval()
    data = world.data(method.name, kind)
    images = data.images(method)

    def scored(part: RetrievalTask) -> tuple[Tensor, ...]:
        queries = method.query(as_batch(part.queries, images))
        candidates = method.candidate(as_batch(part.candidates, images))
        return queries, candidates, method.similarity(queries, candidates)

    return [scored(part) for part in data.task.evaluate]


@pytest.mark.parametrize("name", registered())
def test_it_declares_itself(name: str, world: World) -> None:
    method = registered()[name]
    assert method.name == name and method.paper and method.tasks and method.__doc__
    assert all(isinstance(choice, str) and choice for choice in method.inferred)
    assert method.Config.model_config["strict"] and method.Config.model_config["extra"] == "forbid"
    said = re.findall(r"\w+", method.Config.__doc__ or "")
    assert set(method.Config.model_fields) <= set(said), "the Config's docstring says each option"
    world.config(name)  # every option has a default, or a line in SETTINGS
    assert method.pixels or not method.touches_vision, "what touches the vision tower reads pixels"
    assert set(SETTINGS) <= set(registered()), "a setting of no method"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_only_a_method_that_trains_has_parameters(name: str, kind: TaskKind, world: World) -> None:
    method = world.build(name, kind)
    count = sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert (count > 0) == method.trains
    hidden = {id(p) for p in world.backbone.model.parameters()}
    assert not any(id(p) in hidden for p in method.parameters()), "the backbone is in the module"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_is_given_pixels_or_features(name: str, kind: TaskKind, world: World) -> None:
    method = world.build(name, kind)
    data = world.data(name, kind)
    ids = data.task.training().image_ids()[:2]
    given = data.images(method)(ids)
    pictures = data.dataset.images(ids)
    if method.frozen_images is not None:
        encoder = method.frozen_images
        pixels = torch.stack([encoder.transform(p) for p in pictures])
        torch.testing.assert_close(given, encoder.encode_pixels(pixels))
        assert given.shape == (2, encoder.dim)
    elif method.pixels:
        assert torch.equal(given, torch.stack([method.transform(p) for p in pictures]))
        assert given.shape[:2] == (2, 3)
    else:
        assert given.ndim == 2 and len(given) == 2 and given.isfinite().all()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_outputs_are_unit_norm_and_scores_are_of_pairs(
    name: str, kind: TaskKind, world: World
) -> None:
    method = world.build(name, kind)
    for queries, candidates, scores in embeddings(world, method, kind):
        for out in (queries, candidates):
            assert out.shape == (len(out), method.dim) and out.dtype == torch.float32
            torch.testing.assert_close(out.norm(dim=1), torch.ones(len(out)))
        with torch.no_grad():
            alone = method.similarity(queries[-1:], candidates[:2])
        assert scores.shape == (len(queries), len(candidates)) and scores.isfinite().all()
        torch.testing.assert_close(scores[-1:, :2], alone)


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_two_steps_lower_the_loss_and_move_only_what_is_declared(
    name: str, kind: TaskKind, world: World
) -> None:
    frozen = {k: v.clone() for k, v in world.backbone.model.state_dict().items()}
    seen = world.teach(name, kind)
    assert torch.tensor(seen.curve).isfinite().all() and seen.curve[-1] < seen.curve[0]
    assert seen.reached == seen.declared, "declared as trained, and the loss does not depend on it"
    moved = {k for k, v in seen.after.items() if not torch.equal(v, seen.before[k])}
    assert moved and moved <= seen.declared
    now = world.backbone.model.state_dict()
    assert frozen.keys() == now.keys() and all(torch.equal(frozen[k], now[k]) for k in frozen)
    model = world.backbone.model
    assert not any(part.training for part in model.modules()), "the backbone left eval mode"
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_the_same_seed_gives_the_same_bits(
    name: str, kind: TaskKind, world: World, taught: object
) -> None:
    first: Taught = taught(name, kind)  # type: ignore[operator]
    second = world.teach(name, kind)
    assert first.curve == second.curve
    one, other = first.method.learned(), second.method.learned()
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_what_was_learned_is_all_that_scoring_needs(
    name: str, kind: TaskKind, world: World, taught: object
) -> None:
    seen: Taught = taught(name, kind)  # type: ignore[operator]
    learned = {k: v.detach().contiguous() for k, v in seen.method.learned().items()}
    parameters = dict(seen.method.named_parameters())
    assert parameters.keys() == seen.at_first, "end_training leaves what begin_training added"
    assert {k for k, p in parameters.items() if p.requires_grad} <= learned.keys()
    fresh = world.build(name, kind, seed=8)
    untaught = embeddings(world, fresh, kind)
    fresh.load_learned(load(save(learned)))
    expected = embeddings(world, seen.method, kind)
    assert any(not torch.equal(a, b) for a, b in zip(_flat(untaught), _flat(expected), strict=True))
    for a, b in zip(_flat(embeddings(world, fresh, kind)), _flat(expected), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(RuntimeError):
        fresh.load_learned({"another": torch.zeros(1)})


def _flat(parts: list[tuple[Tensor, ...]]) -> list[Tensor]:
    return [tensor for part in parts for tensor in part]


@pytest.mark.parametrize(("name", "kind"), STAGED)
def test_a_stage_trains_on_its_kind(name: str, kind: TaskKind, world: World) -> None:
    stage = registered()[name].stage
    assert stage is not None and registered()[name].trains
    recipe = Training.model_validate({**stage.model_dump(), **RECIPE, "schedule": "constant"})
    seen = world.teach(name, kind, recipe)
    assert torch.tensor(seen.curve).isfinite().all() and seen.curve[-1] < seen.curve[0]
    for target in sorted(registered()[name].tasks):
        world.build(name, target, seed=8).load_learned(seen.method.learned())


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(world: World, tiny_data: Path, tmp_path: Path) -> None:
    for name, _ in TRAINED:
        world.config(name)  # its files are there before two ranks ask for them
    alone = ranks_curves(world.inputs.engine, tiny_data, world.files, TRAINED)
    both = on_ranks(ranks_curves, 2, tmp_path, tiny_data, world.files, TRAINED)
    for rank in both:
        for case, (curve, learned) in alone.items():
            assert rank[case][0] == pytest.approx(curve, abs=1e-5, rel=2e-6), case
            for key, value in learned.items():
                torch.testing.assert_close(rank[case][1][key], value, rtol=0, atol=1e-5)
