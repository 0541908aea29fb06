"""DCAR: token weights, category loss, prompts in both towers, and a cell on one and two ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bench.batches import Dealt
from bench.cell import run_cell
from bench.learn import lesson, training_batches, training_pairs
from bench.pixels import Pixels
from bench.train import Engine
from data_recipes.core.dataset import Dataset
from methods.core import losses
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import Batch, Lesson, TaskInfo, TrainBatch
from methods.core.text_tower import TextTower
from methods.dcar import DCAR, DCARConfig, category_loss, token_weights
from tests.cells import run_on_ranks, tiny_cells

CAPTIONS = ("a red square", "a man farmer with light skin tone", "a cook")
CLASSES = ("square", "farmer", "cook")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def dcar(backbone: Backbone, **options: Any) -> DCAR:
    torch.manual_seed(1)
    return DCAR(DCARConfig.model_validate(options), backbone, TaskInfo("image_text"))


def studied(method: DCAR) -> DCAR:
    method.begin_training(Lesson(CAPTIONS, CLASSES, ((),) * 3, ((),) * 3))
    return method


def pairs(pixels: Tensor | None = None, **fields: Any) -> TrainBatch:
    torch.manual_seed(2)
    values: dict[str, Any] = {
        "queries": Batch(images=torch.randn(3, 3, 64, 64) if pixels is None else pixels),
        "candidates": Batch(texts=CAPTIONS),
        "target": torch.arange(3),
        "weight": torch.ones(3),
        "row": torch.arange(3),
        "image_id": torch.arange(3),
        **fields,
    }
    return TrainBatch(**values)


def test_image_prompts_start_near_a_blank_images_patches_and_change_little(
    backbone: Backbone,
) -> None:
    pixels = torch.rand(8, 3, 64, 64)
    frozen = backbone.encode_pixels(pixels)
    with torch.no_grad():
        near = {kind: dcar(backbone, image_init=kind).image(pixels) for kind in ("blank", "random")}
        states = backbone.vision.patch_states(torch.zeros(1, 3, 64, 64))
        prompts = dcar(backbone).prompts()[1]
    similarity = {kind: float((frozen * found).sum(dim=1).min()) for kind, found in near.items()}
    assert similarity["blank"] > max(0.95, similarity["random"])
    assert float((prompts - states[:3, None]).norm(dim=-1).max()) < 0.5


def test_mean1_weights_by_hand() -> None:
    raw = torch.tensor([[9.0, 0.01, 0.02, 0.09, 9.0]])
    content = torch.tensor([[False, True, True, True, False]])
    found = token_weights(raw, content, DCARConfig(), 100.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5, 0.5, 2.0, 1.0]]))
    wide = DCARConfig(w_min=0.0, w_max=9.0)
    expected = torch.tensor([[1.0, 0.25, 0.5, 2.25, 1.0]])
    torch.testing.assert_close(token_weights(raw, content, wide, 100.0), expected)
    softmax = token_weights(raw, content, DCARConfig(w_norm="softmax", w_max=9.0, w_min=0.0), 100.0)
    own = torch.tensor([[1.0, 2.0, 9.0]]).softmax(dim=-1) * 3
    torch.testing.assert_close(softmax[:, 1:4], own)
    none = token_weights(raw, content, DCARConfig(w_norm="none"), 100.0)
    torch.testing.assert_close(none, torch.tensor([[1.0, 0.01, 0.02, 0.09, 1.0]]))


@pytest.mark.parametrize("norm", ["mean1", "softmax", "none"])
@pytest.mark.parametrize("blank", ["mean", "black"])
def test_a_blank_image_has_no_raw_weights_and_falls_back_to_1(
    backbone: Backbone, norm: str, blank: str
) -> None:
    method = studied(dcar(backbone, w_norm=norm, blank=blank))
    assert method._study is not None
    pixels = torch.randn(3, 3, 64, 64)
    pixels[1] = 0.0 if blank == "mean" else -2.0  # black under mean 0.5, std 0.25
    weights = method._token_weights(method._study, [0, 1, 2], pixels, CAPTIONS)
    assert torch.equal(weights[1], torch.ones_like(weights[1]))
    assert float((weights[0] - 1).abs().max()) > 0.01 < float((weights[2] - 1).abs().max())


def test_token_weights_are_the_change_in_similarity_kept_by_row(backbone: Backbone) -> None:
    method = studied(dcar(backbone, w_norm="none"))
    study = method._study
    assert study is not None
    pixels = torch.randn(3, 3, 64, 64)
    found = method._token_weights(study, [0, 1, 2], pixels, CAPTIONS)
    tower = backbone.text
    ids = tower.tokenize([CAPTIONS[1]])
    end = int(tower.end(ids))
    tokens = tower.token_features(ids)[0, 1:end]
    image, blank = backbone.encode_pixels(torch.stack([pixels[1], torch.zeros(3, 64, 64)]))
    torch.testing.assert_close(found[1, 1:end], (tokens @ blank - tokens @ image).abs())
    assert torch.equal(found[1, end:], torch.ones_like(found[1, end:]))
    assert float(found[1, 0]) == 1.0 and not found.requires_grad
    kept = method._token_weights(study, [2, 1], pixels[:2] * 7, (CAPTIONS[2], CAPTIONS[1]))
    assert torch.equal(kept[1], found[1, : kept.shape[1]])  # not computed again
    method.end_training()
    assert method._study is None


def test_category_loss_by_hand_and_plain_at_alpha_0() -> None:
    logits = torch.tensor([[3.0, 2.0, -1.0], [1.0, 2.0, 0.5]])
    same = torch.tensor([[True, False, True], [True, True, False]])
    there = torch.tensor([[True, True, True], [True, True, False]])
    found = category_loss(logits, same, there, 0.5)
    first = torch.tensor([4.5, 2.0, -1.5]).log_softmax(dim=0)[0]
    second = torch.tensor([1.5, 3.0]).log_softmax(dim=0)[0]
    torch.testing.assert_close(found, -torch.stack([first, second]))
    plain = category_loss(logits, same, torch.ones_like(same), 0.0)
    target = torch.zeros(2, dtype=torch.long)
    expected = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(plain, expected)
    alone = torch.tensor([[True, False, False]])
    assert float(category_loss(logits[:1], same[:1], alone, 0.5)) == 0.0


@pytest.mark.parametrize("loss", ["weighted", "weighted-logsoftmax"])
def test_at_alpha_0_l_cate_is_info_nce_over_the_caption_and_its_negatives(
    backbone: Backbone, loss: str
) -> None:
    method = studied(dcar(backbone, alpha=0.0, cate_loss=loss, reweight=False))
    batch = pairs()
    whole = method.loss(batch)
    assert method._study is not None and batch.queries.images is not None
    image, text = method.image(batch.queries.images), method.text(CAPTIONS)
    scale, ids = backbone.logit_scale, torch.arange(3)
    con = losses.info_nce(image, text, ids, batch.weight, scale)
    con = (con + losses.info_nce(text, image, ids, batch.weight, scale)) / 2
    rows = []
    for row, caption in enumerate(CAPTIONS):
        made = method._negatives(method._study, row, caption, 0)
        assert 0 < len(made) <= 4
        logits = scale * image[row] @ method.text([caption, *(one.text for one in made)]).T
        rows.append(-logits.log_softmax(dim=0)[0])
    torch.testing.assert_close(whole - con, torch.stack(rows).mean(), rtol=1e-4, atol=1e-5)


def test_the_factor_1_plus_alpha_is_all_that_tells_the_two_readings_apart(
    backbone: Backbone,
) -> None:
    values = {}
    for loss in ("weighted", "weighted-logsoftmax"):
        for weight in (0.0, 1.0):
            method = studied(dcar(backbone, alpha=0.5, cate_loss=loss, cate_weight=weight))
            values[loss, weight] = float(method.loss(pairs()).detach())
    assert values["weighted", 0.0] == values["weighted-logsoftmax", 0.0]
    plain = values["weighted", 1.0] - values["weighted", 0.0]
    more = values["weighted-logsoftmax", 1.0] - values["weighted", 0.0]
    assert plain > 0 and abs(more / plain - 1.5) < 1e-3


def test_prompts_of_both_towers_and_the_module_move_and_the_backbone_does_not(
    backbone: Backbone,
) -> None:
    frozen = {k: v.clone() for k, v in backbone.model.state_dict().items()}
    method = studied(dcar(backbone))
    before = {k: v.clone() for k, v in method.state_dict().items()}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    with torch.no_grad():
        images, texts = method.image(pairs().queries.images), method.text(CAPTIONS)  # type: ignore[arg-type]
    for _ in range(2):
        optimizer.zero_grad()
        method.loss(pairs()).backward()
        optimizer.step()
    moved = {k for k, v in method.state_dict().items() if not torch.equal(before[k], v)}
    assert moved == set(before) and "prompts.to_image.2.weight" in moved
    with torch.no_grad():
        assert not torch.equal(images, method.image(pairs().queries.images))  # type: ignore[arg-type]
        assert not torch.equal(texts, method.text(CAPTIONS))
    assert all(torch.equal(frozen[k], v) for k, v in backbone.model.state_dict().items())


def test_equal_captions_are_no_negatives_of_each_other(backbone: Backbone) -> None:
    def loss(texts: tuple[str, ...]) -> float:
        method = dcar(backbone, reweight=False, cate_weight=0.0)
        method.begin_training(Lesson(texts, CLASSES, ((),) * 3, ((),) * 3))
        return float(method.loss(pairs(candidates=Batch(texts=texts))).detach())

    twice = (CAPTIONS[0], CAPTIONS[0], CAPTIONS[2])
    method = dcar(backbone)
    image = method.image(pairs().queries.images)  # type: ignore[arg-type]
    text = method.text(twice)
    logits = backbone.logit_scale * image @ text.T
    logits[0, 1] = logits[1, 0] = float("-inf")
    there = -logits.log_softmax(dim=1).diagonal().mean()
    back = -logits.log_softmax(dim=0).diagonal().mean()
    assert abs(loss(twice) - float((there + back).detach() / 2)) < 1e-4


def test_a_caption_as_the_query_is_the_same_pair(backbone: Backbone) -> None:
    method, batch = studied(dcar(backbone)), pairs()
    turned = pairs(queries=batch.candidates, candidates=batch.queries)
    torch.testing.assert_close(method.loss(turned), method.loss(batch))
    with pytest.raises(ValueError, match="pairs of an image and a caption"):
        method.loss(pairs(queries=Batch(texts=CAPTIONS)))


def test_negatives_are_drawn_anew_only_when_asked(backbone: Backbone) -> None:
    cook = {"swapped": 0, "altered": 1, "reweight": False}
    for fresh in (False, True):
        method = studied(dcar(backbone, fresh=fresh, **cook))
        values = {round(float(method.loss(pairs(epoch=n)).detach()), 4) for n in range(4)}
        assert (len(values) > 1) is fresh


@pytest.mark.parametrize("fresh", [False, True])
def test_frozen_captions_are_encoded_once_and_give_the_same_loss(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    method = studied(dcar(backbone, cate_text="frozen", fresh=fresh))
    encoded: list[str] = []
    encode = TextTower.encode_texts

    def counted(tower: TextTower, texts: list[str]) -> Tensor:
        encoded.extend(texts)
        return encode(tower, texts)

    monkeypatch.setattr(TextTower, "encode_texts", counted)
    values = [float(method.loss(pairs()).detach()) for _ in range(3)]
    assert values[0] == values[1] == values[2]
    assert encoded.count(CAPTIONS[0]) == (3 if fresh else 1)
    again = studied(dcar(backbone, cate_text="frozen", fresh=fresh))
    assert float(again.loss(pairs()).detach()) == values[0]


@pytest.mark.parametrize("text", ["prompted", "frozen"])
def test_captions_without_any_negative_are_learned_from_all_the_same(
    backbone: Backbone, text: str
) -> None:
    method = dcar(backbone, cate_text=text)
    plain = ("a thing", "an object", "a place")
    method.begin_training(Lesson(plain, ("",) * 3, ((),) * 3, ((),) * 3))
    loss = method.loss(pairs(candidates=Batch(texts=plain)))
    con = dcar(backbone, cate_weight=0.0)
    con.begin_training(Lesson(plain, ("",) * 3, ((),) * 3, ((),) * 3))
    torch.testing.assert_close(loss, con.loss(pairs(candidates=Batch(texts=plain))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ctx": 0}, "greater than 0"),
        ({"w_norm": "mean"}, "'mean1', 'softmax' or 'none'"),
        ({"w_min": 3.0}, "w_min 3.0 is above w_max 2.0"),
        ({"alpha": -0.1}, "greater than or equal to 0"),
        ({"cate_loss": "plain"}, "'weighted' or 'weighted-logsoftmax'"),
        ({"k": 4}, "Extra inputs"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DCARConfig.model_validate(options)


def test_a_resnet_is_refused_with_the_way_out() -> None:
    resnet = load_backbone(BackboneSpec(model="RN50-quickgelu", random_seed=0))
    with pytest.raises(ValueError, match=r"ModifiedResNet|ViT-B-32-quickgelu"):
        dcar(resnet)


def test_the_loss_over_the_tiny_world_falls(tiny_dataset: Dataset, tiny_backbone: Backbone) -> None:
    task = tiny_dataset.task("image-text")
    method = dcar(tiny_backbone, fresh=True)
    rows = training_pairs(task, task.training().queries)
    method.begin_training(lesson(task, rows, {}))
    images = Pixels(tiny_dataset, method.transform, "cpu").at
    batch = training_batches(method, task, rows, images, 1, Engine())
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.01)
    values = []
    for epoch in range(8):
        dealt = Dealt(torch.arange(16).numpy(), torch.ones(16).numpy(), 1.0, epoch)
        loss = method.loss(batch(dealt))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.8 * values[0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
def test_a_cell_is_the_same_on_two_ranks(stage: int, tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(
        tiny_data,
        tmp_path / "cache",
        datasets=["tiny/image-text"],
        methods=[{"name": "dcar", "config": {"fresh": True}}],
    )
    alone = run_cell(cells[0])
    assert alone is not None
    shared = run_on_ranks(cells, 2, stage, tmp_path)[0]
    curve = [value for _, value in alone.record["loss_curve"]]
    assert [value for _, value in shared["loss_curve"]] == pytest.approx(curve, abs=1e-5)
    assert shared["metrics"] == pytest.approx(alone.record["metrics"], abs=1e-5)
