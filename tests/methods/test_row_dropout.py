"""Dropout by row: its rate, what it depends on, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.core.row_dropout import row_masks

ROWS = np.arange(64)


def kept(seed: int = 1, epoch: int = 0, number: int = 0, rate: float = 0.5) -> torch.Tensor:
    return row_masks(seed, epoch, ROWS, np.full(64, number), 256, rate) > 0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_units_are_dropped_at_the_rate_and_the_mean_is_kept(rate: float) -> None:
    found = row_masks(3, 5, np.arange(400), np.zeros(400), 512, rate)
    assert found.shape == (400, 512) and found.dtype == torch.float32
    torch.testing.assert_close(found.unique(), torch.tensor([0.0, 1 / (1 - rate)]))
    dropped = (found == 0).double()
    deviation = (rate * (1 - rate)) ** 0.5
    for dim, count in ((None, 400 * 512), (0, 400), (1, 512)):
        share = dropped.mean() if dim is None else dropped.mean(dim=dim)
        assert (share - rate).abs().max() < 5 * deviation / count**0.5


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"epoch": 1}, {"number": 1}, {"seed": 2**63 + 1}, {"seed": 1 + 2**32}]
)
def test_masks_of_other_seeds_epochs_and_images_are_independent(other: dict[str, int]) -> None:
    agree = (kept() == kept(**other)).double().mean()
    assert abs(float(agree) - 0.5) < 5 * 0.5 / (64 * 256) ** 0.5


def test_rows_and_units_are_independent() -> None:
    signs = kept().double() * 2 - 1
    for own in (signs @ signs.T / 256, signs.T @ signs / 64):
        count = 256 if len(own) == 64 else 64
        others = own[~torch.eye(len(own), dtype=torch.bool)]
        assert others.abs().max() < 6 / count**0.5
        assert abs(float(others.square().mean()) * count - 1) < 0.1


def test_a_row_has_its_mask_wherever_it_stands() -> None:
    rows, number = np.array([7, 3, 7, 9]), np.array([0, 1, 2, 0])
    whole = row_masks(1, 2, rows, number, 32, 0.3)
    order = np.array([2, 0, 3])
    assert torch.equal(row_masks(1, 2, rows[order], number[order], 32, 0.3), whole[order])
    assert not torch.equal(whole[0], whole[2]), "two images of a row"
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(row_masks(1, 2, rows, number, 32, 0.3), whole)
    assert torch.equal(torch.get_rng_state(), before), "torch's generator was asked"
