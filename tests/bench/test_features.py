"""Frozen features: right rows, computed once, damage noticed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import features
from bench.features import image_features
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import Dataset, open_dataset
from data_recipes.core.images import RawImage
from data_recipes.core.model import DataError
from methods.core.backbone import Backbone
from tests.tiny import TinyConfig, TinyRecipe


class Backwards(TinyRecipe):
    """The tiny recipe with its pictures in reverse order; its digest is the same."""

    def images(self) -> Iterator[RawImage]:
        yield from reversed(list(super().images()))


def expected(dataset: Dataset, backbone: Backbone, image_id: str) -> torch.Tensor:
    (image,) = dataset.reader.images([image_id])
    assert isinstance(image, Image.Image)
    return backbone.encode_pixels(backbone.transform(image)[None])[0]


def test_every_row_is_its_images_feature(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    found = image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert found.features.dtype == torch.float32
    assert found.features.norm(dim=1).tolist() == pytest.approx([1.0] * 24)
    ids = list(tiny_dataset.reader.index)
    for image_id in reversed(ids):
        torch.testing.assert_close(
            found.at([image_id])[0], expected(tiny_dataset, tiny_backbone, image_id)
        )
    torch.testing.assert_close(found.at(ids[:3])[2], found.at([ids[2]])[0])


def test_batches_do_not_change_features(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = image_features(tiny_dataset, tiny_backbone, tmp_path / "a")
    monkeypatch.setattr(features, "BATCH", 5)
    cut = image_features(tiny_dataset, tiny_backbone, tmp_path / "b")
    assert whole.row == cut.row
    torch.testing.assert_close(whole.features, cut.features)


def test_the_second_call_reads_the_file(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = image_features(tiny_dataset, tiny_backbone, tmp_path)
    monkeypatch.delattr(features, "_compute")
    again = image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert torch.equal(first.features, again.features)
    assert len(list(tmp_path.iterdir())) == 1  # and no temporary file


def test_each_dataset_has_its_own_file(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    build_dataset(TinyRecipe(TinyConfig(size=20)), tmp_path / "tiny")
    image_features(tiny_dataset, tiny_backbone, tmp_path / "cache")
    image_features(open_dataset(tmp_path / "tiny"), tiny_backbone, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_dataset_built_in_another_order_shares_the_file_rightly(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    build_dataset(Backwards(), tmp_path / "tiny")
    backwards = open_dataset(tmp_path / "tiny")
    assert backwards.manifest.digest == tiny_dataset.manifest.digest
    image_features(tiny_dataset, tiny_backbone, tmp_path / "cache")
    found = image_features(backwards, tiny_backbone, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    for image_id in ("train/red.0", "test/grey.1"):
        torch.testing.assert_close(
            found.at([image_id])[0], expected(tiny_dataset, tiny_backbone, image_id)
        )


def test_the_cut_into_shards_changes_no_bit(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "BATCH", 7)  # no multiple of either number of images a shard
    build_dataset(TinyRecipe(), tmp_path / "tiny", per_shard=11)
    other = open_dataset(tmp_path / "tiny")
    assert len(other.manifest.shards) == 3 and len(tiny_dataset.manifest.shards) == 5
    found = [
        image_features(dataset, tiny_backbone, tmp_path / str(number))
        for number, dataset in enumerate((tiny_dataset, other))
    ]
    assert torch.equal(found[0].features, found[1].features)


def test_an_unreadable_image_is_named(
    tiny_data: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_data / "tiny", tmp_path / "tiny"))
    dataset = open_dataset(folder)
    shard, offset, size = dataset.reader.index["train/blue.1"]
    data = bytearray((folder / shard).read_bytes())
    data[offset : offset + size] = bytes(size)
    (folder / shard).write_bytes(data)
    with pytest.raises(DataError, match=r"tiny: image 'train/blue\.1': not a readable image"):
        image_features(dataset, tiny_backbone, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["shape", "cut", "empty"])
def test_a_damaged_file_is_refused_with_the_way_out(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path, damage: str
) -> None:
    image_features(tiny_dataset, tiny_backbone, tmp_path)
    (path,) = tmp_path.iterdir()
    if damage == "shape":
        np.save(path, np.zeros((23, 16), np.float32))
    else:
        os.truncate(path, 200 if damage == "cut" else 0)
    with pytest.raises(ValueError, match="delete the file and run again") as caught:
        image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert str(caught.value).startswith(str(path))


def test_nothing_is_left_behind_when_writing_fails(
    tiny_dataset: Dataset,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(features.np, "save", full)
    with pytest.raises(OSError, match="no space left"):
        image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert list(tmp_path.iterdir()) == []
