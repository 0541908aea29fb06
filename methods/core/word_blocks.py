"""Many prompts behind a few prefixes in blocks of places, where equal first words stand once.

`shared_prefix` runs the tokens of all rests and pads them for attention. Here a block holds some
rests in alphabetical order as a tree: what two of them begin with runs once, and each place attends
to its prefix, to the places before it on its branch and to itself. One product of a block's places
does the attention of all its rests, instead of a tiny one for each.

Laying texts out costs the host some time, which several seeds of a cell pay once (`CoOp`).

Equal to open_clip's own forward of the whole prompts, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from methods.core import prefix_chunks
from methods.core.device import moved
from methods.core.shared_prefix import finish

# Places of a block, or more where a rest is longer: more of them share more words and hide more
# of one another (measured at width 128; heads of 32).
PLACES = 32


@dataclass(frozen=True)
class Laid:
    """N rests behind one prefix in B blocks of R places, on the host.

    words: (B * R,) what stands at each place; 0 at empty ones. depth: (B * R,) words before it.
    sees: (B * R, R) bool, the places of its block a place attends to. last: (N,) place of each
    rest's last word, in the given order.
    """

    words: Tensor
    depth: Tensor
    sees: Tensor
    last: Tensor


def room(longest: int) -> int:
    """R for rests of at most so many words."""
    return max(PLACES, -(-longest // 8) * 8)


def lay(rests: Sequence[tuple[int, ...]], places: int) -> Laid:
    """Rests, each of 1 to `places` words, in blocks; equal words are equal vectors."""
    words, depth, seen = list[int](), list[int](), list[int]()
    last = [0] * len(rests)
    path, before = list[int](), tuple[int, ...]()
    start = -places

    def fill() -> None:
        used, empty = len(words) - start, start + places - len(words)
        words.extend([0] * empty)
        depth.extend([0] * empty)
        seen.extend(1 << place for place in range(used, places))

    for row in sorted(range(len(rests)), key=rests.__getitem__):
        own = rests[row]
        same = 0
        for word, other in zip(own, before, strict=False):
            if word != other:
                break
            same += 1
        if len(words) + len(own) - same > start + places:
            fill()
            start, same = len(words), 0
        new, place = len(own) - same, len(words)
        branch = seen[path[same - 1]] if same else 0
        seen.extend(branch | ((2 << number) - 1) << (place - start) for number in range(new))
        words.extend(own[same:])
        depth.extend(range(same, len(own)))
        path[same:] = range(place, place + new)
        last[row] = path[-1]
        before = own
    fill()
    bits = b"".join(mask.to_bytes(places // 8, "little") for mask in seen)
    sees = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little").reshape(-1, places)
    return Laid(
        torch.tensor(words),
        torch.tensor(depth),
        torch.tensor(sees, dtype=torch.bool),
        torch.tensor(last),
    )


@dataclass(frozen=True)
class Blocks:
    """Rests of G prefixes in B blocks of R places, on a device; N prompts, prefix by prefix.

    depth: (B * R,). owners: (B,) each block's prefix; `first_of`, the same on the host.
    asked: (B * A,) places of last words, block by block; some twice where a block has fewer than A.
    ends: (N,) the places of the prompts' last words, by block; `among`, where these are in `asked`;
    `given`: (N,) where each prompt is among them. by: prompts in each block. mask: (B, R, P + R),
    0 where a place sees another and -inf elsewhere; mask_last: (B, A, P + R), that of `asked`.
    begun: what does not change, kept for the next call; see `states_in_blocks`.
    """

    places: int
    depth: Tensor
    owners: Tensor
    first_of: tuple[int, ...]
    asked: Tensor
    ends: Tensor
    among: Tensor
    given: Tensor
    by: tuple[int, ...]
    mask: Tensor
    mask_last: Tensor
    begun: dict[object, tuple[Tensor, ...]] = field(default_factory=dict)


def side_by_side(laid: Sequence[Laid], prefix: int, device: torch.device) -> Blocks:
    """The rests of G prefixes, of `prefix` tokens each, as one."""
    places = laid[0].sees.shape[1]
    counts = [len(own.words) // places for own in laid]
    starts = np.cumsum([0, *counts[:-1]]) * places
    last = torch.cat([own.last + int(start) for own, start in zip(laid, starts, strict=True)])
    total = sum(counts)
    block = last // places
    order = block.argsort(stable=True)
    by = block.bincount(minlength=total)
    most = int(by.max())
    among = torch.empty_like(last)
    among[order] = torch.arange(len(last)) - (by.cumsum(0) - by)[block[order]]
    among += block * most
    asked = (torch.arange(total) * places).repeat_interleave(most)
    asked[among] = last
    owners = torch.arange(len(laid)).repeat_interleave(torch.tensor(counts))
    seen = torch.ones(total * places, prefix, dtype=torch.bool)
    sees = torch.cat([seen, torch.cat([own.sees for own in laid])], dim=1)
    mask = torch.zeros(sees.shape).masked_fill(~sees, float("-inf"))
    moving = (
        torch.cat([own.depth for own in laid]),
        owners,
        asked,
        last[order],
        among[order],
        order.argsort(),
        mask.view(total, places, -1),
        mask[asked].view(total, most, -1),
    )
    depth, owner, asked, ends, among, given, mask, mask_last = (moved(t, device) for t in moving)
    first_of, numbers = tuple(owners.tolist()), tuple(by.tolist())
    return Blocks(
        places, depth, owner, first_of, asked, ends, among, given, numbers, mask, mask_last
    )


def states_in_blocks(
    blocks: Sequence[Any], prefixes: Tensor, rests: Tensor, laid: Blocks, keep: bool
) -> Tensor:
    """States at the last words of N prompts, prefix by prefix: (N, width).

    prefixes: (G, P, width), rests: (B * R, width); both with positions added. keep: the rests are
    the same in every call; then the first layer's work on them alone is done once (`laid.begun`).
    """
    limit = max(1, prefix_chunks.chunk_tokens(prefixes.shape[-1]) // laid.places)
    again = len(rests) > prefix_chunks.KEPT_TOKENS
    found = []
    for chunk in _chunks(laid, limit):
        own = rests[chunk.blocks.start * laid.places : chunk.blocks.stop * laid.places]
        begins = prefixes[chunk.first : chunk.stop]
        kept = laid.begun if keep and not again else None
        if again:
            found.append(
                checkpoint(_states, blocks, begins, own, laid, chunk, kept, use_reentrant=False)
            )
        else:
            found.append(_states(blocks, begins, own, laid, chunk, kept))
    return torch.cat(found)[laid.given]


@dataclass(frozen=True)
class _Chunk:
    """Blocks that run together, the range of their prefixes, and of their prompts."""

    blocks: slice
    first: int
    stop: int
    prompts: slice


def _chunks(laid: Blocks, limit: int) -> Iterator[_Chunk]:
    """At most `limit` blocks each; all of a prefix, or a part of one."""
    start = prompt = 0
    whose = laid.first_of
    while start < len(whose):
        stop = min(start + limit, len(whose))
        if stop < len(whose) and whose[start] != whose[stop]:
            stop = whose.index(whose[stop])  # the last prefix as a whole, later
        end = prompt + sum(laid.by[start:stop])
        yield _Chunk(slice(start, stop), whose[start], whose[stop - 1] + 1, slice(prompt, end))
        start, prompt = stop, end


def _states(
    blocks: Sequence[Any],
    prefixes: Tensor,
    rests: Tensor,
    laid: Blocks,
    chunk: _Chunk,
    kept: dict[object, tuple[Tensor, ...]] | None,
) -> Tensor:
    """Prefixes (G, P, width) and their blocks' places -> (n, width) at the last words.

    The prefixes' tokens stand before the places in every product of a layer.
    """
    size, head = prefixes.shape[:2], prefixes.shape[0] * prefixes.shape[1]
    own = chunk.blocks
    count, most = own.stop - own.start, laid.mask_last.shape[1]
    before = head - own.start * laid.places  # of a place among all, its row here
    owners = laid.owners[own] - chunk.first
    x = torch.cat([prefixes.flatten(0, 1), rests])
    for number, block in enumerate(blocks):
        attn, width = block.attn, x.shape[1]
        weight, bias = attn.in_proj_weight, attn.in_proj_bias
        final = number + 1 == len(blocks)
        if final:  # queries at the last words alone
            asking, bias = (None, None) if bias is None else (bias[:width], bias[width:])
            normed = block.ln_1(x)
            asked = normed[laid.asked[own.start * most : own.stop * most] + before]
            q = _heads(nn.functional.linear(asked, weight[:width], asking), count, 1, attn)[0]
            weight = weight[width:]
            begun, rest = nn.functional.linear(normed, weight, bias).tensor_split([head])
            k, v = _heads(rest, count, 2, attn)
        elif number == 0:
            begun = nn.functional.linear(block.ln_1(x[:head]), weight, bias)
            q, k, v = _first(block, rests, count, chunk, kept)
        else:
            begun, rest = nn.functional.linear(block.ln_1(x), weight, bias).tensor_split([head])
            q, k, v = _heads(rest, count, 3, attn)
        split = _heads(begun, size[0], 2 if final else 3, attn)
        mask = (laid.mask_last if final else laid.mask)[own]
        mixed = _attend(q, k, v, _picked(torch.stack(split[-2:], 1), owners), mask)
        if final:
            mixed = mixed[laid.among[chunk.prompts] - own.start * most]
            x = x[laid.ends[chunk.prompts] + before]
        else:
            asking, keys, values = split
            within = nn.functional.scaled_dot_product_attention(
                asking, keys, values, is_causal=True
            )
            mixed = torch.cat([within.transpose(1, 2).reshape(-1, width), mixed])
        x = finish(block, x, mixed)
    return x


def _first(
    block: Any,
    rests: Tensor,
    count: int,
    chunk: _Chunk,
    kept: dict[object, tuple[Tensor, ...]] | None,
) -> tuple[Tensor, ...]:
    """Queries, keys and values of the places in the first layer; no context is in them."""
    kind = rests.device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    key = chunk.blocks.start, chunk.blocks.stop, half
    if kept is not None and key in kept:
        return kept[key]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    projected = nn.functional.linear(block.ln_1(rests), weight, bias)
    found = _heads(projected, count, 3, block.attn)
    if kept is not None:
        kept[key] = found
    return found


def _heads(x: Tensor, rows: int, kinds: int, attn: Any) -> tuple[Tensor, ...]:
    """(rows * n, kinds * width) -> `kinds` tensors (rows, heads, n, d)."""
    split = x.view(rows, -1, kinds, attn.num_heads, x.shape[1] // kinds // attn.num_heads)
    return split.permute(2, 0, 3, 1, 4).contiguous().unbind()


def _picked(states: Tensor, owners: Tensor) -> Tensor:
    """Each block's prefix: (G, 2, heads, P, d) -> (2, B, heads, P, d)."""
    rows = states.flatten(1)
    # On a CPU an embedding's backward adds whole rows, that of an index single numbers.
    found = rows[owners] if rows.is_cuda else nn.functional.embedding(owners, rows)
    return found.view(-1, *states.shape[1:]).transpose(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
    """Attention of q (B, heads, n, d) to prefixes and places: (B * n, width).

    k, v: (B, heads, R, d). prefix: (2, B, heads, P, d). mask: (B, n, P + R), added.
    """
    rows, heads, n, size = q.shape
    keys = torch.cat([prefix[0], k], dim=2).flatten(0, 1)
    values = torch.cat([prefix[1], v], dim=2).flatten(0, 1)
    scores = (q * size**-0.5).flatten(0, 1) @ keys.transpose(1, 2)
    share = scores.view(rows, heads, n, -1).add_(mask[:, None]).softmax(dim=-1)
    found: Tensor = share.to(values.dtype).flatten(0, 1) @ values
    return found.view(rows, heads, n, size).transpose(1, 2).reshape(rows * n, -1)
