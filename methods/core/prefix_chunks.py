"""Which prompts run together, and how their attention is laid out (`shared_prefix`).

A pure function of lengths and owners, remembered: a class list is the same in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from methods.core.device import moved

# A chunk's tokens: larger ones run slower, as their tensors leave the caches and are mapped anew.
# A narrow tower takes more: so many values of width (measured at width 128 and 512).
CHUNK_TOKENS = 2048
CHUNK_VALUES = 4096 * 128
# With more rest tokens in all, activations are not kept for the gradient but computed again.
KEPT_TOKENS = 12288
# Tokens from which rests of one length form a group of their own; fewer are padded together.
GROUP_TOKENS = 512


@dataclass(frozen=True)
class Group:
    """n rests of similar length behind m prefixes, c = n / m rests each, padded for attention.

    Rows are ordered by prefix, and the group's tokens lie end to end in a chunk.

    owners: (m,) the chunk's prefix of each c rows; None: its prefixes as they are. longest: S.
    tokens: T of them. slots: (T,) their places among n * S, None where all have the same length.
    lengths: (n,).
    """

    owners: Tensor | None
    longest: int
    tokens: int
    slots: Tensor | None
    lengths: Tensor


@dataclass(frozen=True)
class Chunk:
    """Rests that run together, with the prefixes they stand behind.

    first, stop: range of prefixes. follows: the one prefix has run in the chunk before.
    tokens: (T,) rows of the packed rests; a slice where they lie end to end. last: (n,) the last
    token of each rest, among the T.
    """

    first: int
    stop: int
    follows: bool
    tokens: slice | Tensor
    last: Tensor
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Plan:
    """All chunks. back: (N,) place of each rest, in the packing's order, among the chunks' ends."""

    chunks: tuple[Chunk, ...]
    back: Tensor


def chunk_tokens(width: int) -> int:
    """Most tokens of a chunk in a tower of this width."""
    return max(CHUNK_TOKENS, CHUNK_VALUES // width)


@lru_cache(maxsize=32)
def plan(
    sizes: tuple[tuple[int, int], ...],
    owners: tuple[int, ...] | None,
    prefixes: tuple[int, int],
    limit: int,
    device: torch.device,
) -> Plan:
    """The plan of N rests of these sizes ((length, number) ascending).

    owners: the prefix of each rest in that order; None where there is one prefix. prefixes: how
    many, and their length. limit: tokens of a chunk; one rest with its prefix may be longer.
    """
    count, width = prefixes
    values, numbers = (torch.tensor(column) for column in zip(*sizes, strict=True))
    lengths = values.repeat_interleave(numbers)
    starts = lengths.cumsum(0) - lengths
    owner = torch.zeros_like(lengths) if owners is None else torch.tensor(owners)
    found = []
    before = None
    for first, stop, rows in _cut(lengths, owner, count, width, limit):
        follows, before = (first, stop) == before, (first, stop)
        found.append((rows, *_chunk(first, stop, follows, rows, lengths, starts, owner)))
    back = torch.cat([rows[order] for rows, order, _ in found]).argsort()
    return Plan(tuple(_to(chunk, device) for _, _, chunk in found), moved(back, device))


def _cut(
    lengths: Tensor, owner: Tensor, count: int, width: int, limit: int
) -> list[tuple[int, int, Tensor]]:
    """(first prefix, behind the last, rows): whole prefixes together, or a part of one."""
    by_owner = owner.argsort(stable=True)
    parts = torch.split(by_owner, owner.bincount(minlength=count).tolist())
    found: list[tuple[int, int, Tensor]] = []
    first, room, waiting = 0, limit, list[Tensor]()

    def flush(stop: int) -> None:
        if any(len(part) for part in waiting):
            found.append((first, stop, torch.cat(waiting).sort().values))
        waiting.clear()

    for number, rows in enumerate(parts):
        tokens = width + int(lengths[rows].sum())
        if tokens > room:
            flush(number)
            first, room = number, limit
        if tokens <= room:
            waiting.append(rows)
            room -= tokens
            continue
        pieces = _pieces(rows, lengths[rows].tolist(), limit - width)
        found.extend((number, number + 1, piece) for piece in pieces)
        first = number + 1
    flush(count)
    return found


def _pieces(rows: Tensor, lengths: Sequence[int], limit: int) -> list[Tensor]:
    """Rows in pieces of at most `limit` tokens (but at least one row)."""
    numbers, room = [0], limit
    for length in lengths:
        if length > room and numbers[-1]:
            numbers.append(0)
            room = limit
        numbers[-1] += 1
        room -= length
    return list(torch.split(rows, numbers))


def _chunk(
    first: int,
    stop: int,
    follows: bool,
    rows: Tensor,
    lengths: Tensor,
    starts: Tensor,
    owner: Tensor,
) -> tuple[Tensor, Chunk]:
    """The order of the rows, by group, prefix and length, and their chunk."""
    own, whose = lengths[rows], owner[rows] - first
    values, numbers = torch.unique(own, return_counts=True)
    bounds = _bounds(values.tolist(), numbers.tolist())
    group = torch.searchsorted(torch.tensor(bounds), own)
    order = ((group * (stop - first) + whose) * (int(own.max()) + 1) + own).argsort(stable=True)
    own, whose, rows = own[order], whose[order], rows[order]
    ends = own.cumsum(0)
    tokens: slice | Tensor = slice(int(starts[rows[0]]), int(starts[rows[0]] + ends[-1]))
    if bool((rows.diff() != 1).any()):
        tokens = _ranges(starts[rows], own)
    parts = group.bincount(minlength=len(bounds)).tolist()
    groups = [
        _group(w, n, stop - first)
        for w, n in zip(torch.split(whose, parts), torch.split(own, parts), strict=True)
    ]
    return order, Chunk(first, stop, follows, tokens, ends - 1, tuple(groups))


def _bounds(values: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """Longest rest of each group: at most twice as long as the shortest."""
    found: list[int] = []
    shortest, alone = 0, True
    for value, number in zip(values, numbers, strict=True):
        many = value * number >= GROUP_TOKENS
        if many or alone or value > 2 * shortest:
            found.append(value)
            shortest, alone = value, many
        found[-1] = value
    return found


def _group(whose: Tensor, lengths: Tensor, prefixes: int) -> Group:
    """Of rows ordered by prefix."""
    present, counts = torch.unique(whose, return_counts=True)
    owners: Tensor | None = whose  # unequal numbers: every row has its prefix' keys to itself
    if len(torch.unique(counts)) == 1:
        owners = None if len(present) == prefixes else present
    longest = int(lengths.max())
    slots = None
    if int(lengths.min()) < longest:
        slots = _ranges(torch.arange(len(lengths)) * longest, lengths)
    return Group(owners, longest, int(lengths.sum()), slots, lengths)


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """start, start + 1, ... (length of them) for each row, end to end."""
    total = int(lengths.sum())
    behind = lengths.cumsum(0) - lengths
    return (starts - behind).repeat_interleave(lengths) + torch.arange(total)


def _to(chunk: Chunk, device: torch.device) -> Chunk:
    groups = tuple(
        Group(
            None if group.owners is None else moved(group.owners, device),
            group.longest,
            group.tokens,
            None if group.slots is None else moved(group.slots, device),
            moved(group.lengths, device),
        )
        for group in chunk.groups
    )
    tokens = chunk.tokens if isinstance(chunk.tokens, slice) else moved(chunk.tokens, device)
    last = moved(chunk.last, device)
    return Chunk(chunk.first, chunk.stop, chunk.follows, tokens, last, groups)
