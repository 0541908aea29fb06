"""What two threads take out of tiles, against a stable sort and a comparison."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import taken as module
from bench.scan import at_least
from bench.taken import Taken, most_rows

ROWS, TILE = 5, 40
NONE = float("-inf")


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 12),
    st.integers(0, 60),
    st.booleans(),
    st.integers(0, 4),
    st.sampled_from([6 * TILE, 2**27]),
)
def test_two_that_share_a_bar_keep_what_a_sort_has_first_and_count_what_reaches(
    seed: int, k: int, start: int, rising: bool, marks: int, size: int
) -> None:
    """Many ties, candidates that are none, tiles taken by either one in turn, a vast gallery."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-6, 7, (ROWS, 6 * TILE), generator=generator).float()
    if rising:
        values = values.sort(dim=1).values
    values[torch.rand(values.shape, generator=generator) < 0.2] = NONE
    values[0] = NONE  # no candidate at all
    bar = torch.full((ROWS,), NONE)
    rows = torch.randint(ROWS, (marks,), generator=generator)
    thresholds = torch.randint(-6, 7, (marks,), generator=generator).float()
    both = [Taken(k, bar, rows, thresholds, size) for _ in range(2)]
    first = size - 6 * TILE  # its places are the last ones
    for number in range(6):
        tile = values[:, number * TILE : (number + 1) * TILE]
        one = both[int(torch.randint(2, (1,), generator=generator))]
        one.start(tile[:, :start])
        where, columns, found = at_least(tile, one.floor())
        one.add(where, columns + first + number * TILE, found)
    for one in both:
        one.settle()
    reach, above = (sum(getattr(one, what) for one in both) for what in ("reach", "above"))
    assert torch.equal(reach, (values[rows] >= thresholds[:, None]).sum(dim=1))
    assert torch.equal(above, (values[rows] > thresholds[:, None]).sum(dim=1))
    if k:
        both[0].merge(both[1].keys)
        best, order = values.sort(dim=1, descending=True, stable=True)
        expected = torch.where(best > NONE, order + first, -1)[:, :k]
        assert torch.equal(both[0].columns(), expected)


@pytest.mark.parametrize("candidates", [1, 123_403, 2**20, 2**27, 2**31 - 1])
def test_the_last_row_and_place_fit_into_a_number(candidates: int) -> None:
    rows = min(most_rows(candidates), 2_048)
    one = Taken(1, torch.full((rows,), NONE), torch.tensor([rows - 1]), torch.ones(1), candidates)
    largest = torch.finfo(torch.float32).max
    one.add(torch.tensor([rows - 1]), torch.tensor([candidates - 1]), torch.tensor([largest]))
    one.settle()
    assert one.columns()[-1].tolist() == [candidates - 1]
    assert (one.reach.tolist(), one.above.tolist()) == ([1], [1])


def test_much_is_counted_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    one = Taken(0, torch.full((1,), NONE), torch.zeros(1, dtype=torch.int64), torch.ones(1), 9)
    one.add(torch.zeros(4, dtype=torch.int64), torch.arange(4), torch.tensor([1.0, 2, 3, 1]))
    assert (one.reach.tolist(), one.above.tolist()) == ([4], [2])
