"""Pixels of images, decoded from the shards when they are asked for, in threads."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from bench.augment import crop_flip, generator
from bench.preprocess import Transform, preprocess
from data_recipes.core.dataset import Dataset
from data_recipes.core.images import decode
from data_recipes.core.spans import ahead

KEPT_BYTES = 256 * 2**20  # of pixels of one `Pixels` that stay in memory, the last used ones
DECODERS = 16  # threads at most
AHEAD = 64  # images decoded in advance

Look = Callable[[str, Image.Image], Tensor]


def looked_at(dataset: Dataset, ids: Iterable[str], look: Look) -> Iterator[tuple[str, Tensor]]:
    """(id, `look(id, image)`) of each image, in shard order; decoded in threads, ahead of use.

    Raises:
        DataError: an image is not in the shards, or cannot be read.
    """

    def one(found: tuple[str, bytes]) -> tuple[str, Tensor]:
        name, data = found
        image = decode(data, f"{dataset.folder}: image {name!r}")
        return name, look(name, dataset.pad(image))

    threads = min(DECODERS, torch.get_num_threads())
    return ahead(one, dataset.reader.stream(dict.fromkeys(ids)), threads, depth=AHEAD)


def whole(transform: Transform) -> Look:
    """A look: the image as it is, `raw` of `bench.preprocess`."""
    raw = preprocess(transform).raw
    return lambda _, image: raw(image)


def crops(transform: Transform, seed: int, numbers: Mapping[str, Sequence[Sequence[int]]]) -> Look:
    """A look: (n, ...) raw, one random crop for each of `numbers[id]` (`bench.augment`).

    The crop has the size that the transform makes, which then has only the normalisation to do.
    """
    height, width = transform(Image.new("RGB", (8, 8))).shape[1:]
    raw = preprocess(transform).raw

    def look(name: str, image: Image.Image) -> Tensor:
        cuts = (
            crop_flip(image, (width, height), generator(seed, name, *which))
            for which in numbers[name]
        )
        return torch.stack([raw(cut) for cut in cuts])

    return look


class Pixels:
    """Image ids -> transformed pixels (B, 3, H, W) float32 on a device.

    transform: of the backbone, or a method's own.
    """

    def __init__(self, dataset: Dataset, transform: Transform, device: str) -> None:
        self._dataset = dataset
        self._transform = transform
        self._device = device
        self._kept: OrderedDict[str, Tensor] = OrderedDict()  # raw

    def at(self, ids: Sequence[str]) -> Tensor:
        """Pixels of the images called `ids`; those used last stay in memory."""
        absent = [i for i in ids if i not in self._kept]
        fresh = dict(looked_at(self._dataset, absent, whole(self._transform)))
        batch = torch.stack([fresh[i] if i in fresh else self._kept[i] for i in ids])
        for name in dict.fromkeys(ids):
            self._kept[name] = fresh[name] if name in fresh else self._kept.pop(name)
        room = max(1, KEPT_BYTES // batch[0].nbytes)
        while len(self._kept) > room:
            self._kept.popitem(last=False)
        return preprocess(self._transform).pixels(batch, self._device)

    def crops(self, ids: Sequence[str], seed: int, numbers: Sequence[Sequence[int]]) -> Tensor:
        """A random crop of each image; `numbers`, one for each of `ids`, say which. Not kept."""
        wanted: dict[str, list[Sequence[int]]] = defaultdict(list)
        for name, which in zip(ids, numbers, strict=True):
            wanted[name].append(which)
        found = looked_at(self._dataset, wanted, crops(self._transform, seed, wanted))
        fresh = {name: iter(looks) for name, looks in found}
        batch = torch.stack([next(fresh[name]) for name in ids])
        return preprocess(self._transform).pixels(batch, self._device)
