"""One rank's loop in this process, with a real queue but no Ray: finishing beside the next unit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cluster.gang as gang
from bench.train import Engine, ensure_process_group
from cluster.gang import GangBrokenError, GangSpec, RankContext
from cluster.queue import LeaseQueue
from cluster.work import Work


@pytest.fixture(autouse=True)
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LOCAL_RANK", "0")
    ensure_process_group(Engine())
    yield


class Asked:
    """A queue as `_Rank` asks it, from two threads like a Ray actor: one call after another."""

    def __init__(self, *units: Work) -> None:
        self.units = units
        self.queue = LeaseQueue(units)
        self.said: list[str] = []
        self._one_at_a_time = threading.Lock()

    def __call__(self, method: str, *words: Any) -> Any:
        with self._one_at_a_time:
            self.said.append(method)
            return getattr(self.queue, method)(*words)


def serve(
    asked: Asked, run: Any, monkeypatch: pytest.MonkeyPatch, prepare: Any = None, given: Any = None
) -> None:
    """All of `asked`'s units through `run`, on one rank; before, `prepare` is given `given`."""
    monkeypatch.setattr(gang, "resolve", {"any:run": run, "any:prepare": prepare}.get)
    first = None if prepare is None else ("any:prepare", given)
    asked.queue.fill(asked.units, first)
    spec = GangSpec("g", "run", "any:run", 1, 1, False, Path(), 1, 1.0, True)
    gang._Rank(spec, asked).loop()


def test_the_next_unit_runs_while_one_is_being_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(Work("a", 0, 2.0), Work("b", 0, 1.0))
    b_runs = threading.Event()

    def store_a() -> dict[str, Any]:
        assert b_runs.wait(10), "b did not start while a was being stored"
        assert asked.queue.results() == {}
        return {"stored": "a"}

    def run(payload: Any, context: RankContext) -> Any:
        if asked.queue.snapshot()["gangs"]["g"]["key"] == "a":
            return store_a
        assert not asked.queue.results()
        b_runs.set()
        context.flush()
        assert asked.queue.results() == {"a": {"stored": "a"}}  # done only when it is stored
        return {"plain": "b"}

    serve(asked, run, monkeypatch)
    assert asked.queue.results() == {"a": {"stored": "a"}, "b": {"plain": "b"}}


def test_at_most_one_unit_is_finishing_and_the_last_is_stored_before_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(*(Work(f"u{n}", n) for n in range(5)))
    storing: list[int] = []

    def run(payload: Any, context: RankContext) -> Any:
        def store() -> None:
            storing.append(payload)
            assert len(storing) == 1
            time.sleep(0.03)
            storing.remove(payload)

        return store

    serve(asked, run, monkeypatch)
    assert len(asked.queue.results()) == 5 and not storing
    assert not [t for t in threading.enumerate() if t.name.startswith("finish")]


def test_no_trip_but_one_lies_between_two_units(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(*(Work(f"u{n}", n) for n in range(4)))
    names: list[str] = []

    def run(payload: Any, context: RankContext) -> Any:
        names.append(threading.current_thread().name)
        return None

    calls: list[tuple[str, str]] = []

    def ask(method: str, *words: Any) -> Any:
        calls.append((threading.current_thread().name, method))
        return asked(method, *words)

    monkeypatch.setattr(gang, "resolve", lambda _: run)
    spec = GangSpec("g", "run", "any:name", 1, 1, False, Path(), 1, 1.0)
    gang._Rank(spec, ask).loop()
    own = [method for thread, method in calls if thread == names[0]]
    # What comes before the first lease, three more, one after the last has finished, and the end.
    assert own[:6] == ["release", "known", "lease", "lease", "lease", "lease"]
    assert own[-1] == "dismissed" and "done" not in own


def test_a_record_that_cannot_be_written_fails_its_unit_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = Asked(Work("full", 0, 3.0), Work("fine", 1, 2.0), Work("needs", 2, needs=("full",)))

    def run(payload: Any, context: RankContext) -> Any:
        if payload == 0:
            return lambda: (tmp_path / "no such folder" / "record").write_text("x")
        return {"payload": payload}

    serve(asked, run, monkeypatch)
    failures = asked.queue.failures()
    assert failures.keys() == {"full", "needs"}
    assert "FileNotFoundError" in failures["full"].error
    assert asked.queue.results() == {"fine": {"payload": 1}}


def test_what_is_being_stored_is_stored_though_the_gang_breaks_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(Work("a", 0, 2.0), Work("b", 1, 1.0))

    def run(payload: Any, context: RankContext) -> Any:
        if payload == 0:

            def store() -> dict[str, Any]:
                time.sleep(0.2)
                return {"stored": True}

            return store
        asked("condemn", "g")  # as a rank does that finds its siblings out of step
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(asked, run, monkeypatch)
    assert asked.queue.results() == {"a": {"stored": True}}
    asked("release", "g")
    assert [e.key for e in asked.queue.events() if e.kind == "requeued"] == ["b"]


def test_a_gang_that_lost_its_unit_meanwhile_must_start_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(Work("a", 0))

    def run(payload: Any, context: RankContext) -> Any:
        asked("release", "g")  # as if the group had died and started anew
        return {}

    with pytest.raises(GangBrokenError, match="no longer ours"):
        serve(asked, run, monkeypatch)
    assert asked.queue.results() == {}


def test_a_rank_prepares_before_its_first_lease_and_units_meet_what_failed_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(Work("a", 0))
    seen: list[Any] = []

    def prepare(given: Any, context: RankContext) -> None:
        seen.append((given, context.gang, [*asked.said]))
        raise ValueError("not there")

    def run(payload: Any, context: RankContext) -> dict[str, Any]:
        seen.append(payload)
        return {}

    serve(asked, run, monkeypatch, prepare, "given")
    assert seen == [("given", "g", ["release", "known"]), 0]
    assert asked.queue.results() == {"a": {}}


def test_a_rank_imports_and_waits_until_its_units_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked()
    asked.queue = LeaseQueue(to_come=True)
    imported: list[str] = []

    def wait(seconds: float) -> None:
        assert imported == ["one", "gone"], "it waits before it has imported"
        assert asked.said[-1] == "known", "it asks for units before there are any"
        asked.queue.fill([Work("a", 0)])

    def load(name: str) -> None:
        imported.append(name)
        if name == "gone":
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(gang.time, "sleep", wait)
    monkeypatch.setattr(gang.importlib, "import_module", load)
    monkeypatch.setattr(gang, "resolve", {"any:run": lambda payload, context: {}}.get)
    spec = GangSpec("g", "run", "any:run", 1, 1, False, Path(), 1, 1.0, imports=("one", "gone"))
    gang._Rank(spec, asked).loop()
    assert asked.queue.results() == {"a": {}}
