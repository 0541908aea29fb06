"""Texts with token vectors of their own put in, each row other ones, through the text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from methods.core.device import moved
from methods.core.row_blocks import Numbers, lay_rows
from methods.core.text_tower import TextTower


@dataclass(frozen=True)
class PromptRows:
    """N texts with room for m vectors each, behind the start token; on the host.

    words: (N, L) token ids; 0 where vectors stand, and behind the end. length: (N,) with vectors
    and end-of-text token. prompt: (N,) place of the first vector. start: the start token's id.
    """

    words: Numbers
    length: Numbers
    prompt: Numbers
    start: int

    @property
    def tokens(self) -> int:
        """Of all rows, the start token not counted."""
        return int(self.length.sum())


def prompt_rows(tower: TextTower, texts: Sequence[str], m: int, after: bool = False) -> PromptRows:
    """Rows of these texts with m vectors before them, or after them; equal texts are read once.

    Raises:
        ValueError: a text and the vectors together are longer than the tower takes.
    """
    number = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    which = np.fromiter(map(number.__getitem__, texts), np.int64, len(texts))
    ids = tower.tokenize([*number])
    ends = tower.end(ids).numpy()
    longest = int(ends.max())
    if longest + m + 1 > tower.context_length:
        raise ValueError(
            f"{m} prompts and the text {[*number][int(ends.argmax())]!r} need {longest + m + 1} "
            f"tokens; the backbone takes {tower.context_length}. Lower n_prompts or shorten the "
            "text"
        )
    place = (ends - 1 if after else np.zeros_like(ends))[:, None]
    column = np.arange(longest + m)[None]
    source = 1 + np.where(column < place, column, np.maximum(column - m, 0))
    words = np.take_along_axis(ids.numpy(), source, axis=1)
    words[((column >= place) & (column < place + m)) | (column >= ends[:, None] + m)] = 0
    return PromptRows(words[which], (ends + m)[which], place[which, 0], int(ids[0, 0]))


def joined(parts: Sequence[PromptRows]) -> PromptRows:
    """The rows of all parts, in order."""
    longest = max(own.words.shape[1] for own in parts)
    words = [np.pad(own.words, ((0, 0), (0, longest - own.words.shape[1]))) for own in parts]
    length = np.concatenate([own.length for own in parts])
    prompt = np.concatenate([own.prompt for own in parts])
    return PromptRows(np.concatenate(words), length, prompt, parts[0].start)


def encode(tower: TextTower, prompts: Tensor, rows: PromptRows) -> Tensor:
    """Features (N, D), unit-norm, of rows with their vectors (N, m, width)."""
    count, m = prompts.shape[:2]
    if tower.shares:
        laid = lay_rows(rows.length)
        first, places, total = laid.first, laid.sees.shape[1], len(laid.depth)
    else:  # whole rows, padded
        places = 1 + rows.words.shape[1]
        first, total = 1 + places * np.arange(count), places * count
    words = np.zeros(total, dtype=np.int64)
    words[::places] = rows.start
    column = np.arange(rows.words.shape[1])
    own = column < rows.length[:, None]
    words[(first[:, None] + column)[own]] = rows.words[own]
    states = tower.embed(torch.from_numpy(words))
    # What decides shapes stays on the host: a mask would make it wait for a GPU.
    at = torch.from_numpy((first + rows.prompt)[:, None] + np.arange(m)).flatten()
    taken = prompts.to(states.dtype).flatten(0, 1)
    states = states.index_copy(0, moved(at, states.device), taken)
    if tower.shares:
        return tower.encode_rows(states, laid)
    return tower.encode(states.view(count, places, -1), torch.from_numpy(rows.length))
