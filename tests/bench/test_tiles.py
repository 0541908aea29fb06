"""Tiles of the gallery and the bound on similarities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.tiles import LEAST, products


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


def test_a_product_that_may_overflow_is_seen() -> None:
    """The bound is 1e37; several tiles, and two blocks that share what they know of them."""

    def sure(queries: Tensor, gallery: Tensor) -> list[bool]:
        found = []
        for block in products(queries, gallery, LEAST * 2 * LEAST):
            for low, high in block.edges:
                block.tile(low, high)
            found.append(block.surely_finite())
        return found

    queries, gallery = torch.full((1_000, 4), 1e15), torch.full((3 * LEAST, 4), 1e15)
    assert sure(queries, gallery) == [True, True]
    assert sure(queries * 1e6, gallery * 1e4) == [False, False]
    for bad in (float("nan"), float("inf")):
        spoiled = gallery.clone()
        spoiled[-1, 3] = bad
        assert sure(queries, spoiled) == [False, False]
        spoiled = queries.clone()
        spoiled[-1, 3] = bad
        assert sure(spoiled, gallery) == [True, False]
