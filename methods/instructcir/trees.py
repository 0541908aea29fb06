"""Prompts of the small model laid out so that no token runs twice: equal first words stand once.

Rows lie in blocks of places as trees (`word_blocks.lay`), each image token a word of its own. What
a word gives the first layer depends on the word and its position alone, so that layer reads the
distinct ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from methods.core.device import moved
from methods.core.word_blocks import Blocks, lay, room, side_by_side


@dataclass(frozen=True)
class Row:
    """A prompt's tokens: `words` numbers each pair of id and position, 0 for an image token.

    image: (first, stop) of the image tokens in the row, or None. places: of these, one by one.
    """

    words: tuple[int, ...]
    image: tuple[int, int] | None
    places: tuple[int, ...]

    @classmethod
    def of(cls, ids: Sequence[int], places: Sequence[int], image: int) -> Row:
        """Of token ids and positions; image: the image token's id, above all others."""
        there = [n for n, token in enumerate(ids) if token == image]
        words = tuple(
            0 if token == image else 1 + token + place * image
            for token, place in zip(ids, places, strict=True)
        )
        if not there:
            return cls(words, None, ())
        return cls(words, (there[0], there[-1] + 1), tuple(places[n] for n in there))


@dataclass(frozen=True)
class Trees:
    """N prompts in B blocks of R places, T of them with a word; tensors on a device.

    ids, positions: (U,) of the distinct words. image_positions: (I,) of all image tokens, in the
    prompts' order. at: (B * R,) number of each place's word, images behind the U others; any at an
    empty place, which no other place sees. used: (T,) places with a word. ends: (N,) those of the
    last words among the T, block by block; `blocks.given` puts them in the prompts' order.
    """

    ids: Tensor
    positions: Tensor
    image_positions: Tensor
    at: Tensor
    used: Tensor
    ends: Tensor
    blocks: Blocks


def planted(rows: Sequence[Row], image: int, device: torch.device) -> Trees:
    """The layout of rows. All of it is found on the host: no step waits for a GPU."""
    told, places = list[tuple[int, ...]](), list[int]()
    for row in rows:
        if row.image is None:
            told.append(row.words)
            continue
        first, stop = row.image
        own = range(-len(places) - 1, -len(places) - 1 - (stop - first), -1)
        told.append((*row.words[:first], *own, *row.words[stop:]))
        places += row.places
    laid = lay(told, room(max(map(len, told))))
    words = np.array(laid.words.tolist())
    numbers, at = np.unique(words.clip(min=0), return_inverse=True)
    at = np.where(words < 0, len(numbers) - 1 - words, at)
    codes = torch.tensor((numbers - 1).clip(min=0))
    filled = laid.words != 0
    blocks = side_by_side([laid], 0, device)
    by_block = (laid.last // blocks.places).argsort(stable=True)
    return Trees(
        ids=moved(codes % image, device),
        positions=moved(codes // image, device),
        image_positions=moved(torch.tensor(places, dtype=torch.long), device),
        at=moved(torch.tensor(at), device),
        used=moved(filled.nonzero().flatten(), device),
        ends=moved((filled.cumsum(0) - 1)[laid.last[by_block]], device),
        blocks=blocks,
    )
