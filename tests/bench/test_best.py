"""The first k of every row, kept by several threads, against a stable sort."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.best import Best
from bench.scan import at_least, count

ROWS, TILE = 5, 40
NONE = float("-inf")


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 60), st.booleans())
def test_two_that_share_a_bar_keep_what_a_sort_has_first(
    seed: int, k: int, start: int, rising: bool
) -> None:
    """Many ties, candidates that are none, tiles taken by either one in turn."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-6, 7, (ROWS, 6 * TILE), generator=generator).float()
    if rising:
        values = values.sort(dim=1).values
    values[torch.rand(values.shape, generator=generator) < 0.2] = NONE
    values[0] = NONE  # no candidate at all
    bar = torch.full((ROWS,), NONE)
    both = (Best(k, bar), Best(k, bar))
    for number in range(6):
        tile = values[:, number * TILE : (number + 1) * TILE]
        one = both[int(torch.randint(2, (1,), generator=generator))]
        one.start(tile[:, :start])
        rows, columns, found = at_least(tile, one.floor())
        one.add(rows, columns + number * TILE, found)
    for one in both:
        one.settle()
    both[0].merge(both[1].keys)
    best, order = values.sort(dim=1, descending=True, stable=True)
    expected = torch.where(best > NONE, order, -1)[:, :k]
    assert torch.equal(both[0].columns(), expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 2_500), st.floats(0, 1))
def test_a_look_at_a_tile_is_a_comparison(seed: int, rows: int, width: int, share: float) -> None:
    """Any width, from no hit to all; the tile may be a part of a wider one."""
    values = torch.rand(rows, width + 3, generator=torch.Generator().manual_seed(seed))[:, 1:-2]
    floor = torch.full((rows,), 1 - share)
    expected = (values >= floor[:, None]).nonzero(as_tuple=True)
    where = at_least(values, floor)
    assert torch.equal(where[0], expected[0]) and torch.equal(where[1], expected[1])
    assert torch.equal(where[2], values[expected])
    assert torch.equal(count(values, floor), (values >= floor[:, None]).sum(dim=1))
    assert torch.equal(count(values, floor, strict=True), (values > floor[:, None]).sum(dim=1))
