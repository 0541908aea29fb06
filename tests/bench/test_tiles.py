"""Tiles of the gallery and the bound on similarities."""

from __future__ import annotations

import pytest
import torch

from bench import tiles
from bench.tiles import LEAST, products, surely_finite


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("count", [1, 300, 2_000, 20_001])
def test_tiles_cover_the_gallery_and_can_be_shared_evenly(threads: int, count: int) -> None:
    queries, gallery = torch.ones(LEAST, 2), torch.ones(count, 2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (block,) = products(queries, gallery, 700 * LEAST)
    finally:
        torch.set_num_threads(before)
    assert [low for low, _ in block.edges] == [0, *(high for _, high in block.edges[:-1])]
    assert block.edges[-1][1] == count
    widths = [high - low for low, high in block.edges]
    assert max(widths) <= 700 and max(widths) - min(widths) <= 1
    if len(widths) > 1:
        assert min(widths) >= LEAST
        assert len(widths) % threads == 0 or count < 2 * LEAST * (len(widths) + threads)


@pytest.mark.parametrize("part", [3, 10**6])
def test_a_product_that_may_overflow_is_seen(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever parts the numbers are squared; the bound is 1e37."""
    monkeypatch.setattr(tiles, "_PART", part)
    queries, gallery = torch.full((2, 4), 1e15), torch.full((7, 4), 1e15)
    assert surely_finite(queries, gallery)
    assert not surely_finite(queries * 1e6, gallery * 1e4)
    for bad in (float("nan"), float("inf")):
        spoiled = gallery.clone()
        spoiled[6, 3] = bad
        assert not surely_finite(queries, spoiled)
        assert not surely_finite(spoiled, queries)
