"""Looks at a tile, against torch's own comparison."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.scan import at_least, count


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 2_500), st.floats(0, 1), st.data()
)
def test_a_look_at_a_tile_is_a_comparison(
    seed: int, rows: int, width: int, share: float, data: st.DataObject
) -> None:
    """Any width, from no hit to all, few rows or all; the tile may be a part of a wider one."""
    values = torch.rand(rows, width + 3, generator=torch.Generator().manual_seed(seed))[:, 1:-2]
    floor = torch.full((rows,), 1 - share)
    expected = (values >= floor[:, None]).nonzero(as_tuple=True)
    where = at_least(values, floor)
    assert torch.equal(where[0], expected[0]) and torch.equal(where[1], expected[1])
    assert torch.equal(where[2], values[expected])
    some = sorted(data.draw(st.sets(st.integers(0, rows - 1), min_size=1)))
    which, least = torch.tensor(some), values[some, 0]
    assert torch.equal(count(values, which, least), (values[some] >= least[:, None]).sum(dim=1))
    more = count(values, which, least, strict=True)
    assert torch.equal(more, (values[some] > least[:, None]).sum(dim=1))
