"""Frozen image features: computed once per (encoder, dataset), kept as a memory-mapped file.

The encoder is the backbone (rows are unit-norm then) or a method's own. Rows are float32, sorted
by image id: a dataset's digest does not depend on the order of its images, so the file that is
shared under that digest must not either. `ViewFeatures` are the same of random crops, of the few
images that a cell learns from. The files are `bench.feature_store`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.feature_store import Array, Identity, Stored
from bench.gather import ALONE, gather, on_all_ranks
from bench.pixels import Look, crops, looked_at
from bench.preprocess import preprocess
from bench.train import Engine
from data_recipes.core import strict_json
from data_recipes.core.dataset import Dataset
from methods.core.contract import Encoder
from methods.core.device import moved

BATCH = 64
ROUND_S = 60.0  # that rank 0 waits for its turn before the others, who wait for it, hear of it


@dataclass(frozen=True)
class ImageFeatures:
    """features: (N, D) float32, memory-mapped or on a device. row: image id -> row."""

    features: Tensor
    row: dict[str, int]

    def at(self, ids: list[str]) -> Tensor:
        """Features (B, D) of the images called `ids`."""
        return self.features[_index([self.row[i] for i in ids], self.features)]


@dataclass(frozen=True)
class ViewFeatures:
    """features: (N, K, D) float32, of K random crops of each image. row: image id -> row."""

    features: Tensor
    row: dict[str, int]

    def at(self, ids: Sequence[str], views: Sequence[int]) -> Tensor:
        """Features (B, D) of one view of each of the images called `ids`."""
        rows = _index([self.row[i] for i in ids], self.features)
        return self.features[rows, _index(views, self.features)]


def _index(rows: Sequence[int], table: Tensor) -> Tensor:
    """Row numbers where the table is."""
    return moved(torch.tensor(rows, dtype=torch.long), table.device)


def image_features(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path,
    engine: Engine = ALONE,
    only: Collection[str] | None = None,
) -> ImageFeatures:
    """Features of all images of a dataset (or `only` of these ids), from `cache` or made there.

    With several ranks all call it, and each computes its share. Of processes that come at the same
    moment one computes and the others wait for its file.

    Raises:
        DataError: an image cannot be read, or the file is damaged.
        OtherRankError: another rank failed.
    """
    ids = sorted(dataset.reader.index if only is None else {*only} & dataset.reader.index.keys())

    raw = preprocess(encoder.transform).raw

    def look(_: str, image: Image.Image) -> Tensor:
        return raw(image)[None]

    identity = Identity(
        kind="images",
        encoder=encoder.digest,
        dataset=dataset.manifest.digest,
        transform="none",
        precision=precision_of(encoder),
        rows="all" if only is None else strict_json.digest(ids),
    )
    features = _stored(dataset, encoder, cache, identity, ids, look, (), engine)
    return ImageFeatures(features, {image_id: number for number, image_id in enumerate(ids)})


def view_features(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path,
    ids: Iterable[str],
    seed: int,
    views: int,
    engine: Engine = ALONE,
) -> ViewFeatures:
    """Features of `views` random crops of each of `ids`, kept in a file of their own.

    A view is a function of (seed, image, its number): `bench.augment`. Raises as `image_features`.
    """
    ids = sorted(set(ids))
    numbers = [(number,) for number in range(views)]
    look = crops(encoder.transform, seed, dict.fromkeys(ids, numbers))
    identity = Identity(
        kind="views",
        encoder=encoder.digest,
        dataset=dataset.manifest.digest,
        transform=f"crop-flip, seed {seed}, {views} views",
        precision=precision_of(encoder),
        rows=strict_json.digest(ids),
    )
    features = _stored(dataset, encoder, cache, identity, ids, look, (views,), engine)
    return ViewFeatures(features, {image_id: number for number, image_id in enumerate(ids)})


def precision_of(encoder: Encoder) -> str:
    """The precision in which an encoder computes; float32 where it says nothing."""
    found: str = getattr(encoder, "precision", "fp32")
    return found


def _stored(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path,
    identity: Identity,
    ids: list[str],
    look: Look,
    looks: tuple[int, ...],
    engine: Engine,
) -> Tensor:
    """Features (N, *looks, D) of the looks of `ids`, from the file that `identity` names."""
    shape = (len(ids), *looks, encoder.dim)
    place = Stored(cache, identity, shape, encoder.label, dataset.manifest.name)
    opened = _Opened(place)
    if not on_all_ranks(opened.there, engine):
        with _turn(place, engine):
            if not on_all_ranks(opened.there, engine):
                size = max(1, BATCH // prod(looks))
                features = _compute(dataset, encoder, ids, look, size, engine).reshape(shape)
                on_all_ranks(partial(opened.write, features, engine.rank == 0), engine)
                # Other ranks write where their machine has a cache of its own.
                on_all_ranks(partial(opened.write, features, True), engine)
                del features
    return opened.features.to(encoder.device)


class _Opened:
    """A stored array that a rank has opened, once it is there."""

    def __init__(self, place: Stored) -> None:
        self._place = place
        self._features: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """The array, mapped."""
        assert self._features is not None, "`there` is asked before"
        return self._features

    def there(self) -> bool:
        """Open it, if that was not done and its file is there."""
        if self._features is None:
            found = self._place.open()
            self._features = None if found is None else torch.from_numpy(found)
        return self._features is not None

    def write(self, features: Array, mine: bool) -> bool:
        """Where it is `mine` to do so, write the array if it is not there, and open it."""
        if mine and not self.there():
            self._place.write(features)
            self.there()
        return True


@contextmanager
def _turn(place: Stored, engine: Engine) -> Iterator[None]:
    """Rank 0 has the turn to compute, and gives it up in the end.

    The others wait for it a round at a time, so that no collective of theirs runs out of time.
    """
    turn = place.turn()
    try:
        while not on_all_ranks(lambda: engine.rank != 0 or turn.take(ROUND_S), engine):
            pass
        yield
    finally:
        turn.give()


def _compute(
    dataset: Dataset, encoder: Encoder, ids: list[str], look: Look, size: int, engine: Engine
) -> Array:
    """Features (N, n, D) of each image's n looks, rows in the order of `ids`.

    Batches of `size` images run in the order in which the images lie in the shards, across the
    shards' borders: a rank reads one stretch of bytes, and equal images in equal order give equal
    bits however they are cut into shards. Images are decoded in threads, one batch ahead.
    """
    order = sorted(ids, key=dataset.reader.index.__getitem__)

    def encode(own: list[slice]) -> Tensor:
        images = looked_at(dataset, order[own[0].start : own[-1].stop], look)
        rows: list[Tensor] = []
        for number, part in enumerate(own):
            if number and part == own[number - 1]:  # padding
                rows.append(rows[-1])
                continue
            batch = torch.stack([look for _, look in islice(images, part.stop - part.start)])
            pixels = preprocess(encoder.transform).pixels(batch.flatten(0, 1), encoder.device)
            rows.append(encoder.encode_pixels(pixels).view(*batch.shape[:2], -1))
        return torch.cat(rows)

    gathered = gather(encode, len(order), size, engine, everywhere=True)
    features = np.empty(gathered.shape, np.float32)
    row = {image_id: number for number, image_id in enumerate(ids)}
    features[[row[image_id] for image_id in order]] = gathered.cpu().numpy()
    return features
