"""InstructCIR-lite: the small model is the backbone's, the loss, two stages, ranks and ZeRO."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

pytest.importorskip("transformers")

from bench.batches import Dealt
from bench.features import image_features
from bench.learn import lesson, training_batches, training_pairs
from bench.train import Engine, train
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import DataError
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.config import Training
from methods.core.contract import TaskInfo, TrainBatch
from methods.instructcir import InstructCIRLite
from methods.instructcir.contrast import instruction_loss
from methods.instructcir.options import InstructCIRLiteConfig
from methods.instructcir.small import small_llava
from tests.cells import run_on_ranks, tiny_cells
from tests.llava import released
from tests.ranks import on_ranks
from tests.tiny import DescribedRecipe

QUICK = Training(optimizer="adamw", lr=0.002, schedule="constant", steps=3, batch_size=64)


def lite(backbone: Backbone, kind: str = "composed", **options: object) -> InstructCIRLite:
    torch.manual_seed(3)
    config = InstructCIRLiteConfig.model_validate(options)
    return InstructCIRLite(config, backbone, TaskInfo(kind))  # type: ignore[arg-type]


def taught(
    method: InstructCIRLite, dataset: Dataset, cache: Path, recipe: Training = QUICK
) -> tuple[list[float], TrainBatch]:
    """Train a few steps; the loss curve and one batch of all rows."""
    task = dataset.task("composed" if method.task.kind == "composed" else "image-text")
    pairs = training_pairs(task, task.training().queries)
    captions = {i: (f"a picture of {i}", f"one {i}") for i in dataset.reader.index}
    method.begin_training(lesson(task, pairs, captions))
    images = image_features(dataset, method._vision[0], cache).at
    deal = training_batches(method, task, pairs, images, 1, Engine())
    curve = train(method, recipe, 1, len(pairs), deal, 1, Engine())
    whole = Dealt(torch.arange(len(pairs)).numpy(), torch.ones(len(pairs)).numpy(), 1.0)
    return curve, deal(whole)


@pytest.mark.parametrize("spec", [BackboneSpec(), None])
def test_the_small_model_is_the_backbones_towers(
    spec: BackboneSpec | None, tiny_backbone: Backbone
) -> None:
    backbone = load_backbone(spec) if spec else tiny_backbone
    size = backbone.model.visual.image_size[0]  # type: ignore[union-attr,index]
    pixels = torch.randn(3, 3, size, size)
    seen: list[Tensor] = []
    blocks = backbone.model.visual.transformer.resblocks  # type: ignore[union-attr]
    told = blocks[-1].register_forward_pre_hook(  # type: ignore[union-attr,index]
        lambda _, given: seen.append(given[0])
    )
    features = backbone.encode_pixels(pixels)
    told.remove()
    patches = lite(backbone, image_states="patches", anchor=0.0).frozen_images
    found = patches.shaped(patches.encode_pixels(pixels))  # type: ignore[attr-defined]
    torch.testing.assert_close(found, seen[0][:, 1:], rtol=1e-5, atol=1e-5)
    pooled = lite(backbone).frozen_images
    own = pooled.feature(pooled.encode_pixels(pixels))  # type: ignore[attr-defined]
    torch.testing.assert_close(own, features, rtol=0, atol=1e-5)
    assert patches.digest != pooled.digest
    texts = ["a woman farmer with dark skin tone", "a cat", "keycap one and some words more"]
    read = lite(backbone).text(texts)  # LoRA starts at nothing
    torch.testing.assert_close(read, backbone.text.encode_texts(texts), rtol=0, atol=1e-5)


def test_padding_and_the_batch_change_nothing(tiny_backbone: Backbone) -> None:
    method = lite(tiny_backbone)
    states, texts = torch.randn(3, method._vision[0].dim), ["a", "a b c d", "make it blue now"]
    with torch.no_grad():
        together = method.compose(states, texts)
        alone = [method.compose(states[n : n + 1], texts[n : n + 1]) for n in range(3)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
        moved = method.compose(states.flip(0), texts)
    assert (together - moved).abs().max() > 1e-4  # the image counts


def test_the_loss_is_the_plain_double_loop_with_the_unmodified_caption() -> None:
    torch.manual_seed(0)
    z1, z2, z3 = (nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(3))
    target, original = torch.tensor([0, 1, 2, 1, 3]), torch.tensor([4, 0, 5, 6, 3])
    weight, tau = torch.tensor([1.0, 1, 1, 1, 0]), 0.05
    expected, rows = 0.0, 0
    for i in range(5):
        if weight[i] == 0:
            continue
        total = torch.zeros(())
        for j in range(5):
            if weight[j] == 0:
                continue
            if i == j or target[j] != target[i]:
                total = total + torch.exp(z1[i] @ z2[j] / tau)
            if original[j] != target[i]:
                total = total + torch.exp(z1[i] @ z3[j] / tau)
        expected += float(total.log() - z1[i] @ z2[i] / tau)
        rows += 1
    found = instruction_loss(z1, z2, z3, target, original, weight, tau)
    assert float(found) == pytest.approx(expected / rows, rel=1e-5)
    without = instruction_loss(z1, z2, z2, target, target, weight, tau)
    assert float(without) != pytest.approx(expected / rows, rel=1e-3)


def anchored(method: InstructCIRLite, states: torch.Tensor, batch: TrainBatch) -> float:
    """The made-up queries' anchor, from a pass of their own."""
    made = method._made_up(states, batch)
    assert made is not None
    read = method.compose(made.states, made.texts)
    return float(method._anchor(read, made.fused, batch.weight))


def test_queries_and_made_up_ones_are_read_in_one_pass_with_equal_results(
    tiny_backbone: Backbone, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    method = lite(tiny_backbone)
    _, batch = taught(method, tiny_dataset, tmp_path)
    lesson, weight, images = method._lesson, batch.weight, batch.queries.images
    assert lesson is not None and images is not None and batch.queries.texts is not None
    with torch.no_grad():
        told = [
            method._told(captions, batch)
            for captions in (lesson.described, lesson.reference_described)
        ]
        target, original = map(method._ids, told)
        z1, both = method.compose(images, batch.queries.texts), method.text([*told[0], *told[1]])
        z2, z3 = both.chunk(2)
        expected = instruction_loss(z1, z2, z3, target, original, weight, method.config.tau)
        frozen = method._frozen[torch.cat([target, original])]
        expected = expected + method._anchor(both, frozen, weight.repeat(2))
        found = float(method.loss(batch))
        assert found == pytest.approx(float(expected) + anchored(method, images, batch), rel=1e-5)


def test_the_images_own_feature_is_added_and_made_up_queries_are_anchored_to_the_sum(
    tiny_backbone: Backbone, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    bare, method = lite(tiny_backbone, residual=(0.0, 0.0)), lite(tiny_backbone)
    vision, texts = method._vision[0], ["make it blue", "a b c"]
    states = torch.randn(2, vision.dim)
    own = vision.feature(states)
    with torch.no_grad():
        query = nn.functional.normalize(bare.compose(states, texts) + 0.5 * own, dim=-1)
        shown = nn.functional.normalize(bare.image(states) + 4.0 * own, dim=-1)
        torch.testing.assert_close(method.compose(states, texts), query, rtol=0, atol=1e-6)
        torch.testing.assert_close(method.image(states), shown, rtol=0, atol=1e-6)
    _, batch = taught(method, tiny_dataset, tmp_path)
    given = batch.queries.images
    assert given is not None
    with torch.no_grad():
        value = anchored(method, given, batch)
        turned = torch.randperm(len(batch.row), generator=torch.Generator().manual_seed(1))
        moved = replace(batch, row=batch.row[turned], weight=batch.weight[turned], known_rows=None)
        torch.manual_seed(9)  # made up for (row, epoch), whatever the order or the random state
        assert anchored(method, given[turned], moved) == pytest.approx(value, rel=1e-5)
        later = replace(batch, epoch=batch.epoch + 1)
        assert anchored(method, given, later) != pytest.approx(value, rel=1e-5)
        assert float(method._frozen.norm(dim=1).min()) == pytest.approx(1.0)
    sharp = Training(optimizer="adamw", lr=0.005, schedule="constant", steps=12, batch_size=64)
    held = lite(tiny_backbone)
    taught(held, tiny_dataset, tmp_path, sharp)
    with torch.no_grad():
        assert anchored(held, given, batch) < 0.8 * value
    with pytest.raises(ValidationError, match="two weights of at least 0"):
        InstructCIRLiteConfig(model="x", residual=(0.5, 4.0))


def test_stage_two_is_the_loss_of_its_three_embeddings(
    tiny_backbone: Backbone, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    method = lite(tiny_backbone, anchor=0.0)
    _, batch = taught(method, tiny_dataset, tmp_path)
    task = tiny_dataset.task("composed")
    pairs = training_pairs(task, task.training().queries)
    with torch.no_grad():
        z1 = method.compose(batch.queries.images, batch.queries.texts)  # type: ignore[arg-type]
        targets = [f"a picture of {c.image}" for _, c in pairs]
        originals = [f"a picture of {q.image}" for q, _ in pairs]
        z2, z3 = method.text(targets), method.text(originals)
        number = {name: n for n, name in enumerate(sorted({*targets, *originals}))}
        ids = [torch.tensor([number[t] for t in told]) for told in (targets, originals)]
        expected = instruction_loss(z1, z2, z3, *ids, batch.weight, 0.05)
        torch.testing.assert_close(method.loss(batch), expected, rtol=0, atol=1e-5)
        mirrored = lite(tiny_backbone, anchor=0.0, mirror=True)
        mirrored.load_learned(method.learned())
        mirrored._lesson, mirrored._captions = method._lesson, method._captions
        assert float(mirrored.loss(batch)) != pytest.approx(float(expected), rel=1e-5)


def test_stage_one_carries_into_stage_two_and_only_what_is_trained_is_kept(
    tiny_backbone: Backbone, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    first, again = lite(tiny_backbone, "image_text"), lite(tiny_backbone, "image_text")
    frozen = {k: v.clone() for k, v in first.state_dict().items() if k not in first.learned()}
    curves = [taught(method, tiny_dataset, tmp_path)[0] for method in (first, again)]
    assert curves[0] == curves[1]
    learned = first.learned()
    assert all(torch.equal(value, again.learned()[name]) for name, value in learned.items())
    assert {name.split(".")[-2] for name in learned} >= {"q_proj", "fc2", "0", "2"}
    assert all("lora" in name or "projector" in name for name in learned)
    assert all(torch.equal(frozen[name], first.state_dict()[name]) for name in frozen)
    second = lite(tiny_backbone)
    second.load_learned(learned)
    states = torch.randn(2, second._vision[0].dim)
    assert torch.equal(second.image(states), first.image(states))
    curve, _ = taught(second, tiny_dataset, tmp_path)
    assert curve[-1] < curve[0]
    with pytest.raises(RuntimeError, match="differ in names or shapes"):
        lite(tiny_backbone, lora_r=4).load_learned(learned)


@pytest.mark.parametrize(
    "options",
    [
        {"tune": "full"},
        {"tune": "projector"},
        {"checkpointing": True},
        {"image_targets": 0.5},
        {"gallery": "backbone"},
        {"image_states": "patches", "anchor": 0.0},
    ],
)
def test_every_option_trains(
    options: dict[str, object], tiny_backbone: Backbone, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    method = lite(tiny_backbone, **options)
    curve, _ = taught(method, tiny_dataset, tmp_path)
    assert curve[-1] < curve[0]
    if "checkpointing" in options:
        plain, _ = taught(lite(tiny_backbone), tiny_dataset, tmp_path)
        assert curve == pytest.approx(plain, rel=1e-5)
    if options == {"tune": "projector"}:
        assert all("projector" in name for name in method.learned())


def test_a_model_by_path_trains_with_lora(
    tiny_backbone: Backbone, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    method = lite(tiny_backbone, model=str(released()))
    assert InstructCIRLite.weights_digest(method.config) is not None
    curve, _ = taught(method, tiny_dataset, tmp_path)
    assert curve[-1] < curve[0] and method.dim == 48
    adapted = {name.split(".lora_")[0].split(".")[-1] for name in method.learned()}
    assert {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"} <= adapted


def test_states_too_large_for_the_disk_are_made_from_pixels(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = lite(tiny_backbone, image_states="patches", anchor=0.0)
    vision = method.frozen_images
    assert vision is not None
    monkeypatch.setattr("methods.instructcir.lite.LARGEST", vision.dim - 1)
    assert method.frozen_images is None and method.pixels
    pixels = torch.randn(3, 3, 32, 32)
    assert torch.equal(method.image(pixels), method.image(vision.encode_pixels(pixels)))


def test_wrong_options_and_data_without_captions_are_refused(
    tiny_backbone: Backbone, tiny_dataset: Dataset
) -> None:
    with pytest.raises(ValidationError, match="need the small model"):
        InstructCIRLiteConfig(model="x", anchor=1.0)
    with pytest.raises(ValidationError, match="use dtype: float32"):
        InstructCIRLiteConfig(model="x", tune="full", dtype="float16")
    with pytest.raises(ValidationError, match="give anchor: 0"):
        InstructCIRLiteConfig(image_states="patches")
    task = tiny_dataset.task("composed")
    pairs = training_pairs(task, task.training().queries)
    with pytest.raises(DataError, match=r"48 of 48 training pairs have none.*descriptions"):
        lite(tiny_backbone).begin_training(lesson(task, pairs, {}))


def test_a_resnet_is_refused() -> None:
    backbone = load_backbone(BackboneSpec(model="RN50", random_seed=0))
    with pytest.raises(ValueError, match="plain ViT"):
        small_llava(backbone)


@pytest.mark.slow
def test_ranks_and_zero_stages_give_the_losses_of_one_rank(tmp_path: Path) -> None:
    """Both stages: the cell trains its stage 1 in place."""
    build_dataset(DescribedRecipe(), tmp_path / "tiny")
    recipe = {"schedule": "constant", "steps": 4, "lr": 0.01, "batch_size": 5}
    entry = {"name": "instructcir-lite", "training": recipe, "stage_training": recipe}
    study = {"datasets": ["tiny/composed"], "source": "tiny/image-text", "methods": [entry]}
    cells = tiny_cells(tmp_path, tmp_path / "cache", training={}, **study)
    assert [cell.stage for cell in cells] == [True, False]
    ways = [(1, 0), (2, 2), (2, 3)]
    records = [run_on_ranks(cells[1:], ranks, stage, tmp_path)[0] for ranks, stage in ways]
    expected = [value for _, value in records[0]["loss_curve"]]
    assert len(expected) == 4
    for record in records[1:]:
        assert [v for _, v in record["loss_curve"]] == pytest.approx(expected, rel=1e-5)
        assert record["metrics"] == pytest.approx(records[0]["metrics"])


def _share(engine: Engine, given: list[Tensor]) -> tuple[float, list[Tensor]]:
    """This rank's loss of its rows, and the gradients of its rows (mean over ranks)."""
    size = -(-len(given[0]) // engine.world_size)
    rows = slice(engine.rank * size, (engine.rank + 1) * size)
    own = [tensor[rows].clone() for tensor in given]
    leaves = [tensor.requires_grad_() for tensor in own[:3]]
    value = instruction_loss(*leaves, *own[3:], tau=0.05)  # type: ignore[call-arg,arg-type]
    value.backward()
    return float(value.detach()), [
        leaf.grad / engine.world_size for leaf in leaves if leaf.grad is not None
    ]


@pytest.mark.slow
def test_the_loss_and_its_gradients_are_those_of_the_whole_batch_on_two_ranks(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    z = [nn.functional.normalize(torch.randn(6, 8), dim=-1) for _ in range(3)]
    ids = [torch.tensor([0, 1, 2, 1, 3, 4]), torch.tensor([4, 0, 5, 6, 3, 0])]
    given = [*z, *ids, torch.tensor([1.0, 1, 1, 1, 1, 0])]
    value, grads = _share(Engine(), given)
    found = on_ranks(_share, 2, tmp_path, given)
    assert sum(loss for loss, _ in found) / 2 == pytest.approx(value, rel=1e-6)
    for number, grad in enumerate(grads):
        together = torch.cat([shares[number] for _, shares in found])
        torch.testing.assert_close(together, grad, rtol=1e-5, atol=1e-6)
