"""Which unit a gang runs next: warm gangs, few loads, no idle gang."""

from __future__ import annotations

import heapq

from hypothesis import given
from hypothesis import strategies as st

from cluster.choice import choose, in_common
from cluster.queue import LeaseQueue
from cluster.work import Work

STUDIES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("vwxyz"), st.integers(1, 9)),
    min_size=1,
    max_size=40,
)


def simulated(units: list[Work], gangs: int) -> tuple[dict[str, list[Work]], float]:
    """What each gang ran, and when the last one ended; a unit takes its cost."""
    queue = LeaseQueue(units)
    ran: dict[str, list[Work]] = {f"g{n}": [] for n in range(gangs)}
    free = [(0.0, name) for name in ran]
    end = 0.0
    while free:
        now, gang = heapq.heappop(free)
        if ran[gang]:
            queue.done(gang, ran[gang][-1].key)
        unit = queue.lease(gang)
        if unit is not None:
            ran[gang].append(unit)
            end = max(end, now + unit.cost)
            heapq.heappush(free, (now + unit.cost, gang))
    assert queue.finished()
    return ran, end


def loads(ran: list[Work]) -> int:
    """How often a gang meets what it has not warm."""
    tags = [unit.warm for unit in ran]
    return sum(before != after for before, after in zip([None, *tags], tags, strict=False))


@given(STUDIES, st.integers(1, 4))
def test_gangs_stay_warm_and_none_is_idle(cells: list[tuple[str, str, int]], gangs: int) -> None:
    units = [Work(f"u{n:02}", 0, float(c), (b, d)) for n, (b, d, c) in enumerate(cells)]
    ran, end = simulated(units, gangs)
    kinds = len({unit.warm for unit in units})
    assert sum(map(loads, ran.values())) <= kinds + gangs * (gangs - 1) // 2
    costs = [unit.cost for unit in units]
    assert end <= sum(costs) / gangs + max(costs)  # Graham's bound: no gang waits while one could


def test_two_gangs_on_four_datasets_and_two_backbones_load_each_once() -> None:
    units = [
        Work(f"{b}{d}{n}", 0, float(n), (b, d)) for b in "pq" for d in "vw" for n in range(1, 11)
    ]
    ran, _ = simulated(units, 2)
    assert [loads(own) for own in ran.values()] == [2, 2]
    assert [{unit.warm[0] for unit in own} for own in ran.values()] == [{"p"}, {"q"}]
    one, _ = simulated(units, 1)
    backbones = [unit.warm[0] for unit in one["g0"]]
    assert backbones == sorted(backbones, key=backbones.index), "a backbone is loaded twice"


def test_the_longest_of_what_fits_best() -> None:
    pending = [
        Work("other", 0, 9.0, ("q", "w")),
        Work("held", 0, 8.0, ("p", "x")),
        Work("near", 0, 7.0, ("p", "w")),
        Work("same", 0, 6.0, ("p", "v")),
    ]

    def chosen(units: list[Work]) -> str:
        unit = choose(units, set(), ("p", "v"), {("p", "x")})
        assert unit is not None
        return unit.key

    assert chosen(pending) == "same"
    assert chosen(pending[:3]) == "near"
    assert chosen(pending[:2]) == "other"
    assert chosen(pending[1:2]) == "held"
    assert choose([], set(), (), set()) is None


def test_leading_entries_in_common() -> None:
    assert in_common(("a", "b", "c"), ("a", "b", "d")) == 2
    assert in_common(("a",), ("a", "b")) == 1
    assert in_common((), ("a",)) == 0
    assert in_common(("x", "b"), ("a", "b")) == 0
