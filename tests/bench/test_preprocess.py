"""A transform in two halves gives the same bits as in one piece."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision import transforms

from bench.preprocess import Preprocess, preprocess
from methods.core.backbone import BackboneSpec, load_backbone


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return picture.convert(mode)


CONFIGS = {
    "clip": PreprocessCfg(size=48),
    "siglip": PreprocessCfg(
        size=32, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash", interpolation="bicubic"
    ),
    "longest": PreprocessCfg(size=40, resize_mode="longest", fill_color=128),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_both_halves_give_the_bits_of_the_whole(config: PreprocessCfg) -> None:
    whole = image_transform_v2(config, is_train=False)
    halves = Preprocess(whole)
    assert halves.halved
    pictures = [noise(*size) for size in ((64, 48), (31, 90), (48, 48), (7, 5))]
    raw = torch.stack([halves.raw(picture) for picture in pictures])
    assert raw.dtype == torch.uint8 and raw.shape[-1] == 3
    found = halves.pixels(raw, "cpu")
    assert torch.equal(found, torch.stack([whole(picture) for picture in pictures]))
    assert found.is_contiguous() and not torch.equal(found[0], found[1])
    assert raw.nbytes * 4 == found.nbytes


def test_every_byte_in_every_channel_is_equal() -> None:
    whole = load_backbone(BackboneSpec()).transform
    values = np.arange(64 * 64 * 3, dtype=np.int64).reshape(64, 64, 3) % 256
    picture = Image.fromarray(values.astype(np.uint8))
    halves = preprocess(whole)
    assert halves.halved and preprocess(whole) is halves
    assert torch.equal(halves.pixels(halves.raw(picture)[None], "cpu")[0], whole(picture))


def as_bytes(image: Image.Image) -> torch.Tensor:
    """No Compose: bytes that mean something of their own."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Dimmed(transforms.Normalize):
    """A Normalize that does more than its numbers say."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        dimmed: torch.Tensor = super().forward(tensor) * 0.5
        return dimmed


@pytest.mark.parametrize(
    "whole",
    [
        as_bytes,
        transforms.Compose([transforms.ToTensor()]),
        transforms.Compose([transforms.ToTensor(), Dimmed([0.5] * 3, [0.5] * 3)]),
    ],
)
def test_a_transform_of_another_kind_stays_whole(whole: transforms.Compose) -> None:
    halves = Preprocess(whole)
    assert not halves.halved
    picture = noise(9, 7)
    assert torch.equal(halves.raw(picture), whole(picture))
    assert torch.equal(halves.pixels(halves.raw(picture)[None], "cpu")[0], whole(picture))
