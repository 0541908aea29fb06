"""Rows that begin alike with the start token alone, packed into blocks of places.

`word_blocks` lets equal words stand once and lays texts out word by word. Here no two rows share
more than the start token, as where each begins with a vector of its own: only lengths matter, and a
few products over arrays lay them out. A block holds the start token once and then its rows; each
place attends to it, to the places before it in its row and to itself. Short rows fill what long
ones leave.

Equal to open_clip's own forward of the whole rows, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from methods.core import prefix_chunks
from methods.core.device import moved
from methods.core.shared_prefix import finish

Numbers = NDArray[np.int64]
# Places of a block, or more where a row is longer: more of them waste fewer on the start token and
# hide more of one another (measured at width 128; heads of 32).
PLACES = 32


@dataclass(frozen=True)
class RowBlocks:
    """N rows in B blocks of R places, on the host. The start token stands first in each block.

    first, last: (N,) places of the rows' first and last tokens. depth: (B * R,) tokens before each
    place in its row, the start token among them. sees: (B, R, R) bool, what a place attends to.
    """

    first: Numbers
    last: Numbers
    depth: Numbers
    sees: NDArray[np.bool_]


def lay_rows(lengths: Numbers, places: int | None = None) -> RowBlocks:
    """The blocks of rows with these lengths (N,), the start token not counted.

    places: R; None for as many as suit the longest.

    Raises:
        ValueError: no rows, an empty one, or one longer than a block.
    """
    longest = int(lengths.max(initial=0))
    places = places or max(PLACES, -(-(longest + 1) // 8) * 8)
    if longest + 1 > places or not len(lengths) or int(lengths.min()) < 1:
        raise ValueError(f"rows of 1 to {places - 1} tokens, please, and at least one row")
    first, blocks = _placed(lengths, places)
    row = np.repeat(np.arange(len(lengths)), lengths)
    offset = np.arange(len(row)) - np.repeat(lengths.cumsum() - lengths, lengths)
    owner = -1 - np.arange(blocks * places)  # an empty place sees the start token and itself
    owner[first[row] + offset] = row
    depth = np.zeros_like(owner)
    depth[first[row] + offset] = 1 + offset
    of = owner.reshape(blocks, places)
    sees = (of[:, :, None] == of[:, None, :]) & np.tri(places, dtype=bool)
    sees[:, :, 0] = True
    return RowBlocks(first, first + lengths - 1, depth, sees)


def _placed(lengths: Numbers, places: int) -> tuple[Numbers, int]:
    """First place of each row, and the number of blocks: longest rows first, best fit."""
    values, numbers = np.unique(lengths, return_counts=True)
    used, first = list[int](), list[int]()
    for length, number in zip(values[::-1].tolist(), numbers[::-1].tolist(), strict=True):
        left = number
        for block in sorted(range(len(used)), key=used.__getitem__, reverse=True):
            many = min((places - used[block]) // length, left)
            at = block * places + used[block]
            first += range(at, at + many * length, length)
            used[block] += many * length
            left -= many
        while left:
            many = min((places - 1) // length, left)
            at = len(used) * places + 1
            first += range(at, at + many * length, length)
            used.append(1 + many * length)
            left -= many
    found = np.empty(len(lengths), dtype=np.int64)
    found[np.argsort(-lengths, kind="stable")] = first
    return found, len(used)


def states_in_rows(blocks: Sequence[Any], x: Tensor, laid: RowBlocks) -> Tensor:
    """States at the last tokens of N rows, (N, width), of all places x (B * R, width).

    x: with positions added.
    """
    places = laid.sees.shape[1]
    size = max(1, prefix_chunks.chunk_tokens(x.shape[1]) // places) * places
    again = len(x) > prefix_chunks.KEPT_TOKENS
    order = laid.last.argsort()
    cuts = np.searchsorted(laid.last[order], np.arange(0, len(x) + size, size))
    found = []
    for number, start in enumerate(range(0, len(x), size)):
        last = laid.last[order[cuts[number] : cuts[number + 1]]] - start
        sees = laid.sees[start // places : (start + size) // places]
        hidden = np.where(sees, np.float32(0), np.float32("-inf"))[:, None]
        mask, asked = (moved(torch.from_numpy(a), x.device) for a in (hidden, last))
        own = x[start : start + size]
        # Many tokens keep no activations; they compute them again for the gradient.
        found.append(
            checkpoint(_states, blocks, own, mask, asked, use_reentrant=False)
            if again
            else _states(blocks, own, mask, asked)
        )
    return torch.cat(found)[moved(torch.from_numpy(order.argsort()), x.device)]


def _states(blocks: Sequence[Any], x: Tensor, mask: Tensor, asked: Tensor) -> Tensor:
    """Places (B * R, width) -> (n, width) at those that are asked for. mask: (B, 1, R, R)."""
    count, places = len(mask), mask.shape[-1]
    for number, block in enumerate(blocks):
        attn = block.attn
        projected = nn.functional.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
        split = projected.view(count, places, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind()
        found = nn.functional.scaled_dot_product_attention(q, k, v, mask.to(q.dtype))
        mixed = found.transpose(1, 2).reshape(len(x), -1)
        if number + 1 == len(blocks):
            x, mixed = x.index_select(0, asked), mixed.index_select(0, asked)
        x = finish(block, x, mixed)
    return x
