"""Pixels of images, decoded from the shards when they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from data_recipes.core.dataset import Dataset

KEPT_BYTES = 512 * 2**20  # of pixels that stay in memory, the last used ones


class Pixels:
    """Image ids -> transformed pixels (B, 3, H, W) float32 on a device."""

    def __init__(
        self, dataset: Dataset, transform: Callable[[Image.Image], Tensor], device: str
    ) -> None:
        self._dataset = dataset
        self._transform = transform
        self._device = device
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def at(self, ids: list[str]) -> Tensor:
        """Pixels of the images called `ids`."""
        absent = [i for i in dict.fromkeys(ids) if i not in self._kept]
        fresh = dict(zip(absent, map(self._transform, self._dataset.images(absent)), strict=True))
        batch = torch.stack([fresh[i] if i in fresh else self._kept[i] for i in ids])
        for name in dict.fromkeys(ids):
            self._kept[name] = fresh[name] if name in fresh else self._kept.pop(name)
        room = max(1, KEPT_BYTES // batch[0].nbytes)
        while len(self._kept) > room:
            self._kept.popitem(last=False)
        return batch.to(self._device)
