"""All shards of a dataset, made by worker processes or, where there are few images, right here."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from ctypes import c_byte
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from data_recipes.core.model import DataError
from data_recipes.core.write import Job, Unit, Written, make_shard

POOL_FROM = 200  # images; fewer are read sooner than the processes start
_REPORT_EVERY_S = 0.2
_GRACE_S = 1.0


def make_shards(
    units: Iterator[Unit], job: Job, workers: int, report: Callable[[int], None]
) -> list[Written]:
    """The shards of `units`, in their order; at most `workers` + 1 units are held at a time.

    report: called now and then with the number of images tried so far.

    Raises:
        DataError, OSError: see `make_shard`; DataError also when a worker process dies.
    """
    first: list[Unit] = []
    for unit in units:
        first.append(unit)
        if len(first) > 1 and sum(u.images for u in first) >= POOL_FROM:
            break
    few = len(first) < 2 or sum(u.images for u in first) < POOL_FROM
    units = itertools.chain(first, units)
    if workers > 1 and not few:
        return _in_pool(units, job, workers, report)
    tried = 0

    def tick(images: int) -> None:
        nonlocal tried
        tried += images
        report(tried)

    return [make_shard(unit, job, tick) for unit in units]


def _in_pool(
    units: Iterator[Unit], job: Job, workers: int, report: Callable[[int], None]
) -> list[Written]:
    # Neither fork (the parent may have threads) nor spawn (each worker would import everything).
    context = multiprocessing.get_context("forkserver")
    tried, stop = context.Value("q", 0), context.RawValue(c_byte, 0)
    made: list[Written] = []
    pending: set[Future[Written]] = set()

    def collect(most: int) -> None:
        nonlocal pending
        while len(pending) > most:
            raise_interrupt()
            done, pending = wait(pending, _REPORT_EVERY_S, FIRST_COMPLETED)
            made.extend(future.result() for future in done)
            report(tried.value)

    arguments = (Path.cwd(), tried, stop)
    with (
        _held_interrupt() as raise_interrupt,
        ProcessPoolExecutor(workers, context, _begin, arguments) as pool,
    ):
        try:
            for unit in units:
                raise_interrupt()
                pending.add(pool.submit(_make, unit, job))
                collect(workers)
            collect(0)
        except BrokenProcessPool:
            raise DataError(
                "a worker process died while it read images (too little memory?); finished shards "
                "are kept, the same command continues: try fewer --workers"
            ) from None
        except BaseException:
            stop.value = 1
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(made, key=lambda written: written.name)


@contextmanager
def _held_interrupt() -> Iterator[Callable[[], None]]:
    """Holds Ctrl-C back until the function that it gives is called, which raises it.

    Raised inside the pool's own functions, it would leave their locks locked, and the pool would
    never end.
    """
    if threading.current_thread() is not threading.main_thread():  # gets no Ctrl-C
        yield lambda: None
        return
    pressed = threading.Event()

    def raise_interrupt() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield raise_interrupt
    finally:
        signal.signal(signal.SIGINT, before)


class _StoppedError(Exception):
    """The build ends before this shard is finished."""


_tried: Synchronized[int]
_stop: c_byte


def _begin(folder: Path, tried: Synchronized[int], stop: c_byte) -> None:
    """Make this process a worker that ends with the build, however the build ends.

    folder: the parent's working folder, to which relative paths refer.
    """
    global _tried, _stop
    _tried, _stop = tried, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    os.chdir(folder)
    threading.Thread(target=_end_with_the_build, daemon=True).start()


def _end_with_the_build() -> None:
    """A killed parent tells nobody, and a read that hangs sees no stop: both end here."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while not _stop.value:
        parent.join(_REPORT_EVERY_S)
        if not parent.is_alive():
            os._exit(1)
    time.sleep(_GRACE_S)
    os._exit(1)


def _tick(images: int) -> None:
    with _tried.get_lock():
        _tried.value += images
    if _stop.value:
        raise _StoppedError


def _make(unit: Unit, job: Job) -> Written:
    return make_shard(unit, job, _tick)
