"""Many prompts that begin with the same tokens: the beginning runs once.

CLIP's text transformer is causal, so what stands at the beginning of a prompt does not depend on
what follows. A common prefix goes through each layer once, beside the rests of all prompts, which
attend to its keys and values and to themselves. The rests are packed: no padding anywhere but
inside attention. In the last layer only the end-of-text positions, where the tower pools, are
computed. Several prefixes, each with rests of its own, run in one pass.

Equal to open_clip's own forward of the whole prompts, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from methods.core import prefix_chunks
from methods.core.device import moved
from methods.core.prefix_chunks import Chunk, Group

SIGMOID_SCALE = 1.702  # of QuickGELU


@dataclass(frozen=True)
class Packing:
    """N rests, sorted by length and laid end to end: T tokens.

    order: (T,) rows of the concatenated rests in their given order. back: (N,) given order of the
    sorted rests. sizes: (length, number of rests) ascending. position: (T,) place of each token
    behind the prefix. lengths: (N,) in the given order. given: the row of each sorted rest.
    """

    order: Tensor
    back: Tensor
    sizes: tuple[tuple[int, int], ...]
    position: Tensor
    lengths: Tensor
    given: tuple[int, ...]

    def to(self, device: torch.device) -> Packing:
        """On a device."""
        tensors = (self.order, self.back, self.position, self.lengths)
        order, back, position, lengths = (moved(t, device) for t in tensors)
        return Packing(order, back, self.sizes, position, lengths, self.given)

    def unpacked(self, prefix: Tensor, rests: Tensor, of: Sequence[int] | None = None) -> Tensor:
        """Whole prompts (N, P + longest, width) in the given order, zeros behind their ends.

        prefix: (P, width), or (G, P, width) where `of` says which each begins with.
        """
        parts = torch.split(rests, [length for length, number in self.sizes for _ in range(number)])
        padded = nn.utils.rnn.pad_sequence(list(parts), batch_first=True)[self.back]
        if of is None:
            begins = prefix.expand(len(padded), -1, -1)
        else:
            begins = prefix[moved(torch.tensor(of), prefix.device)]
        return torch.cat([begins, padded], dim=1)


def pack(lengths: Sequence[int]) -> Packing:
    """The packing of rests with these lengths. Raises ValueError unless each is at least 1."""
    if min(lengths) < 1:
        raise ValueError("every prompt needs a token behind the prefix")
    count = torch.tensor(lengths)
    rank = count.argsort(stable=True)
    starts, ordered = (count.cumsum(0) - count)[rank], count[rank]
    position = torch.arange(len(ordered.repeat_interleave(ordered)))
    position -= (ordered.cumsum(0) - ordered).repeat_interleave(ordered)
    values, numbers = torch.unique(count, return_counts=True)
    return Packing(
        order=starts.repeat_interleave(ordered) + position,
        back=rank.argsort(),
        sizes=tuple(zip(values.tolist(), numbers.tolist(), strict=True)),
        position=position,
        lengths=count,
        given=tuple(rank.tolist()),
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


def states_behind(
    blocks: Sequence[Any],
    prefixes: Tensor,
    rests: Tensor,
    packing: Packing,
    of: Sequence[int] | None = None,
) -> Tensor:
    """States at the end-of-text positions of N prompts: (N, width), in the given order.

    prefixes: (G, P, width), rests: (T, width) packed; both with positions added. of: N numbers,
    the prefix of each prompt, in the given order; None where there is one.
    """
    owners = None
    if of is not None and len(prefixes) > 1:
        owners = tuple(of[row] for row in packing.given)
    size = (len(prefixes), prefixes.shape[1])
    limit = prefix_chunks.chunk_tokens(prefixes.shape[-1])
    plan = prefix_chunks.plan(packing.sizes, owners, size, limit, rests.device)
    again = len(rests) > prefix_chunks.KEPT_TOKENS
    found, keys = [], list[Tensor]()
    for chunk in plan.chunks:
        own = rests[chunk.tokens]
        begins = None if chunk.follows else prefixes[chunk.first : chunk.stop]
        keys = keys if chunk.follows else []
        # Many tokens keep no activations; they compute them again for the gradient.
        states, *keys = (
            checkpoint(_states, blocks, begins, own, chunk, *keys, use_reentrant=False)
            if again
            else _states(blocks, begins, own, chunk, *keys)
        )
        found.append(states)
    return torch.cat(found)[plan.back[packing.back]]


def _states(
    blocks: Sequence[Any], prefixes: Tensor | None, rests: Tensor, chunk: Chunk, *keys: Tensor
) -> tuple[Tensor, ...]:
    """Prefixes (G, P, width) and their rests (T, width) -> (n, width) at the last tokens.

    The prefixes' tokens stand before the rests' in every product of a layer. Their keys and values
    (2, G, heads, P, d) of each layer come with the result, and stand for prefixes that have run.
    """
    parts = [rests] if prefixes is None else [prefixes.flatten(0, 1), rests]
    size = (0, 0) if prefixes is None else (prefixes.shape[0], prefixes.shape[1])
    last = chunk.last + size[0] * size[1]
    x, made = torch.cat(parts), list[Tensor]()
    for number, block in enumerate(blocks):
        attn, width = block.attn, x.shape[1]
        weight, bias = attn.in_proj_weight, attn.in_proj_bias
        final = number + 1 == len(blocks)
        asked = None
        if final:  # queries at the last tokens alone
            own, bias = (None, None) if bias is None else (bias[:width], bias[width:])
            normed, x = block.ln_1(x), x[last]
            asked = nn.functional.linear(normed[last], weight[:width], own)
            projected = nn.functional.linear(normed, weight[width:], bias)
        elif number == 0:  # where the rests are words alone, nothing flows back through these
            each = [nn.functional.linear(block.ln_1(part), weight, bias) for part in parts]
        else:
            projected = nn.functional.linear(block.ln_1(x), weight, bias)
        tokens = [size[0] * size[1], *(group.tokens for group in chunk.groups)]
        if number == 0 and not final:
            begun, behind = each[0], [*torch.split(each[-1], tokens[1:])]
        else:
            begun, *behind = torch.split(projected, tokens)
        mixed = []
        if prefixes is None:
            made.append(keys[number])
        else:
            kinds = 2 if final else 3
            split = begun.view(*size, kinds, attn.num_heads, -1).permute(2, 0, 3, 1, 4).contiguous()
            made.append(split[-2:])
            if not final:
                q, k, v = split
                within = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                mixed.append(within.transpose(1, 2).reshape(-1, width))
        if asked is None:
            mixed += _attend(behind, made[-1], chunk.groups)
        else:
            mixed = _attend_last(asked, behind, made[-1], chunk.groups)
        x = finish(block, x, torch.cat(mixed))
    return x, *made


def _attend(behind: Sequence[Tensor], prefix: Tensor, groups: Sequence[Group]) -> list[Tensor]:
    """Attention of the rests to their prefix and, causally, to themselves: (T, width) each group.

    behind: (T, 3 * width), queries, keys and values of each group.
    """
    mixed = []
    for group, part in zip(groups, behind, strict=True):
        q, k, v = _rows(group, part, prefix, 3)
        place = torch.arange(group.longest, device=part.device)
        later = place > place[:, None]  # the causal mask; padding stands behind all
        found = _behind(q, k, v, prefix, group, later)
        found = found.permute(0, 2, 3, 1, 4).reshape(-1, part.shape[1] // 3)
        mixed.append(found if group.slots is None else found[group.slots])
    return mixed


def _attend_last(
    q: Tensor, behind: Sequence[Tensor], prefix: Tensor, groups: Sequence[Group]
) -> list[Tensor]:
    """Attention of the rests' last tokens alone: q (n, width) -> (n, width) of each group.

    behind: (T, 2 * width), keys and values of each group.
    """
    mixed = []
    asked = torch.split(q, [len(group.lengths) for group in groups])
    for group, part, asking in zip(groups, behind, asked, strict=True):
        k, v = _rows(group, part, prefix, 2)
        own = asking.view(len(k), -1, k.shape[1], 1, k.shape[-1]).transpose(1, 2).contiguous()
        place = torch.arange(group.longest, device=part.device)
        outside = (place >= group.lengths[:, None]).view(len(k), 1, -1, 1, group.longest)
        found = _behind(own, k, v, prefix, group, outside)
        mixed.append(found.transpose(1, 2).reshape(len(asking), -1))
    return mixed


def _rows(group: Group, part: Tensor, prefix: Tensor, kinds: int) -> tuple[Tensor, ...]:
    """(T, kinds * width) -> `kinds` tensors (m, heads, c, S, d) of m prefixes with c rests each."""
    n, heads = len(group.lengths), prefix.shape[2]
    if group.slots is not None:
        room = part.new_zeros(n * group.longest, part.shape[1])
        part = room.index_copy(0, group.slots, part)
    m = prefix.shape[1] if group.owners is None else len(group.owners)
    rows = part.view(m, n // m, group.longest, kinds, heads, -1)
    return rows.permute(3, 0, 4, 1, 2, 5).contiguous().unbind()


def _behind(
    q: Tensor, k: Tensor, v: Tensor, prefix: Tensor, group: Group, hidden: Tensor
) -> Tensor:
    """Attention of q (m, heads, c, R, d) to the prefixes and to k, v (m, heads, c, S, d).

    prefix: (2, G, heads, P, d). hidden: what of S a row does not see.
    """
    if group.owners is not None:
        prefix = prefix[:, group.owners]
    m, heads, c, rows, size = q.shape
    length, longest = prefix.shape[3], k.shape[3]
    prefix_k, prefix_v = prefix.flatten(1, 2).unbind()
    before = q.view(m * heads, c * rows, size) @ prefix_k.transpose(1, 2)
    inside = q.view(-1, rows, size) @ k.view(-1, longest, size).transpose(1, 2)
    scores = torch.cat([before.view(-1, rows, length), inside], dim=-1) * size**-0.5
    hidden = nn.functional.pad(hidden, (length, 0))
    share = scores.view(m, heads, c, rows, -1).masked_fill(hidden, float("-inf")).softmax(dim=-1)
    of_prefix, of_own = torch.split(share.to(v.dtype), [length, longest], dim=-1)
    found = of_prefix.reshape(m * heads, c * rows, length) @ prefix_v
    own = of_own.reshape(-1, rows, longest) @ v.view(-1, longest, size)
    return found.view(m, heads, c, rows, size) + own.view(m, heads, c, rows, size)


def finish(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a block behind its attention `mixed`, before the output projection."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    done: Tensor = x + block.ls_2(_mlp(block.mlp, block.ln_2(x)))
    return done


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    """A block's MLP. QuickGELU, x * sigmoid(a * x), is silu(a * x) / a: one pass instead of three.

    Both factors ride along: the first with the product before, the second on the narrow result.
    """
    if type(mlp.gelu).__name__ != "QuickGELU":
        plain: Tensor = mlp(x)
        return plain
    into, out = mlp.c_fc, mlp.c_proj
    wide = torch.addmm(into.bias, x, into.weight.t(), beta=SIGMOID_SCALE, alpha=SIGMOID_SCALE)
    narrow = nn.functional.silu(wide) @ out.weight.t()
    return torch.add(out.bias, narrow, alpha=1 / SIGMOID_SCALE)
