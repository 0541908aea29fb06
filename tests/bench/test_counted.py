"""The pass over a block: thresholds that few and many reach, and products not to be trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench import counted as module
from bench.counted import Counted, Want, counted
from bench.pairs import Named
from bench.tiles import Whole
from bench.workers import Inline, Workers
from data_recipes.core.model import Query

ROWS, COUNT = 12, 3_000
CPU = torch.device("cpu")


class Shifted(Whole):
    """Other numbers when asked for single ones, as a product of another shape may give."""

    def at(self, first: int, columns: Tensor) -> Tensor:
        return super().at(first, columns) + 1.5


class Changing(Whole):
    """Other numbers each time."""

    def tile(self, low: int, high: int) -> Tensor:
        self.values += 1
        return super().tile(low, high)


def case(seed: int) -> tuple[Named, Tensor]:
    """Many ties; relevant candidates at the top, in the middle and at the bottom."""
    values = torch.randint(-300, 300, (ROWS, COUNT), generator=torch.Generator().manual_seed(seed))
    order = values.argsort(dim=1, descending=True)
    places = (0, 3, 40, 900, COUNT - 1)
    queries = [
        Query(str(n), text="x", relevant=tuple(str(int(order[n, p])) for p in places[n % 3 :]))
        for n in range(ROWS)
    ]
    return Named.of(queries, {str(n): n for n in range(COUNT)}), values.float()


def expected(named: Named, values: Tensor, strict: bool) -> list[list[int]]:
    found = []
    for row, relevant in zip(values.numpy(), named.relevant, strict=True):
        own = np.sort(row[relevant[relevant >= 0]])[::-1]
        others = np.delete(row, relevant[relevant >= 0])
        above = [(others > v).sum() if strict else (others >= v).sum() for v in own]
        found.append([int(n) + r + 1 for r, n in enumerate(above)])
    return found


def ranks(table: Tensor) -> list[list[int]]:
    return [[int(r) for r in row if r > 0] for row in table]


def run(block: Whole, named: Named, workers: Inline) -> Counted:
    return counted(block, named, Want(k=5, favoured=True), workers, CPU)


@pytest.mark.parametrize("turn", [0.0, module.TURN, 10.0])
@pytest.mark.parametrize("threads", [1, 3])
def test_counts_are_those_of_a_loop_whatever_they_are_made_of(
    turn: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that costs nothing counts all thresholds in turns; a dear one takes all out."""
    monkeypatch.setattr(module, "TURN", turn)
    monkeypatch.setattr("bench.taken.WAITING", 500)
    monkeypatch.setattr("bench.tiles.SHARE", ROWS * 100)
    named, values = case(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with Workers() as workers:
            found = run(Whole(0, ROWS, values), named, workers)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert ranks(found.whole.hard) == expected(named, values, strict=False)
    assert ranks(found.whole.favoured) == expected(named, values, strict=True)
    assert found.first is not None
    best = values.sort(dim=1, descending=True, stable=True).indices[:, :5]
    assert torch.equal(found.first, best)


def test_the_tiles_decide_when_single_products_differ() -> None:
    named, values = case(1)
    right = run(Whole(0, ROWS, values), named, Inline())
    found = run(Shifted(0, ROWS, values), named, Inline())
    assert torch.equal(found.whole.hard, right.whole.hard)
    assert torch.equal(found.whole.tied, right.whole.tied)


def test_a_product_that_changes_each_time_is_refused() -> None:
    named, values = case(2)
    with pytest.raises(ArithmeticError, match="changes from one time to the next"):
        run(Changing(0, ROWS, values), named, Inline())
