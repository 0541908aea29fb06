"""Reading in blocks: every image once, in order, in few reads; work ahead keeps its order."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.core.spans import Span, ahead, chunks


@st.composite
def layouts(draw: st.DrawFn) -> list[tuple[str, Span]]:
    """Images of some shards, in order, with gaps between them."""
    spans: list[tuple[str, Span]] = []
    for shard in range(draw(st.integers(0, 3))):
        offset = 0
        for gap, size in draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)))):
            offset += gap
            spans.append((f"i{len(spans)}", (f"s{shard}", offset, size)))
            offset += size
    return spans


@given(layouts(), st.integers(1, 100), st.integers(0, 20))
def test_chunks_hold_every_image_once_in_order(
    spans: list[tuple[str, Span]], block: int, gap: int
) -> None:
    found = list(chunks(spans, block, gap))
    held = [(i, (c.shard, c.start + at, size)) for c in found for i, at, size in c.members]
    assert held == spans
    for chunk in found:
        ends = [at + size for _, at, size in chunk.members]
        assert chunk.stop - chunk.start == max(ends)
        assert chunk.stop - chunk.start <= block or len(chunk.members) == 1
        assert all(
            at - end <= gap for (_, at, _), end in zip(chunk.members[1:], ends[:-1], strict=True)
        )
    for one, other in pairwise(found):  # and no read could have been spared
        apart = other.start - one.stop > gap
        size = other.members[0][2]
        assert one.shard != other.shard or apart or other.start + size - one.start > block


def test_ahead_keeps_the_order_and_makes_few_in_advance() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        time.sleep(0.01 if number % 2 else 0)
        made.append(number)
        return -number

    results = ahead(make, range(50), workers=3)
    assert next(results) == 0
    assert max(made) <= 3
    assert list(results) == [-n for n in range(1, 50)]


def test_ahead_ends_its_threads_and_passes_errors_on() -> None:
    before = threading.active_count()

    def make(number: int) -> float:
        return 1 / number

    results = ahead(make, [2, 0, 1], workers=2)
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)
    abandoned = ahead(make, range(1, 100), workers=2)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < end, "threads of work that nobody wants live on"
        time.sleep(0.01)


def test_dropping_half_read_work_waits_for_nothing() -> None:
    """The thread that drops it may be the one that the workers wait for."""
    go = threading.Event()

    def make(number: int) -> int:
        if number:
            assert go.wait(10)
        return number

    results = ahead(make, range(4), workers=1)
    assert next(results) == 0
    closed = threading.Thread(target=results.close, daemon=True)  # type: ignore[attr-defined]
    closed.start()
    closed.join(5)
    alive = closed.is_alive()
    go.set()
    assert not alive
