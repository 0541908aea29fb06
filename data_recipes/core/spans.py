"""Which bytes of which shard to read next, and doing work ahead of its use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

BLOCK = 8 << 20  # bytes of one read: large enough to hide a request's latency
GAP = 1 << 18  # bytes read for nothing rather than asking once more

A = TypeVar("A")
B = TypeVar("B")
Span = tuple[str, int, int]  # shard, offset, size (bytes)


@dataclass(frozen=True)
class Chunk:
    """One read: bytes `start` to `stop` of a shard, and the images that lie in it.

    members: (image id, first byte within the chunk, size).
    """

    shard: str
    start: int
    stop: int
    members: tuple[tuple[str, int, int], ...]


def chunks(
    spans: Iterable[tuple[str, Span]], block: int = BLOCK, gap: int = GAP
) -> Iterator[Chunk]:
    """Put images that lie close together into one read of about `block` bytes at most.

    spans: (image id, span), sorted by shard and offset. An image larger than `block` is one read.
    """
    members: list[tuple[str, int, int]] = []
    shard, start, stop = "", 0, 0
    for image_id, (of, offset, size) in spans:
        apart = of != shard or offset > stop + gap or offset + size > start + block
        if members and apart:
            yield Chunk(shard, start, stop, tuple(members))
            members = []
        if not members:
            shard, start, stop = of, offset, offset
        members.append((image_id, offset - start, size))
        stop = max(stop, offset + size)
    if members:
        yield Chunk(shard, start, stop, tuple(members))


def ahead(
    make: Callable[[A], B], items: Iterable[A], workers: int, depth: int | None = None
) -> Iterator[B]:
    """`map(make, items)` in order, made in `workers` threads up to `depth` results in advance.

    depth: None for as many as there are workers.
    """
    depth = depth or workers
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Never wait here: an iterator that is dropped half-read is closed by whatever thread
        # collects it, perhaps by the very one that the workers are waiting for (fsspec's).
        pool.shutdown(wait=False, cancel_futures=True)
