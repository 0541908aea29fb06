"""Samples dealt to ranks for encoding, and their features brought together again.

Samples are dealt in whole batches, so that each is encoded in the same batch as on one rank: a
matrix product's last bits depend on the shape of the batch, and this way nothing changes. Every
rank encodes equally many batches (past the end, the last one again); the padding is cut off after
the gather.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from bench.train import Engine

ALONE = Engine()
MESSAGE = 1_000  # bytes


class OtherRankError(RuntimeError):
    """Another rank failed while it encoded its samples; names the rank and its error."""


def dealt(rows: int, size: int, engine: Engine) -> list[slice]:
    """This rank's batches of `size` rows: a run of consecutive ones, equally many on all ranks."""
    batches = -(-rows // size)
    count = -(-batches // engine.world_size)
    numbers = [min(engine.rank * count + n, batches - 1) for n in range(count)]
    return [slice(number * size, min((number + 1) * size, rows)) for number in numbers]


def gather(
    encode: Callable[[list[slice]], Tensor],
    rows: int,
    size: int,
    engine: Engine = ALONE,
    everywhere: bool = False,
) -> Tensor:
    """Features (rows, D) of `rows` samples, encoded by all ranks in batches of `size`.

    encode: a rank's batches -> the features of their rows in order. All ranks call this; the
    result is on rank 0, and on every rank with `everywhere`, else (0, D). With one rank no process
    group is needed. Bits are equal on any number of ranks with equally many threads.

    Raises:
        OtherRankError: on the other ranks, when `encode` raises on one.
        ValueError: the ranks do not hold the same samples.
    """
    if engine.world_size == 1:
        return encode(dealt(rows, size, engine))
    failure: Exception | None = None
    own = torch.empty(0, 0)
    try:
        own = encode(dealt(rows, size, engine))
    except Exception as error:
        failure = error
    found = _agree(f"{rows} rows by {size}, {tuple(own.shape[1:])}, {own.dtype}", failure, engine)
    if len(set(found)) != 1:  # they would wait for different tensors
        raise ValueError(f"the ranks hold different samples: {found}")
    count = -(-rows // (size * engine.world_size)) * size
    padded = own.new_zeros(count, *own.shape[1:])
    padded[: len(own)] = own
    if not (everywhere or engine.rank == 0):
        dist.gather(padded, None, dst=0)
        return own[:0]
    whole = own.new_empty(count * engine.world_size, *own.shape[1:])
    pieces = list(whole.chunk(engine.world_size))
    if everywhere:
        dist.all_gather(pieces, padded)
    else:
        dist.gather(padded, pieces, dst=0)
    return whole[:rows]


def on_all_ranks(work: Callable[[], bool], engine: Engine) -> bool:
    """Whether `work` returns True on every rank; they wait for each other.

    Raises what `work` raises, and OtherRankError on the other ranks.
    """
    if engine.world_size == 1:
        return work()
    failure: Exception | None = None
    found = False
    try:
        found = work()
    except Exception as error:
        failure = error
    return set(_agree(str(found), failure, engine)) == {str(True)}


def _agree(said: str, failure: Exception | None, engine: Engine) -> list[str]:
    """What every rank says; fails on all ranks where one failed."""
    found = _exchange(said if failure is None else f"!{type(failure).__name__}: {failure}", engine)
    if failure is not None:
        raise failure
    for rank, text in enumerate(found):
        if text.startswith("!"):
            raise OtherRankError(f"rank {rank}: {text[1:]}")
    return found


def _exchange(text: str, engine: Engine) -> list[str]:
    """Every rank's text, cut at MESSAGE bytes. On the engine's device, as NCCL wants it."""
    own = torch.zeros(MESSAGE, dtype=torch.uint8)
    data = text.encode()[:MESSAGE]
    own[: len(data)] = torch.tensor(list(data), dtype=torch.uint8)
    own = own.to(engine.device)
    found = [torch.empty_like(own) for _ in range(engine.world_size)]
    dist.all_gather(found, own)
    return [bytes(one.tolist()).rstrip(b"\0").decode(errors="replace") for one in found]
