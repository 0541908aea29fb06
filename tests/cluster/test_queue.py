"""The queue alone: order, leases, retries, and that no unit is ever lost or done twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster.queue import MAX_IDLE_RESTARTS, NO_PYTHON_ERROR, LeaseQueue
from cluster.work import Work

GANGS = ("a", "b", "c")


def queue_of(*units: Work, max_attempts: int = 3) -> LeaseQueue:
    return LeaseQueue(units, max_attempts, clock=lambda: 100.0)


def leased_key(queue: LeaseQueue, gang: str) -> str | None:
    unit = queue.lease(gang)
    return unit.key if unit else None


def test_longest_first_and_ties_by_key() -> None:
    queue = queue_of(Work("x", 0, 1.0), Work("long", 0, 9.0), Work("b", 0, 2.0), Work("a", 0, 2.0))
    order = []
    while (unit := queue.lease("g")) is not None:
        order.append(unit.key)
        assert queue.done("g", unit.key)
    assert order == ["long", "a", "b", "x"]


def test_a_gang_stays_with_what_it_has_warm() -> None:
    queue = queue_of(
        Work("p9", 0, 9.0, ("pets",)),
        Work("p1", 0, 1.0, ("pets",)),
        Work("c8", 0, 8.0, ("cars",)),
        Work("c7", 0, 7.0, ("cars",)),
    )
    assert leased_key(queue, "one") == "p9"
    assert leased_key(queue, "two") == "c8"
    queue.done("one", "p9")
    assert leased_key(queue, "one") == "p1"  # not c7, though that is longer
    queue.done("one", "p1")
    assert leased_key(queue, "one") == "c7"


def test_an_empty_warm_tag_matches_nothing() -> None:
    queue = queue_of(Work("first", 0, 3.0), Work("tagged", 0, 2.0, ("t",)), Work("plain", 0, 1.0))
    assert leased_key(queue, "g") == "first"
    queue.done("g", "first")
    assert leased_key(queue, "g") == "tagged"


def test_an_idle_gang_waits_while_another_still_holds_a_unit() -> None:
    queue = queue_of(Work("only", 0))
    assert leased_key(queue, "busy") == "only"
    assert queue.lease("idle") is None
    assert not queue.dismissed("idle")
    queue.release("busy")
    assert leased_key(queue, "idle") == "only"
    queue.done("idle", "only")
    assert queue.dismissed("idle")
    assert queue.finished()


def test_a_broken_gang_gives_its_unit_back_until_the_attempts_are_used_up() -> None:
    queue = queue_of(Work("crash", 0))
    queue.release("g")
    for attempt in (1, 2):
        assert leased_key(queue, "g") == "crash"
        queue.note("g", "crash", f"boom {attempt}")
        queue.note("g", "crash", "connection closed by peer")
        queue.release("g")
    assert leased_key(queue, "g") == "crash"
    queue.release("g")
    failure = queue.failures()["crash"]
    assert failure.attempts == 3
    assert "3 attempts" in failure.error
    assert NO_PYTHON_ERROR in failure.error  # an earlier attempt's traceback is not this one's
    errors = [event.error for event in queue.events() if event.kind == "requeued"]
    assert errors == ["boom 1", "boom 2"]  # the cause, not its echo
    assert queue.finished()


def test_a_deterministic_error_is_not_tried_again() -> None:
    queue = queue_of(Work("bad", 0), Work("good", 0))
    assert leased_key(queue, "g") == "bad"
    assert queue.failed("g", "bad", "ValueError")
    assert leased_key(queue, "g") == "good"
    assert queue.failures()["bad"].error == "ValueError"


def test_a_late_word_from_a_dead_group_changes_nothing() -> None:
    queue = queue_of(Work("u", 0))
    queue.lease("old")
    queue.lose("old", "node lost")
    assert leased_key(queue, "new") == "u"
    assert not queue.done("old", "u", {"late": True})
    assert not queue.failed("old", "u", "late")
    assert queue.done("new", "u", {"late": False})
    assert not queue.done("new", "u", {"late": True})
    assert queue.results() == {"u": {"late": False}}
    assert queue.lease("old") is None
    assert queue.dismissed("old")


def test_the_echoes_of_a_condemned_gang_do_not_count() -> None:
    queue = queue_of(Work("u", 0))
    queue.lease("g")
    queue.note("g", "u", "the cause")
    queue.condemn("g")
    queue.note("g", "u", "the echo")
    assert not queue.failed("g", "u", "the echo")
    assert not queue.done("g", "u")
    queue.release("g")
    assert [event.error for event in queue.events() if event.kind == "requeued"] == ["the cause"]
    assert leased_key(queue, "g") == "u"
    assert queue.done("g", "u")


def test_a_gang_that_restarts_without_work_in_between_is_dropped() -> None:
    queue = queue_of(Work("u", 0))
    for _ in range(MAX_IDLE_RESTARTS + 1):
        queue.release("g")
        assert not queue.dismissed("g")
    queue.release("g")
    assert queue.dismissed("g")
    assert queue.unfinished() == ["u"]


def test_asking_twice_without_acknowledging_is_an_error() -> None:
    queue = queue_of(Work("u", 0), Work("v", 0))
    queue.lease("g")
    with pytest.raises(RuntimeError, match="still holds u"):
        queue.lease("g")


def test_duplicate_keys_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="twin"):
        queue_of(Work("twin", 0), Work("twin", 1), Work("single", 0))


def test_the_snapshot_is_json_and_complete() -> None:
    queue = queue_of(*(Work(key, object()) for key in "abcd"))
    queue.release("g")
    queue.lease("g")
    queue.done("g", "a", {"R@1": 0.5})
    queue.lease("g")
    queue.failed("g", "b", "reason")
    queue.lease("g")
    snapshot: dict[str, Any] = json.loads(json.dumps(queue.snapshot()))
    assert snapshot["counts"] == {"total": 4, "pending": 1, "leased": 1, "done": 1, "failed": 1}
    assert snapshot["gangs"]["g"] == {
        "state": "working",
        "key": "c",
        "finishing": None,
        "since": 100.0,
        "attempt": 1,
        "cells_done": 1,
        "restarts": 0,
    }
    assert snapshot["failed"] == [{"key": "b", "attempts": 1, "gang": "g", "error": "reason"}]
    assert [event["kind"] for event in snapshot["events"]][:3] == ["gang_started", "leased", "done"]
    assert next(event.seq for event in queue.events(2)) == 2
    assert queue.news(3) == (queue.events(3), False)


def test_a_unit_waits_for_what_it_needs() -> None:
    queue = queue_of(Work("stage", 0, 1.0), Work("after", 0, 9.0, needs=("stage",)))
    assert leased_key(queue, "one") == "stage"
    assert queue.lease("two") is None and not queue.dismissed("two") and not queue.finished()
    assert queue.snapshot()["gangs"]["two"]["state"] == "waiting"
    queue.done("one", "stage")
    assert leased_key(queue, "two") == "after"
    queue.done("two", "after")
    assert queue.finished()


def test_what_others_need_comes_first_and_warm_units_do_not_overtake_their_needs() -> None:
    queue = queue_of(
        Work("s", 0, 1.0, ("x",)), Work("t", 0, 2.0, ("y",)), Work("u", 0, 3.0, ("y",), ("s",))
    )
    assert leased_key(queue, "one") == "s"  # the shortest; u waits for it
    assert leased_key(queue, "two") == "t"
    queue.done("two", "t")
    assert queue.lease("two") is None  # u has the same warm tag, but waits for s
    queue.done("one", "s")
    assert leased_key(queue, "two") == "u"


def test_a_unit_that_is_finishing_is_leased_until_it_is_done() -> None:
    queue = queue_of(Work("a", 0, 2.0), Work("b", 0, 1.0), Work("late", 0, needs=("a",)))
    assert leased_key(queue, "g") == "a"
    following = queue.lease("g", finishing="a")
    assert following is not None and following.key == "b"  # late waits for the real end of a
    gang = queue.snapshot()["gangs"]["g"]
    assert (gang["key"], gang["finishing"]) == ("b", "a")
    assert queue.snapshot()["counts"]["leased"] == 2
    with pytest.raises(RuntimeError, match="a is not finished yet"):
        queue.lease("g", finishing="b")
    assert queue.done("g", "a") and not queue.done("g", "a")
    assert queue.lease("g", finishing="b") is not None
    assert queue.failed("g", "b", "disk full")
    assert queue.failures()["b"].error == "disk full"


def test_done_may_arrive_before_the_next_lease() -> None:
    queue = queue_of(Work("a", 0, 2.0), Work("b", 0, 1.0))
    assert leased_key(queue, "g") == "a"
    assert queue.done("g", "a")
    following = queue.lease("g", finishing="a")
    assert following is not None and following.key == "b"


def test_a_dead_gang_gives_back_both_and_each_then_runs_alone() -> None:
    queue = queue_of(*(Work(key, 0, cost) for key, cost in (("a", 3.0), ("b", 2.0), ("c", 1.0))))
    queue.release("g")
    assert leased_key(queue, "g") == "a"
    assert (queue.lease("g", finishing="a") or Work("", 0)).key == "b"
    queue.note("g", "b", "b broke it")
    queue.release("g")
    requeued = {e.key: e for e in queue.events() if e.kind == "requeued"}
    assert (requeued["a"].attempt, requeued["b"].attempt) == (0, 1)  # b ran, so b is charged
    assert requeued["b"].error == "b broke it" and "perhaps in b" in (requeued["a"].error or "")
    assert leased_key(queue, "g") == "a"
    assert queue.lease("g", finishing="a") is None  # whoever breaks the gang now, it is clear who
    assert queue.snapshot()["gangs"]["g"]["finishing"] == "a"
    queue.release("g")
    assert [e.attempt for e in queue.events() if e.kind == "requeued" and e.key == "a"] == [0, 1]


def test_what_is_finishing_counts_though_its_gang_is_out_of_step_afterwards() -> None:
    queue = queue_of(Work("a", 0, 2.0), Work("b", 0, 1.0))
    queue.lease("g")
    queue.lease("g", finishing="a")
    queue.condemn("g")
    assert not queue.done("g", "b")
    assert queue.done("g", "a")
    queue.release("g")
    assert not queue.done("g", "a") and queue.unfinished() == ["b"]


def test_a_failed_need_fails_all_that_waits_for_it_at_once() -> None:
    queue = queue_of(
        Work("stage", 0, 9.0),
        Work("after", 0, needs=("stage",)),
        Work("later", 0, needs=("stage", "after")),
        Work("free", 0),
    )
    assert leased_key(queue, "g") == "stage"
    assert queue.failed("g", "stage", "Traceback\nValueError: too bad\n")
    failures = queue.failures()
    assert {key: failures[key].error for key in ("after", "later")} == {
        "after": "it needs stage, which failed: ValueError: too bad",
        "later": "it needs after, which failed: it needs stage, which failed: ValueError: too bad",
    }
    assert [f.attempts for f in failures.values()] == [1, 0, 0]
    assert [event.key for event in queue.events() if event.kind == "failed"] == [*failures]
    assert leased_key(queue, "g") == "free" and queue.unfinished() == ["free"]


def test_a_need_that_kills_its_ranks_fails_what_waits_in_the_end() -> None:
    queue = queue_of(Work("stage", 0), Work("after", 0, needs=("stage",)), max_attempts=2)
    for _ in range(2):
        assert leased_key(queue, "g") == "stage"
        assert not queue.failures()
        queue.release("g")
    assert queue.failures().keys() == {"stage", "after"} and queue.finished()
    assert queue.dismissed("g")


@pytest.mark.parametrize("needs", ["b", "a", "nobody"])
def test_needs_are_units_before(needs: str) -> None:
    with pytest.raises(ValueError, match=f"a needs {needs}, which is no unit before it"):
        queue_of(Work("a", 0, needs=(needs,)), Work("b", 0))


NEEDS = {2: ("u0",), 3: ("u0", "u1"), 5: ("u2", "u4")}


class QueueMachine(RuleBasedStateMachine):
    """Random gangs do random things; the books must balance after every one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.units = [
            Work(f"u{i}", i, cost=i % 3, warm=("xy"[i % 2],), needs=NEEDS.get(i, ()))
            for i in range(6)
        ]
        self.queue = LeaseQueue(self.units)
        self.held: dict[str, str | None] = dict.fromkeys(GANGS)
        self.finishing: dict[str, str | None] = dict.fromkeys(GANGS)
        self.acknowledged: list[str] = []

    @rule(gang=st.sampled_from(GANGS), finish=st.booleans())
    def lease(self, gang: str, finish: bool) -> None:
        if finish and self.finishing[gang] is None:
            self.finishing[gang] = ran = self.held[gang]
            self.held[gang] = None
        else:
            ran = None
        if self.held[gang] is None:
            unit = self.queue.lease(gang, ran)
            self.held[gang] = unit.key if unit else None
            if unit is not None:
                assert self.queue.results().keys() >= set(unit.needs)

    @rule(gang=st.sampled_from(GANGS), unit=st.integers(0, 5), deterministic=st.booleans())
    def acknowledge(self, gang: str, unit: int, deterministic: bool) -> None:
        key = f"u{unit}"
        if deterministic:
            accepted = self.queue.failed(gang, key, "error")
        else:
            accepted = self.queue.done(gang, key)
        assert accepted == (key in (self.held[gang], self.finishing[gang]))
        if accepted:
            holding = self.held if self.held[gang] == key else self.finishing
            holding[gang] = None
            self.acknowledged.append(key)

    @rule(gang=st.sampled_from(GANGS))
    def release(self, gang: str) -> None:
        self.queue.release(gang)
        self.held[gang] = self.finishing[gang] = None

    @precondition(lambda self: self.queue.finished())
    @rule(gang=st.sampled_from(GANGS))
    def nothing_left(self, gang: str) -> None:
        assert self.queue.lease(gang) is None

    @invariant()
    def every_unit_is_in_one_place(self) -> None:
        counts = self.queue.snapshot()["counts"]
        assert counts["total"] == len(self.units)
        assert sum(counts.values()) == 2 * counts["total"]
        held = [k for by in (self.held, self.finishing) for k in by.values() if k is not None]
        assert len(held) == len(set(held)) == counts["leased"]
        settled = self.queue.results().keys() | self.queue.failures().keys()
        assert not settled & set(held)
        assert not self.queue.results().keys() & self.queue.failures().keys()
        assert set(self.queue.unfinished()) | settled == {unit.key for unit in self.units}

    @invariant()
    def what_needs_a_failed_unit_has_failed(self) -> None:
        failed = self.queue.failures()
        for unit in self.units:
            if failed.keys() & set(unit.needs):
                assert unit.key in failed

    @invariant()
    def something_can_run_until_all_is_finished(self) -> None:
        if not self.queue.finished() and not any((*self.held.values(), *self.finishing.values())):
            done = self.queue.results().keys()
            units = {unit.key: unit for unit in self.units}
            assert any(done >= set(units[key].needs) for key in self.queue.unfinished())

    @invariant()
    def nothing_is_done_twice_or_tried_for_ever(self) -> None:
        assert len(self.acknowledged) == len(set(self.acknowledged))
        leases: dict[str, int] = {}
        for event in self.queue.events():
            if event.kind == "leased" and event.key is not None:
                leases[event.key] = leases.get(event.key, 0) + 1
        # One more where the first attempt was given back uncharged, because another unit ran.
        assert all(count <= self.queue.max_attempts + 1 for count in leases.values())


TestQueueMachine = QueueMachine.TestCase


def test_a_queue_whose_units_are_to_come_keeps_its_gangs_until_it_has_them() -> None:
    queue = LeaseQueue(to_come=True)
    assert queue.lease("g") is None
    assert (queue.finished(), queue.dismissed("g"), queue.known()) == (False, False, (False, None))
    with pytest.raises(ValueError, match="unique"):
        queue.fill([Work("a", 0), Work("a", 1)])
    assert not queue.known()[0]
    queue.fill([Work("a", 0, 1.0), Work("b", 0, 2.0)], ("module:first", 7))
    assert queue.known() == (True, ("module:first", 7))
    assert leased_key(queue, "g") == "b"
    empty = LeaseQueue(to_come=True)
    empty.fill([])
    assert empty.finished() and empty.dismissed("g")
