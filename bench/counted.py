"""One pass over a block of similarities: counts for the ranks, and the first k.

No sorting: the rank of a relevant candidate is one more than the number of candidates above it:
all that compare so in its row, less the relevant ones among them. A threshold that few candidates
reach is counted from those few, which the search for the first k takes out in any case; one that
many reach is counted on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.pairs import Named, Pairs
from bench.scan import at_least, count, rising
from bench.taken import Taken
from bench.tiles import LEAST, Block
from bench.workers import Inline

GLANCE = 256  # columns that tell how many candidates reach a threshold
START = 2_048  # columns whose k-th best bounds the first k
TURN = 1 / 96  # of the candidates taken out of a row cost what counting all of it once does
_NONE = float("-inf")


@dataclass(frozen=True)
class Want:
    """What a search is asked for.

    k, subset_k: candidates of each query's gallery and of its subset to list; 0: none.
    favoured: also the ranks in which relevant candidates win ties.
    """

    k: int = 0
    subset_k: int = 0
    favoured: bool = False


@dataclass(frozen=True)
class Ranked:
    """Ranks (b, R), 0 as padding, with ties lost and (favoured) won; pays (b, R); tied (b,).

    See `bench.ranking.Rankings`. Without `Want.favoured` those ranks mean nothing.
    """

    hard: Tensor
    favoured: Tensor
    pays: Tensor
    tied: Tensor


@dataclass(frozen=True)
class Counted:
    """A block's results. first, subset_first: candidate rows, best first, -1 as padding."""

    whole: Ranked
    subset: Ranked | None
    first: Tensor | None
    subset_first: Tensor | None


def counted(
    block: Block, named: Named, want: Want, workers: Inline, device: torch.device
) -> Counted:
    """Rank the queries of `block`. named: what these queries name, with rows from 0.

    Raises:
        ArithmeticError: the same product gives other numbers each time.
    """
    relevant, pooled = _tensor(named.relevant, device), _tensor(named.pooled, device)
    firsts = range(0, len(relevant), LEAST)
    own = torch.cat(workers.map(lambda r: block.at(r, relevant[r : r + LEAST]), firsts))
    for _ in range(3):
        thresholds = _Thresholds.of(own, pooled)
        bar = torch.full_like(thresholds.values[:, 0], _NONE, dtype=torch.float32)
        edges = iter(block.edges)  # each worker takes the next one

        def work(_: int, thresholds: _Thresholds = thresholds, bar: Tensor = bar) -> _Pass:
            one = _Pass(block, named, thresholds, want, bar)
            for low, high in edges:  # noqa: B023  # all of this turn's workers share them
                one.take(low, high)
            one.settle()
            return one

        passes = workers.map(work, range(min(workers.count, len(block.edges))))
        one = _together(passes)
        if torch.allclose(one.seen.values, own, rtol=0, atol=0, equal_nan=True):
            break
        own = one.seen.values  # the product depends on its shape after all: its tiles decide
    else:
        raise ArithmeticError("the product of the same features changes from one time to the next")
    credit = _tensor(named.credit, device)
    subset = subset_first = None
    if one.members is not None and named.subset is not None:
        members = one.members.values
        inside = _Thresholds.of(own, _tensor(named.inside, device))
        reach, above = torch.zeros_like(relevant), torch.zeros_like(relevant)
        for turn in inside.turns(inside.values > _NONE, want):
            turn.count(members, reach, above)
        subset = inside.ranked(reach, above, credit)
        if want.subset_k:
            order = members.sort(dim=1, descending=True, stable=True).indices
            rows = _tensor(named.subset, device)
            subset_first = rows.gather(1, order)[:, : want.subset_k]
    whole = one.thresholds.ranked(one.reach, one.above, credit)
    first = one.taken.columns() if one.taken is not None and want.k else None
    return Counted(whole, subset, first, subset_first)


@dataclass(frozen=True)
class _Turn:
    """A threshold r for each of some rows, ascending. least: (n,) its similarity."""

    strict: bool
    rows: Tensor
    r: Tensor
    least: Tensor

    def count(self, values: Tensor, reach: Tensor, above: Tensor) -> None:
        """Add how many of `values` (b, w) reach, or exceed, the thresholds."""
        found = count(values, self.rows, self.least, self.strict)
        (above if self.strict else reach)[self.rows, self.r] += found


@dataclass(frozen=True)
class _Thresholds:
    """Similarities (b, R) of relevant candidates, falling, -infinity where there is none.

    order: their places before; equal ones keep theirs. width: the most of them in a row.
    """

    values: Tensor
    order: Tensor
    width: int

    @classmethod
    def of(cls, own: Tensor, there: Tensor) -> _Thresholds:
        values, order = own.masked_fill(~there, _NONE).sort(dim=1, descending=True, stable=True)
        return cls(values, order, int((values > _NONE).sum(dim=1).max()))

    def strict(self, want: Want) -> int:
        """How many thresholds' equals are counted: the first tells whether there is a tie."""
        return self.width if want.favoured else min(1, self.width)

    def turns(self, which: Tensor, want: Want) -> list[_Turn]:
        """The counts that the thresholds in `which` (b, R) need, one of each row in a turn."""
        found = []
        places = which.long().cumsum(dim=1).masked_fill(~which, 0)
        for turn in range(1, int(places.max()) + 1):
            all_rows, all_r = (places == turn).nonzero(as_tuple=True)
            first = all_r < self.strict(want)
            both = ((False, all_rows, all_r), (True, all_rows[first], all_r[first]))
            for strict, rows, r in both:
                if len(rows):
                    found.append(_Turn(strict, rows, r, self.values[rows, r]))
        return found

    def ranked(self, reach: Tensor, above: Tensor, credit: Tensor) -> Ranked:
        """Ranks from the candidates (b, R) that reach and exceed each threshold."""
        present = self.values > _NONE
        turned = (-self.values).contiguous()
        equal_too = torch.searchsorted(turned, turned, right=True)  # relevant ones that reach it
        before = torch.searchsorted(turned, turned)
        place = torch.arange(1, turned.shape[1] + 1, device=turned.device)
        tied = reach[:, 0] - above[:, 0] > equal_too[:, 0] - before[:, 0]
        return Ranked(
            torch.where(present, reach - equal_too + place, 0),
            torch.where(present, above - before + place, 0),
            torch.where(present, credit.gather(1, self.order), 1.0),
            tied & present[:, 0],
        )


class _Pass:
    """Some tiles of a block, in order.

    seen: the relevant candidates' similarities as the tiles have them. members: those of the
    subset's candidates, or None. reach, above: (b, R) candidates that reach and exceed each
    threshold.
    """

    def __init__(
        self, block: Block, named: Named, thresholds: _Thresholds, want: Want, bar: Tensor
    ) -> None:
        values, order = thresholds.values, thresholds.order
        device = values.device
        self.block, self.want, self.thresholds = block, want, thresholds
        self.reach, self.above = torch.zeros_like(order), torch.zeros_like(order)
        self.seen = _Table(named.relevant, values)
        self.members = None if named.subset is None else _Table(named.subset, values)
        self.taken: Taken | None = None
        self._bar = bar
        self._barred = _Placed(named.barred, device)
        self._gallery = _Placed(named.gallery, device)
        self._bounded = _tensor(named.own, device) if named.own.any() else None
        self._few = torch.zeros_like(order, dtype=torch.bool)  # thresholds that few reach
        self._turns: list[_Turn] = []  # for those that many reach

    def take(self, low: int, high: int) -> None:
        """Look at the tile of candidates `low` to `high`; later tiles have later candidates."""
        tile = self.block.tile(low, high)
        self.seen.collect(low, tile)
        if self.members is not None:
            self.members.collect(low, tile)
        values = self._allowed(low, tile)
        if self.taken is None:
            self.taken = self._begin(values)
        if not self.taken.idle:
            rows, columns, found = at_least(values, self.taken.floor())
            self.taken.add(rows, columns + low, found)
        for turn in self._turns:
            turn.count(values, self.reach, self.above)

    def settle(self) -> None:
        """Count and list what was taken out."""
        if self.taken is not None:
            self.taken.settle()
            self.reach[self._few] += self.taken.reach
            self.above[self._few] += self.taken.above

    def _allowed(self, low: int, tile: Tensor) -> Tensor:
        """The tile with -infinity for what is not ranked."""
        high, private = low + tile.shape[1], self.block.private
        if self._bounded is not None:
            rows, columns = self._gallery.between(low, high)
            kept = tile.masked_fill(self._bounded[:, None], _NONE)
            kept[rows, columns] = tile[rows, columns]
            tile, private = kept, True
        rows, columns = self._barred.between(low, high)
        if len(rows):
            tile = tile if private else tile.clone()
            tile[rows, columns] = _NONE
        return tile

    def _begin(self, values: Tensor) -> Taken:
        """Begin to take out: part the thresholds (b, R) that few candidates reach from the others.

        Judged by the first candidates.
        """
        thresholds = self.thresholds.values
        present = thresholds > _NONE
        glance = rising(values[:, :GLANCE])
        reach = 1 - torch.searchsorted(glance, thresholds) / glance.shape[1]
        # Cost of taking out what reaches the first r, and of a turn for each of the others.
        turns = present.sum(dim=1, keepdim=True) - present.cumsum(dim=1)
        cost = (reach + TURN * turns).masked_fill(~present, float("inf"))
        cost = torch.cat([TURN * present.sum(dim=1, keepdim=True), cost], dim=1)
        few = present & (
            torch.arange(present.shape[1], device=cost.device) < cost.argmin(1)[:, None]
        )
        if values.dtype != torch.float32:  # no whole numbers for them
            few = torch.zeros_like(few)
        self._few, self._turns = few, self.thresholds.turns(present & ~few, self.want)
        rows = few.nonzero()[:, 0]
        count = self.block.edges[-1][1]
        taken = Taken(self.want.k, self._bar, rows, thresholds[few].float(), count)
        taken.start(values[:, :START])
        return taken


def _together(passes: list[_Pass]) -> _Pass:
    """The first pass that had a tile, with the others' results added."""
    first, *others = [one for one in passes if one.taken is not None]
    for other in others:
        first.reach += other.reach
        first.above += other.above
        first.seen.join(other.seen)
        if first.members is not None and other.members is not None:
            first.members.join(other.members)
        if first.taken is not None and other.taken is not None and first.taken.k:
            first.taken.merge(other.taken.keys)
    return first


class _Placed:
    """(query row, candidate row) pairs, found by candidate."""

    def __init__(self, pairs: Pairs, device: torch.device) -> None:
        self.order = np.argsort(pairs.columns, kind="stable")
        self._columns = pairs.columns[self.order]
        self._rows = _tensor(pairs.rows[self.order], device)
        self._placed = _tensor(self._columns, device)

    def within(self, start: int, stop: int) -> slice:
        """The pairs with candidates start to stop."""
        low, high = np.searchsorted(self._columns, [start, stop])
        return slice(int(low), int(high))

    def between(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Rows and columns, counted from `start`, of the pairs with candidates start to stop."""
        here = self.within(start, stop)
        return self._rows[here], self._placed[here] - start


class _Table:
    """A table (b, R) of candidate rows, -1 as padding, and their similarities `values`."""

    def __init__(self, columns: np.ndarray, like: Tensor) -> None:
        rows, slots = (columns >= 0).nonzero()
        self._placed = _Placed(Pairs(rows, columns[rows, slots]), like.device)
        self._slots = _tensor(slots[self._placed.order], like.device)
        self.values = like.new_full(columns.shape, _NONE)

    def collect(self, start: int, tile: Tensor) -> None:
        """Copy what the tile of candidates from `start` on holds of them."""
        stop = start + tile.shape[1]
        rows, columns = self._placed.between(start, stop)
        slots = self._slots[self._placed.within(start, stop)]
        self.values[rows, slots] = tile[rows, columns]

    def join(self, other: _Table) -> None:
        """Take what `other` has from other tiles."""
        self.values = torch.maximum(self.values, other.values)


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device)
