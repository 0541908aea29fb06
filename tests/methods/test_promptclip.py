"""PromptCLIP: the sequence it builds, what it trains, its two losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bench.cell import run_cell
from bench.features import image_features
from bench.learn import lesson, training_batches, training_pairs
from bench.study import load_study
from bench.study_file import StudyError
from bench.train import Engine, train
from data_recipes.core.dataset import Dataset
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.config import Training
from methods.core.contract import Batch, TaskInfo, TrainBatch
from methods.promptclip import PromptCLIP, PromptCLIPConfig
from tests.cells import run_on_ranks, tiny_cells

TEXTS = ("with dark skin", "as a man", "")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def promptclip(backbone: Backbone, **options: Any) -> PromptCLIP:
    torch.manual_seed(1)
    config = PromptCLIPConfig.model_validate(options)
    return PromptCLIP(config, backbone, TaskInfo("composed")).eval()


def unit(rows: int, backbone: Backbone, seed: int = 0) -> Tensor:
    drawn = torch.randn(rows, backbone.dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=-1)


def batch_of(backbone: Backbone, rows: int = 4) -> TrainBatch:
    """Rows 0 and 1 share the reference, rows 1 and 2 the target."""
    references, targets = unit(rows, backbone), unit(rows, backbone, 1)
    references[1], targets[2] = references[0], targets[1]
    return TrainBatch(
        queries=Batch(references, [f"change {n}" for n in range(rows)]),
        candidates=Batch(targets),
        target=torch.tensor([0, 1, 1, 3][:rows]),
        weight=torch.ones(rows),
        row=torch.arange(rows),
        image_id=torch.tensor([0, 0, 2, 3][:rows]),
        unlabelled=Batch(unit(rows, backbone, 2)),
        unlabelled_id=torch.tensor([7, 7, 8, 9][:rows]),
    )


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("m", [1, 2])
def test_the_sequence_is_the_one_built_by_hand(backbone: Backbone, position: str, m: int) -> None:
    method, tower = promptclip(backbone, n_prompts=m, position=position), backbone.text
    images = unit(3, backbone)
    found = method.compose(images, TEXTS)
    assert found.shape == (3, backbone.dim) and found.dtype == torch.float32
    for row, text in enumerate(TEXTS):
        ids = tower.tokenize([text])
        end = int(tower.end(ids))
        words = tower.embed(ids)[0]
        prompts = method.phi(images[row]).reshape(m, tower.width)
        first = 1 if position == "before" else end
        sequence = torch.cat([words[:first], prompts, words[first : end + 1]])
        expected = tower.encode(sequence[None], torch.tensor([end + m]))
        torch.testing.assert_close(found[row : row + 1], expected, rtol=0, atol=1e-6)


def test_scaled_features_are_what_phi_reads(backbone: Backbone) -> None:
    plain, scaled = (promptclip(backbone, scaled=value) for value in (False, True))
    images = unit(2, backbone)
    found = scaled.compose(images, TEXTS[:2])
    torch.testing.assert_close(found, plain.compose(images * backbone.dim**0.5, TEXTS[:2]))
    assert not torch.allclose(found, plain.compose(images, TEXTS[:2]))


def test_the_query_changes_with_the_text_and_with_the_image(backbone: Backbone) -> None:
    method, images = promptclip(backbone), unit(2, backbone)
    one = method.query(Batch(images, ["as a man", "as a man"]))
    other = method.query(Batch(images, ["with dark skin", "with dark skin"]))
    assert float((one * other).sum(dim=-1).detach().max()) < 0.9999
    assert float((one[0] @ one[1]).detach()) < 0.9999
    assert torch.equal(method.candidate(Batch(images)), images)


@pytest.mark.parametrize("options", [{}, {"phi": "linear"}, {"aux": "unlabelled", "n_prompts": 3}])
def test_gradients_reach_only_phi(backbone: Backbone, options: dict[str, Any]) -> None:
    method = promptclip(backbone, **options)
    method.loss(batch_of(backbone)).backward()
    named = dict(method.named_parameters())
    assert named and all(name.startswith("phi.") for name in named)
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in named.values())
    assert all(p.grad is None for p in backbone.model.parameters())


def test_the_shapes_of_phi(backbone: Backbone) -> None:
    width = backbone.text.width
    mlp = [p.shape for p in promptclip(backbone, n_prompts=2, hidden=48).parameters()]
    assert mlp == [(48, 128), (48,), (48, 48), (48,), (2 * width, 48), (2 * width,)]
    assert [p.shape for p in promptclip(backbone, phi="linear").parameters()] == [
        (width, 128),
        (width,),
    ]


def nce(query: Tensor, candidate: Tensor, ids: list[int], scale: float) -> Tensor:
    """InfoNCE by a double loop; other rows with the same id are no negatives."""
    rows = []
    for i in range(len(ids)):
        others = [j for j in range(len(ids)) if j == i or ids[j] != ids[i]]
        logits = torch.stack([scale * query[i] @ candidate[j] for j in others])
        rows.append(torch.logsumexp(logits, 0) - scale * query[i] @ candidate[i])
    return torch.stack(rows).mean()


@pytest.mark.parametrize("aux", ["shots", "unlabelled", "none"])
@pytest.mark.parametrize("retrieval", [True, False])
def test_the_losses_are_their_definitions(backbone: Backbone, aux: str, retrieval: bool) -> None:
    if aux == "none" and not retrieval:
        return  # refused below
    method, batch = promptclip(backbone, aux=aux, retrieval=retrieval, aux_weight=0.3), None
    batch = batch_of(backbone)
    scale, references = backbone.logit_scale, unit(4, backbone)
    references[1] = references[0]
    expected = torch.zeros(())
    assert batch.candidates.images is not None and batch.queries.texts is not None
    if retrieval:
        query = method.compose(references, batch.queries.texts)
        expected = expected + nce(query, batch.candidates.images, [0, 1, 1, 3], scale)
    if aux == "shots":
        own = method.compose(references, [""] * 4)
        expected = expected + 0.3 * nce(own, references, [0, 0, 2, 3], scale)
    if aux == "unlabelled":
        images = unit(4, backbone, 2)
        own = method.compose(images, [""] * 4)
        expected = expected + 0.3 * nce(own, images, [7, 7, 8, 9], scale)
    assert method.unlabelled == (1 if aux == "unlabelled" else 0)
    torch.testing.assert_close(method.loss(batch), expected)


def test_several_unlabelled_images_a_triplet(backbone: Backbone) -> None:
    method = promptclip(backbone, aux="unlabelled", aux_images=2, retrieval=False)
    images = unit(4, backbone, 2)
    several = replace(
        batch_of(backbone),
        unlabelled=Batch(images),
        unlabelled_id=torch.tensor([7, 7, 8, 9]),
        weight=torch.tensor([1.0, 0.0]),
    )
    own = method.compose(images, [""] * 4)
    expected = nce(own[:2], images[:2], [5, 6], backbone.logit_scale)  # of row 0 alone
    same = replace(several, unlabelled_id=torch.tensor([5, 6, 8, 9]))
    assert method.unlabelled == 2
    torch.testing.assert_close(method.loss(same), expected)
    torch.testing.assert_close(method.loss(several), torch.zeros(()))  # no negative is left


def test_padding_rows_do_not_count(backbone: Backbone) -> None:
    method, batch = promptclip(backbone), batch_of(backbone)
    padded = TrainBatch(
        queries=Batch(unit(4, backbone).index_copy(0, torch.tensor([1]), unit(1, backbone)),
                      [*list(batch.queries.texts or [])[:3], "padding"]),
        candidates=batch.candidates,
        target=batch.target,
        weight=torch.tensor([1.0, 1.0, 1.0, 0.0]),
        row=batch.row,
        image_id=batch.image_id,
    )  # fmt: skip
    torch.testing.assert_close(method.loss(padded), method.loss(batch_of(backbone, 3)))


def test_an_image_learns_to_retrieve_itself(
    tiny_dataset: Dataset, backbone: Backbone, tmp_path: Path
) -> None:
    """With empty text and a heavy auxiliary loss, R@1 over the training images is near 100 %."""
    task = tiny_dataset.task("composed")
    features = image_features(tiny_dataset, backbone, tmp_path)
    method = promptclip(backbone, aux_weight=10, dropout=0.0)
    first = {query.image: query for query in task.training().queries}
    pairs = training_pairs(task, list(first.values()))  # one triplet of each image
    images = features.at([image for image in first if image])
    assert len(images) == 16

    def found() -> float:
        with torch.no_grad():
            nearest = (method.compose(images, [""] * len(images)) @ images.T).argmax(dim=1)
        return float((nearest == torch.arange(len(images))).float().mean())

    assert found() < 0.5
    batch = training_batches(method, task, pairs, features.at, 1, Engine())
    method.begin_training(lesson(task, pairs, {}))
    recipe = Training(**{**PromptCLIP.recipe.model_dump(), "steps": 180, "lr": 0.002})
    train(method, recipe, 1, len(pairs), batch, 1, Engine())
    method.eval()
    assert found() >= 0.95


def test_a_fixed_phi_is_training_free_and_says_so(tiny_data: Path, tmp_path: Path) -> None:
    entry = {"name": "promptclip", "config": {"phi": "fixed"}}
    (cell,) = tiny_cells(
        tiny_data, tmp_path, datasets=["tiny/composed"], methods=[entry], shots=[1, 2], seeds=[1, 2]
    )
    assert (cell.shots, cell.seed, cell.training) == (0, 0, None)
    result = run_cell(cell)
    assert result is not None
    record = result.record
    assert record["trainable_parameters"] == 0 and record["loss_curve"] == []
    assert "phi is random and never learns: one draw of it" in record["notes"]
    assert len(result.weights) == 6  # kept: nobody could draw them again otherwise


def test_a_recipe_for_a_fixed_phi_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: x\ndatasets: [tiny/composed]\nshots: [1]\nseeds: [1]\nmethods:\n"
        "  - {name: promptclip, config: {phi: fixed}, training: {steps: 3}}\n"
    )
    with pytest.raises(StudyError, match=r"methods\.0 \(promptclip\)\.training: .* nothing"):
        load_study(path, tiny_data)


def test_images_without_labels_are_a_remark_on_the_record(tiny_data: Path, tmp_path: Path) -> None:
    notes = []
    for aux in ("shots", "unlabelled"):
        entry = {"name": "promptclip", "config": {"aux": aux}}
        (cell,) = tiny_cells(tiny_data, tmp_path, datasets=["tiny/composed"], methods=[entry])
        result = run_cell(cell)
        assert result is not None
        notes.append([n for n in result.record["notes"] if "all images of the training split" in n])
    assert [len(found) for found in notes] == [0, 1]


def test_no_triplets_at_all(tiny_data: Path, tmp_path: Path) -> None:
    """Auxiliary only, learned on a source's images at 0 shots: no caption, no target."""
    entry = {"name": "promptclip", "config": {"retrieval": False, "dropout": 0.0}}
    (cell,) = tiny_cells(
        tiny_data,
        tmp_path,
        datasets=["tiny/composed"],
        methods=[entry],
        shots=[0],
        source="tiny/composed",
    )
    result = run_cell(cell)
    assert result is not None and result.record["loss_curve"][-1][1] < 5
    assert cell.shots == 0 and cell.trained_on is not None


def test_what_does_not_fit_is_refused(backbone: Backbone) -> None:
    method = promptclip(backbone, n_prompts=4)
    fits = " ".join(["man"] * 71)
    assert method.compose(unit(1, backbone), [fits]).shape == (1, backbone.dim)
    with pytest.raises(ValueError, match=r"4 prompts and the text 'man .* need 78 tokens; .* 77"):
        method.compose(unit(2, backbone), ["as a man", f"{fits} man"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retrieval": False, "aux": "none"}, "there is no loss"),
        ({"n_prompts": 0}, "greater than 0"),
        ({"aux_weight": 0.0}, "greater than 0"),
        ({"phi": "conv"}, "'mlp', 'linear' or 'fixed'"),
        ({"m": 1}, "Extra inputs"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PromptCLIPConfig.model_validate(options)


@pytest.mark.slow
def test_two_ranks_equal_one(tiny_data: Path, tmp_path: Path) -> None:
    """Dropout included; seven rows a batch, so that one rank is padded."""
    entries = [
        {"name": "promptclip", "label": aux, "config": {"aux": aux}}
        for aux in ("shots", "unlabelled")
    ]
    training = {"schedule": "constant", "steps": 5, "lr": 0.001, "batch_size": 7}
    cells = tiny_cells(
        tiny_data,
        tmp_path / "cache",
        datasets=["tiny/composed"],
        methods=entries,
        training=training,
    )
    alone, together = (run_on_ranks(cells, ranks, 0, tmp_path) for ranks in (1, 2))
    assert len(alone) == len(together) == 2
    for one, other in zip(alone, together, strict=True):
        assert other["metrics"] == one["metrics"]
        losses = [[value for _, value in record["loss_curve"]] for record in (one, other)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        assert losses[0][-1] < losses[0][0]
