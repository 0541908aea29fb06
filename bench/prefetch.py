"""Batches made ahead of their steps, in one background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

AHEAD = 2  # batches that are ready or in the making while a step runs

A = TypeVar("A")
B = TypeVar("B")


def prefetched(
    make: Callable[[A], B], items: Iterable[A], device: str, wanted: bool
) -> Generator[tuple[A, B], None, None]:
    """(item, make(item)) in order. Close it: then its thread has ended.

    wanted: False makes each when it is asked for, in the asking thread. An error of `make` is
    raised when its item's turn comes. What the thread asks of a GPU runs in the order in which it
    was asked, on the one stream that the steps use too, so that a batch is there when its step is.
    """
    if not wanted:
        for item in items:
            yield item, make(item)
        return
    pool = ThreadPoolExecutor(1, "batches", _use_device, (_current(device),))
    waiting: deque[tuple[A, Future[B]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(make, item)))
            if len(waiting) > AHEAD:
                first, made = waiting.popleft()
                yield first, made.result()
        while waiting:
            first, made = waiting.popleft()
            yield first, made.result()
    finally:
        # The batch in the making is waited for: it uses pixels that the scoring will use.
        pool.shutdown(wait=True, cancel_futures=True)


def _current(device: str) -> int | None:
    """The GPU that "cuda" means in this thread; a new thread would take the first one."""
    return torch.cuda.current_device() if device.startswith("cuda") else None


def _use_device(current: int | None) -> None:
    if current is not None:
        torch.cuda.set_device(current)
