"""Many prompts that begin with the same tokens: the beginning runs once.

CLIP's text transformer is causal, so what stands at the beginning of a prompt does not depend on
what follows. The common prefix goes through the layers once and leaves its keys and values; the
rests of all prompts attend to these and to themselves. The rests are packed: no padding anywhere.
In the last layer only the end-of-text positions, where the tower pools, are computed.

Equal to open_clip's own forward of the whole prompts, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Tokens of a chunk: with more, chunks run one by one and keep no activations for the gradient.
CHUNK_TOKENS = 8192


@dataclass(frozen=True)
class Packing:
    """N rests, sorted by length and laid end to end: T tokens.

    order: (T,) rows of the concatenated rests in their given order. back: (N,) given order of the
    sorted rests. sizes: (length, number of rests) ascending. position: (T,) place of each token
    behind the prefix. lengths: (N,) in the given order.
    """

    order: Tensor
    back: Tensor
    sizes: tuple[tuple[int, int], ...]
    position: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> Packing:
        """On a device."""
        tensors = (self.order, self.back, self.position, self.lengths)
        order, back, position, lengths = (t.to(device) for t in tensors)
        return Packing(order, back, self.sizes, position, lengths)

    def unpacked(self, prefix: Tensor, rests: Tensor) -> Tensor:
        """Whole prompts (N, P + longest, width) in the given order, zeros behind their ends."""
        parts = torch.split(rests, [length for length, number in self.sizes for _ in range(number)])
        whole = [torch.cat([prefix, part]) for part in parts]
        return nn.utils.rnn.pad_sequence(whole, batch_first=True)[self.back]


def pack(lengths: Sequence[int]) -> Packing:
    """The packing of rests with these lengths. Raises ValueError unless each is at least 1."""
    if min(lengths) < 1:
        raise ValueError("every prompt needs a token behind the prefix")
    count = torch.tensor(lengths)
    rank = count.argsort(stable=True)
    starts = count.cumsum(0) - count
    ordered = count[rank].tolist()
    values, numbers = torch.unique(count, return_counts=True)
    return Packing(
        order=torch.cat([starts[r] + torch.arange(n) for r, n in zip(rank, ordered, strict=True)]),
        back=rank.argsort(),
        sizes=tuple(zip(values.tolist(), numbers.tolist(), strict=True)),
        position=torch.cat([torch.arange(n) for n in ordered]),
        lengths=count,
    )


def shareable(transformer: Any) -> bool:
    """Whether a text transformer's blocks are plain ones, whose parts can be run apart."""
    return all(
        type(block).__name__ == "ResidualAttentionBlock"
        and isinstance(block.attn, nn.MultiheadAttention)
        and block.attn.in_proj_weight is not None
        and block.attn.bias_k is None
        and not block.attn.add_zero_attn
        and not hasattr(block, "ln_1_kv")
        for block in transformer.resblocks
    )


def states_behind(blocks: Sequence[Any], prefix: Tensor, rests: Tensor, packing: Packing) -> Tensor:
    """States at the end-of-text positions of N prompts: (N, width), in the given order.

    prefix: (P, width), rests: (T, width) packed; both with positions added.
    """
    keys = _prefix_keys(blocks, prefix)
    flat = [part for pair in keys for part in pair]
    # Chunks that keep no activations compute them again for the gradient.
    run = _behind if len(rests) <= CHUNK_TOKENS else _behind_again
    found, start = [], 0
    for sizes in _chunks(packing.sizes):
        stop = start + sum(length * number for length, number in sizes)
        found.append(run(blocks, rests[start:stop], sizes, *flat))
        start = stop
    return torch.cat(found)[packing.back]


def _chunks(sizes: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Sizes cut so that no chunk has more than CHUNK_TOKENS tokens (but at least one rest)."""
    chunks: list[list[tuple[int, int]]] = [[]]
    room = CHUNK_TOKENS
    for length, number in sizes:
        while number:
            fitting = min(number, room // length)
            if fitting == 0 and chunks[-1]:
                chunks.append([])
                room = CHUNK_TOKENS
                continue
            fitting = max(1, fitting)
            chunks[-1].append((length, fitting))
            room -= fitting * length
            number -= fitting
    return chunks


def _behind_again(
    blocks: Sequence[Any], rests: Tensor, sizes: Sequence[tuple[int, int]], *keys: Tensor
) -> Tensor:
    found: Tensor = checkpoint(_behind, blocks, rests, sizes, *keys, use_reentrant=False)
    return found


def _heads(x: Tensor, count: int) -> Tensor:
    """(L, width) -> (heads, L, width of a head)."""
    return x.reshape(len(x), count, -1).transpose(0, 1)


def _prefix_keys(blocks: Sequence[Any], x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values (heads, P, d) of the prefix in every layer."""
    found = []
    for number, block in enumerate(blocks):
        attn = block.attn
        projected = nn.functional.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (_heads(part, attn.num_heads)[None] for part in projected.chunk(3, dim=-1))
        found.append((k[0], v[0]))
        if number + 1 < len(blocks):
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = _finish(block, x, mixed[0].transpose(0, 1).flatten(1))
    return found


def _behind(
    blocks: Sequence[Any], x: Tensor, sizes: Sequence[tuple[int, int]], *keys: Tensor
) -> Tensor:
    """(T, width) packed -> (N, width) at the last tokens."""
    groups = _groups(sizes, x.device)
    lengths = torch.cat([group.lengths for group in groups])
    last = lengths.cumsum(0) - 1
    width = x.shape[1]
    for number, block in enumerate(blocks):
        final = number + 1 == len(blocks)
        normed, weight = block.ln_1(x), block.attn.in_proj_weight
        bias = block.attn.in_proj_bias
        if final:  # queries at the last tokens alone
            own, others = (None, None) if bias is None else (bias[:width], bias[width:])
            q = nn.functional.linear(normed[last], weight[:width], own)
            k, v = nn.functional.linear(normed, weight[width:], others).chunk(2, dim=-1)
        else:
            q, k, v = nn.functional.linear(normed, weight, bias).chunk(3, dim=-1)
        mixed = _attend(q, k, v, keys[2 * number], keys[2 * number + 1], groups, final)
        x = _finish(block, x[last] if final else x, mixed)
    return x


@dataclass(frozen=True)
class _Group:
    """Rests of similar length, padded for attention alone.

    lengths: (n,). longest: S. tokens: T of them. slots: (T,) their places among n * S; None where
    all have the same length.
    """

    lengths: Tensor
    longest: int
    tokens: int
    slots: Tensor | None

    def pad(self, x: Tensor, heads: int) -> Tensor:
        """(T, width) -> (n, heads, S, width of a head), zeros behind the ends."""
        if self.slots is not None:
            room = x.new_zeros(len(self.lengths) * self.longest, x.shape[1])
            x = room.index_copy(0, self.slots, x)
        return x.reshape(len(self.lengths), self.longest, heads, -1).transpose(1, 2)

    def packed(self, x: Tensor) -> Tensor:
        """(n * S, width) -> (T, width)."""
        return x if self.slots is None else x[self.slots]


def _groups(sizes: Sequence[tuple[int, int]], device: torch.device) -> list[_Group]:
    """Consecutive sizes; in a group the longest rest is at most twice as long as the shortest."""
    cut: list[list[tuple[int, int]]] = []
    for size in sizes:
        if not cut or size[0] > 2 * cut[-1][0][0]:
            cut.append([])
        cut[-1].append(size)
    groups = []
    for part in cut:
        lengths = [length for length, number in part for _ in range(number)]
        longest = lengths[-1]
        slots = None
        if len(part) > 1:
            slots = torch.cat(
                [row * longest + torch.arange(length) for row, length in enumerate(lengths)]
            ).to(device)
        groups.append(_Group(torch.tensor(lengths, device=device), longest, sum(lengths), slots))
    return groups


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    groups: Sequence[_Group],
    final: bool,
) -> Tensor:
    """Attention of the rests to the prefix and, causally, to themselves: (T or N, width).

    final: q holds the last token of each rest alone.
    """
    heads, prefix, size = prefix_k.shape
    q = q * size**-0.5
    mixed, start, asked = [], 0, 0
    for group in groups:
        own = slice(start, start + group.tokens)
        asking = slice(asked, asked + (len(group.lengths) if final else group.tokens))
        start, asked = own.stop, asking.stop
        ks, vs = group.pad(k[own], heads), group.pad(v[own], heads)
        place = torch.arange(group.longest, device=q.device)
        if final:
            qs = q[asking].reshape(len(group.lengths), 1, heads, size).transpose(1, 2)
            hidden = (place >= group.lengths[:, None])[:, None, None]
        else:
            qs = group.pad(q[asking], heads)
            hidden = place > place[:, None]  # the causal mask; padding stands behind all
        rows = qs.shape[2]
        flat = qs.transpose(0, 1).reshape(heads, -1, size)
        before = (flat @ prefix_k.transpose(1, 2)).reshape(heads, -1, rows, prefix).transpose(0, 1)
        inside = (qs @ ks.transpose(-1, -2)).masked_fill(hidden, float("-inf"))
        share = torch.cat([before, inside], dim=-1).softmax(dim=-1).to(vs.dtype)
        of_prefix = share[..., :prefix].transpose(0, 1).reshape(heads, -1, prefix) @ prefix_v
        found = of_prefix.reshape(heads, -1, rows, size).transpose(0, 1) + share[..., prefix:] @ vs
        found = found.transpose(1, 2).reshape(-1, heads * size)
        mixed.append(found if final else group.packed(found))
    return torch.cat(mixed)


def _finish(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a block behind its attention."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    done: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return done
