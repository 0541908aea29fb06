"""Training on crops: fresh ones for methods on pixels, cached ones for the others, on any ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import features as features_module
from bench.batches import Dealt
from bench.cell import run_cell
from bench.features import view_features
from bench.learn import learn, training_batches, training_pairs
from bench.loaded import Data, Inputs
from bench.preprocess import preprocess
from bench.score import score
from bench.train import Engine
from bench.views import query_view, view_of
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import DataError, Query, TaskKind
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Method, TaskInfo
from tests.cells import QUICK, run_on_ranks, tiny_cells
from tests.ranks import on_ranks
from tests.tiny import TINY_SPEC

CROPS: dict[str, Any] = {**QUICK, "augment": "crop-flip", "views": 3}
RECIPE = Training(schedule="constant", steps=12, lr=0.05, batch_size=5, augment="crop-flip")
NOTE = (
    "trained on 3 cached augmented views of each image: an approximation of a fresh crop in "
    "every epoch"
)


class Offset(Method):
    """Reads pixels; learns a vector that is added to the frozen features of images."""

    name = "offset"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "composed"})
    pixels = True

    def __init__(self, config: MethodConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.offset = nn.Parameter(torch.zeros(backbone.dim))

    def image(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 32, 32)
        found = self.backbone.encode_pixels(images) + self.offset
        return nn.functional.normalize(found, dim=-1)

    def text(self, texts: Sequence[str]) -> Tensor:
        return self.backbone.text.encode_texts(texts)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return self.image(images)


def tiny(folder: str, digest: str, weights: str, cache: str, task: str, engine: Engine) -> Data:
    return Inputs(TINY_SPEC, weights, folder, cache, engine).data("tiny", digest, task)


@pytest.fixture
def where(
    tiny_data: Path, tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> tuple[str, str, str, str]:
    """The first arguments of `tiny`."""
    digest = tiny_dataset.manifest.digest
    return str(tiny_data), digest, tiny_backbone.digest, str(tmp_path / "cache")


def build(kind: type[Method], data: Data) -> Method:
    info = TaskInfo(data.task.kind, data.task.class_names)
    backbone = data.inputs.backbone()  # the first call draws its random weights
    torch.manual_seed(1)
    return kind(kind.Config(), backbone, info)


def learned(engine: Engine, where: tuple[str, str, str, str], kind: str) -> dict[str, Any]:
    """A method trained on crops of two shots a class: its loss curve, notes and weights."""
    data = tiny(*where, "classification", engine)
    method = build({"offset": Offset, "coop": CoOp}[kind], data)
    curve, notes = learn(method, RECIPE, data, 2, 1, engine)
    return {"curve": curve, "notes": notes, "weights": method.learned()}


def dealt(rows: Sequence[int], epoch: int) -> Dealt:
    return Dealt(np.array(rows), np.ones(len(rows), np.float32), 1.0, epoch)


def test_views_are_crops_encoded_once_for_the_images_asked_for(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = ["train/red.1", "test/blue.0", "train/grey.3"]
    found = view_features(tiny_dataset, tiny_backbone, tmp_path, [*ids, ids[0]], 5, 4)
    assert found.features.shape == (3, 4, tiny_backbone.dim)
    pixels = features_module.crops(tiny_backbone.transform, 5, {i: [(2,)] for i in ids})
    for name in ids:
        (image,) = tiny_dataset.images([name])
        batch = preprocess(tiny_backbone.transform).pixels(pixels(name, image), "cpu")
        expected = tiny_backbone.encode_pixels(batch)
        torch.testing.assert_close(found.at([name], [2]), expected)
    for first in range(4):
        for other in range(first):
            same = (found.features[:, first] * found.features[:, other]).sum(dim=-1)
            assert float(same.max()) < 1 - 1e-5
    other_seed = view_features(tiny_dataset, tiny_backbone, tmp_path, ids, 6, 4)
    assert not torch.allclose(found.features, other_seed.features)
    monkeypatch.delattr(features_module, "_compute")
    again = view_features(tiny_dataset, tiny_backbone, tmp_path, reversed(ids), 5, 4)
    assert torch.equal(found.features, again.features) and found.row == again.row
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_batches_do_not_change_views(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(tiny_dataset.reader.index)
    whole = view_features(tiny_dataset, tiny_backbone, tmp_path / "a", ids, 1, 3)
    monkeypatch.setattr(features_module, "BATCH", 2)  # less than one image's views
    cut = view_features(tiny_dataset, tiny_backbone, tmp_path / "b", ids, 1, 3)
    torch.testing.assert_close(whole.features, cut.features)


def test_every_row_sees_every_view_in_turn() -> None:
    for row in range(5):
        assert sorted(view_of(epoch, row, 4) for epoch in range(4)) == [0, 1, 2, 3]
    assert view_of(0, 0, 4) != view_of(0, 1, 4)


def test_a_method_on_features_trains_on_cached_views(where: tuple[str, str, str, str]) -> None:
    data = tiny(*where, "classification", Engine())
    method = build(CoOp, data)
    pairs = training_pairs(data.task, data.task.training().queries[:6])
    queries = [query for query, _ in pairs]
    names = [query.image or "" for query in queries]
    view, notes = query_view(method, Training(augment="crop-flip", views=3), data, queries, 1)
    assert notes == [NOTE]
    plain, none = query_view(method, Training(), data, queries, 1)
    assert none == []
    kept = data.views(names, 1, 3)
    for epoch in (0, 1, 7):
        rows = [4, 0, 3]
        asked = [names[row] for row in rows]
        expected = [kept.at([names[row]], [view_of(epoch, row, 3)])[0] for row in rows]
        assert torch.equal(view(dealt(rows, epoch))(asked), torch.stack(expected))
        whole = plain(dealt(rows, epoch))(asked)
        assert torch.equal(whole, data.images(method)(asked))
    assert len(list(Path(where[3]).glob("*.npy"))) == 2  # the views of six images, and all features


def test_a_method_on_pixels_trains_on_a_fresh_crop_of_every_row_and_epoch(
    where: tuple[str, str, str, str],
) -> None:
    data = tiny(*where, "composed", Engine())
    method = build(Offset, data)
    pairs = training_pairs(data.task, data.task.training().queries[:6])
    queries = [query for query, _ in pairs]
    name = queries[0].image or ""
    assert queries[1].image == name  # two rows with one reference
    view, notes = query_view(method, RECIPE, data, queries, 1)
    assert notes == ["trained on a fresh crop of each image in every epoch"]
    looks = [*view(dealt([0, 1], 0))([name, name]), *view(dealt([1], 1))([name])]
    assert len({look.numpy().tobytes() for look in looks}) == 3
    assert torch.equal(view(dealt([1, 0], 0))([name, name])[1], looks[0])


def test_training_on_pixels_learns_and_scores(where: tuple[str, str, str, str]) -> None:
    data = tiny(*where, "classification", Engine())
    method = build(Offset, data)
    frozen = {k: v.clone() for k, v in data.inputs.backbone().model.state_dict().items()}
    curve, notes = learn(method, RECIPE, data, 2, 1, Engine())
    assert len(curve) == 12 and np.mean(curve[-3:]) < np.mean(curve[:3])
    assert "trained on a fresh crop of each image in every epoch" in notes
    found = score(method, data.task, data.images(method))
    assert found is not None and len(found.queries) == 8
    now = data.inputs.backbone().model.state_dict()
    assert all(torch.equal(frozen[k], now[k]) for k in frozen)


def test_targets_are_seen_whole(where: tuple[str, str, str, str]) -> None:
    """The candidates of a composed batch are the plain images, whatever the recipe augments."""
    data = tiny(*where, "composed", Engine())
    method = build(Offset, data)
    pairs = training_pairs(data.task, data.task.training().queries[:4])
    view, _ = query_view(method, RECIPE, data, [query for query, _ in pairs], 1)
    images = data.images(method)
    batch = training_batches(method, data.task, pairs, images, 1, Engine(), view)(
        dealt(range(4), 0)
    )
    targets = images([candidate.image or "" for _, candidate in pairs])
    references = images([query.image or "" for query, _ in pairs])
    assert batch.candidates.images is not None and batch.queries.images is not None
    assert torch.equal(batch.candidates.images, targets)
    assert not torch.isclose(batch.queries.images, references).all()


def test_the_record_says_that_views_are_an_approximation(tiny_data: Path, tmp_path: Path) -> None:
    cells = [
        *tiny_cells(tiny_data, tmp_path, training=CROPS),
        *tiny_cells(tiny_data, tmp_path, training={**CROPS, "augment": "none"}),
    ]
    results = [run_cell(cell) for cell in cells]
    records = [result.record for result in results if result]
    assert [NOTE in record["notes"] for record in records] == [True, False]
    assert records[0]["loss_curve"] != records[1]["loss_curve"]
    again = run_cell(cells[0])
    assert again is not None and again.record["loss_curve"] == records[0]["loss_curve"]
    assert cells[0].key != cells[1].key


def test_queries_without_images_cannot_be_augmented(where: tuple[str, str, str, str]) -> None:
    data = tiny(*where, "classification", Engine())
    method = CoOp(CoOpConfig(), data.inputs.backbone(), TaskInfo("image_text"))
    queries = [Query(id="q", text="a red square", relevant=("train/red.0",), group="red")]
    with pytest.raises(DataError, match=r"tiny: task 'classification' has .* use augment: none"):
        query_view(method, RECIPE, data, queries, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["offset", "coop"])
def test_two_ranks_see_the_crops_that_one_sees(
    where: tuple[str, str, str, str], tmp_path: Path, kind: str
) -> None:
    alone = learned(Engine(), where, kind)
    apart = (*where[:3], str(tmp_path / "another-cache"))
    for found in on_ranks(learned, 2, tmp_path, apart, kind):
        assert found["notes"] == alone["notes"]
        assert found["curve"] == pytest.approx(alone["curve"], abs=1e-5)
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(found["weights"][name], weight, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_cell_on_crops_gives_equal_numbers_on_two_ranks(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(
        tiny_data,
        tmp_path / "cache",
        datasets=["tiny/classification", "tiny/composed"],
        training=CROPS,
    )
    alone, together = (run_on_ranks(cells, ranks, 0, tmp_path) for ranks in (1, 2))
    for one, other in zip(alone, together, strict=True):
        assert other["metrics"] == one["metrics"] and NOTE in other["notes"]
        curves = [[value for _, value in record["loss_curve"]] for record in (one, other)]
        assert curves[0] == pytest.approx(curves[1], abs=1e-5)
