"""Threads for ranking, each with one thread of torch's own.

Two threads with a product each need not wait for one another at the end of every tile, as two
threads of one product do; and a product's bits cannot depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Inline:
    """The calling thread alone: on a GPU, and inside of a worker."""

    count = 1

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """The results in order."""
        return [work(item) for item in items]


class Workers(Inline):
    """As many threads as torch has; a context, at whose end torch has them again.

    torch.set_num_threads holds for the calling thread and for threads that begin afterwards.
    """

    def __init__(self) -> None:
        self.count = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(
            self.count, initializer=torch.set_num_threads, initargs=(1,)
        )

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """The results in order; the first error is raised."""

        def alone(item: Item) -> Result:
            with torch.no_grad():  # a thread begins without its parent's
                return work(item)

        return list(self._pool.map(alone, items))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self.count)
