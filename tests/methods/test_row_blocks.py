"""Rows in blocks: every row stands whole and sees itself alone; features equal open_clip's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from methods.core import prefix_chunks
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.row_blocks import PLACES, RowBlocks, lay_rows

LENGTHS = np.array([2, 9, 2, 31, 5, 2, 2, 17, 9, 1, 2, 14])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


@given(st.lists(st.integers(1, 15), min_size=1, max_size=60))
def test_every_row_stands_whole_in_one_block(lengths: list[int]) -> None:
    laid = lay_rows(np.array(lengths), 16)
    taken = set[int]()
    for first, last, length in zip(laid.first, laid.last, lengths, strict=True):
        own = range(int(first), int(last) + 1)
        assert len(own) == length and own[0] // 16 == own[-1] // 16
        assert not taken & set(own)
        taken |= set(own)
        assert laid.depth[own].tolist() == [*range(1, length + 1)]
        for place in own:
            seen = np.flatnonzero(laid.sees[place // 16, place % 16]) + place // 16 * 16
            assert seen.tolist() == [place // 16 * 16, *range(own[0], place + 1)]
    starts = range(0, len(laid.depth), 16)
    assert not taken & set(starts), "the start token's places"
    assert laid.depth[starts].tolist() == [0] * len(starts)
    assert laid.sees.any(axis=2).all(), "a place that sees nothing has no softmax"


def test_short_rows_fill_what_long_ones_leave() -> None:
    laid = lay_rows(np.array([25] * 4 + [2] * 12))
    assert laid.sees.shape == (4, PLACES, PLACES)
    assert lay_rows(np.array([PLACES - 1])).sees.shape[1] == PLACES
    assert lay_rows(np.array([PLACES])).sees.shape[1] == PLACES + 8


@pytest.mark.parametrize("lengths", [[], [3, 0], [3, 16]])
def test_rows_that_no_block_holds_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="rows of 1 to 15 tokens"):
        lay_rows(np.array(lengths, dtype=np.int64), 16)


def run(backbone: Backbone, rows: list[Tensor]) -> tuple[Tensor, RowBlocks]:
    tower = backbone.text
    laid = lay_rows(np.array([len(row) for row in rows]))
    start = tower.embed(tower.tokenize([""])[0, :1])
    places = start.repeat(len(laid.depth), 1)
    for first, row in zip(laid.first, rows, strict=True):
        places = places.index_copy(0, torch.arange(len(row)) + int(first), row)
    return tower.encode_rows(places, laid), laid


@pytest.mark.parametrize("kept", [None, 40])
def test_features_and_gradients_equal_open_clips(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, kept: int | None
) -> None:
    """In one chunk, and in several that are computed again for the gradient."""
    if kept is not None:
        monkeypatch.setattr(prefix_chunks, "KEPT_TOKENS", kept)
        monkeypatch.setattr(prefix_chunks, "chunk_tokens", lambda _: kept)
    tower, drawn = backbone.text, torch.Generator().manual_seed(0)
    rows = [
        (torch.randn(int(n), tower.width, generator=drawn) * 0.02).requires_grad_() for n in LENGTHS
    ]
    found, laid = run(backbone, rows)
    assert len(laid.sees) > 1
    start = tower.embed(tower.tokenize([""])[0, :1])
    expected = torch.cat(
        [tower.encode(torch.cat([start, row])[None], torch.tensor([len(row)])) for row in rows]
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    pull = torch.randn(found.shape, generator=drawn)
    grads = torch.autograd.grad((found * pull).sum(), rows)
    for own, other in zip(grads, torch.autograd.grad((expected * pull).sum(), rows), strict=True):
        assert (own - other).norm() <= 1e-4 * other.norm()
