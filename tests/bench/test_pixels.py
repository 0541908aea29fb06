"""Pixels from the shards: right, kept within bounds, shared only where the transform is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from bench import pixels as module
from bench.augment import crop_flip, generator
from bench.loaded import Inputs
from bench.pixels import Pixels
from bench.train import Engine
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import DataError
from methods.core.backbone import Backbone
from methods.core.contract import TaskInfo
from methods.zero_shot import ZeroShot, ZeroShotConfig
from tests.tiny import TINY_SPEC

IDS = ["train/red.1", "test/blue.0", "train/red.1", "train/grey.3"]


class Counted:
    """A transform that remembers what it saw."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform
        self.seen = 0

    def __call__(self, image: Image.Image) -> Tensor:
        self.seen += 1
        return self.transform(image)


def expected(dataset: Dataset, backbone: Backbone, ids: list[str]) -> Tensor:
    return torch.stack([backbone.transform(image) for image in dataset.images(ids)])


def test_pixels_are_the_transformed_images(tiny_dataset: Dataset, tiny_backbone: Backbone) -> None:
    found = Pixels(tiny_dataset, tiny_backbone.transform, "cpu").at(IDS)
    assert found.shape == (4, 3, 32, 32) and found.dtype == torch.float32
    assert torch.equal(found, expected(tiny_dataset, tiny_backbone, IDS))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(
    tiny_dataset: Dataset, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ids = sorted(tiny_dataset.reader.index, reverse=True)
    pixels = Pixels(tiny_dataset, tiny_backbone.transform, "cpu")
    assert torch.equal(pixels.at(ids), expected(tiny_dataset, tiny_backbone, ids))


def test_an_image_is_decoded_once_while_there_is_room(
    tiny_dataset: Dataset, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = Counted(tiny_backbone.transform)
    pixels = Pixels(tiny_dataset, transform, "cpu")
    pixels.at(IDS)
    assert transform.seen == 3  # one is named twice
    assert torch.equal(pixels.at(IDS[::-1]), expected(tiny_dataset, tiny_backbone, IDS[::-1]))
    assert transform.seen == 3
    monkeypatch.setattr(module, "KEPT_BYTES", 2 * 3 * 32 * 32 * 4)  # two images
    pixels.at(["train/red.0"])  # the least lately used go: of `IDS` reversed, grey.3 and red.1
    pixels.at(["test/blue.0", "train/red.0"])
    assert transform.seen == 4
    pixels.at(["train/grey.3"])
    assert transform.seen == 5 and len(pixels._kept) == 2


def test_a_batch_larger_than_the_room_is_whole(
    tiny_dataset: Dataset, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 1)
    pixels = Pixels(tiny_dataset, tiny_backbone.transform, "cpu")
    for _ in range(2):
        assert torch.equal(pixels.at(IDS), expected(tiny_dataset, tiny_backbone, IDS))
    assert len(pixels._kept) == 1


def test_crops_are_those_of_their_numbers(tiny_dataset: Dataset, tiny_backbone: Backbone) -> None:
    pixels = Pixels(tiny_dataset, tiny_backbone.transform, "cpu")
    numbers = [(0, 5), (0, 6), (1, 7), (0, 8)]
    found = pixels.crops(IDS, 3, numbers)
    assert found.shape == (4, 3, 32, 32)
    for row, (name, which) in enumerate(zip(IDS, numbers, strict=True)):
        (image,) = tiny_dataset.images([name])
        cut = crop_flip(image, (32, 32), generator(3, name, *which))
        assert torch.equal(found[row], tiny_backbone.transform(cut))
    assert not torch.equal(found[0], found[2])  # one image, two looks
    assert not torch.equal(found, pixels.crops(IDS, 4, numbers))
    assert not pixels._kept  # crops are never seen again


def test_an_unknown_image_is_named(tiny_dataset: Dataset, tiny_backbone: Backbone) -> None:
    with pytest.raises(DataError, match="'train/pink' is not in the shards"):
        Pixels(tiny_dataset, tiny_backbone.transform, "cpu").at(["train/pink"])


def test_cells_share_pixels_unless_a_method_has_a_transform_of_its_own(
    tiny_data: Path, tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    class Own(ZeroShot):
        """Sees its images inverted."""

        @property
        def transform(self) -> Callable[[Image.Image], Tensor]:
            return inverted

    def inverted(image: Image.Image) -> Tensor:
        return -backbone.transform(image)

    inputs = Inputs(TINY_SPEC, tiny_backbone.digest, str(tiny_data), str(tmp_path), Engine())
    backbone = inputs.backbone()
    data = [inputs.data("tiny", tiny_dataset.manifest.digest, "composed") for _ in range(2)]
    info = TaskInfo("image_text")
    method, other = (kind(ZeroShotConfig(), backbone, info) for kind in (ZeroShot, Own))
    assert data[0].pixels(method) is data[1].pixels(method)
    assert data[0].pixels(other) is not data[0].pixels(method)
    assert torch.equal(data[0].pixels(other).at(IDS), -data[0].pixels(method).at(IDS))
