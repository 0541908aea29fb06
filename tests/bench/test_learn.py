"""From shots to batches: the images without labels that a method may ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.batches import deal
from bench.features import image_features
from bench.learn import learn, training_batches, training_pairs
from bench.loaded import Data, Inputs
from bench.train import Engine
from data_recipes.core.dataset import Dataset
from data_recipes.core.manifest import Missing
from data_recipes.core.model import DataError
from methods.core.backbone import Backbone
from methods.core.config import Training
from methods.core.contract import TaskInfo, TrainBatch
from methods.promptclip import PromptCLIP, PromptCLIPConfig
from tests.tiny import TINY_SPEC


def by_row(batches: list[TrainBatch], wanted: int) -> dict[int, list[int]]:
    """Row -> the ids of its images without labels, over the ranks' batches."""
    found: dict[int, list[int]] = {}
    for batch in batches:
        assert batch.unlabelled_id is not None
        ids = batch.unlabelled_id.view(-1, wanted)
        found |= dict(zip(batch.row.tolist(), ids.tolist(), strict=True))
    return found


@pytest.mark.parametrize("wanted", [1, 3])
def test_images_without_labels_are_equal_on_any_ranks(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path, wanted: int
) -> None:
    task = tiny_dataset.task("composed")
    features = image_features(tiny_dataset, tiny_backbone, tmp_path)
    config = PromptCLIPConfig(aux="unlabelled", aux_images=wanted)
    method = PromptCLIP(config, tiny_backbone, TaskInfo("composed"))
    pairs = training_pairs(task, task.training().queries[:7])
    make = training_batches(method, task, pairs, features.at, 1, Engine())

    def on(ranks: int, epoch: int) -> list[TrainBatch]:
        return [make(deal(np.arange(7), 1, rank, ranks, epoch)[0]) for rank in range(ranks)]

    alone = on(1, 0)
    assert by_row(alone, wanted) == by_row(on(2, 0), wanted) == by_row(on(3, 0), wanted)
    assert by_row(alone, wanted) != by_row(on(1, 1), wanted)
    names = task.training().image_ids()
    extra, ids = alone[0].unlabelled, alone[0].unlabelled_id
    assert extra is not None and extra.images is not None and ids is not None
    assert len(ids) == 7 * wanted
    assert torch.equal(extra.images, features.at([names[number] for number in ids.tolist()]))
    # On the same scale as the references' own ids.
    reference = alone[0].queries.images
    assert reference is not None
    own = [names[number] for number in alone[0].image_id.tolist()]
    assert torch.equal(reference, features.at(own))


def test_a_method_that_wants_none_gets_none(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    task = tiny_dataset.task("composed")
    features = image_features(tiny_dataset, tiny_backbone, tmp_path)
    method = PromptCLIP(PromptCLIPConfig(), tiny_backbone, TaskInfo("composed"))
    pairs = training_pairs(task, task.training().queries[:3])
    make = training_batches(method, task, pairs, features.at, 1, Engine())
    batch = make(deal(np.arange(3), 1, 0, 1)[0])
    assert batch.unlabelled is None and batch.unlabelled_id is None


@pytest.mark.parametrize(("aux", "shots"), [("shots", 4), ("unlabelled", 1)])
def test_a_missing_image_that_training_needs_is_named(
    tiny_data: Path,
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    aux: str,
    shots: int,
) -> None:
    task = tiny_dataset.task("composed")
    lost = Missing(id=task.training().image_ids()[-1], path=None, reason="not there")
    manifest = tiny_dataset.manifest.model_copy(update={"missing": [lost]})
    inputs = Inputs(TINY_SPEC, tiny_backbone.digest, "", str(tmp_path), Engine())
    data = Data(task, replace(tiny_dataset, manifest=manifest), str(tiny_data / "tiny"), inputs, {})
    config = PromptCLIPConfig.model_validate({"aux": aux})
    method = PromptCLIP(config, tiny_backbone, TaskInfo("composed"))
    with pytest.raises(DataError, match=rf"tiny: image '{lost.id}' is missing.*\(1 such"):
        learn(method, Training(schedule="constant", steps=1), data, shots, 1, Engine())
