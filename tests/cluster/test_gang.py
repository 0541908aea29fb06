"""Real gangs on a real Ray: slow, so the runs share one Ray and are few."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.gang import Run, import_path
from cluster.launch import Outcome, run_gangs
from cluster.ray_session import (
    NotEnoughResourcesError,
    ranks_that_fit,
    ray_session,
    require_room,
)
from cluster.status import StatusFile
from cluster.work import Work

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """`gang_units.run`, importable by name here and, through PYTHONPATH, in the ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        patch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
        yield importlib.import_module("gang_units").run


@pytest.fixture(scope="module")
def ray(run: Run) -> Iterator[None]:
    with ray_session(None, cpus=2):
        yield


# -- without Ray -----------------------------------------------------------------------------


def test_only_importable_functions_are_taken(run: Run) -> None:
    assert import_path(run) == "gang_units:run"
    with pytest.raises(ValueError, match="top level"):
        import_path(lambda payload, context: None)


def test_nothing_to_do_starts_nothing(run: Run) -> None:
    assert run_gangs([], run, gangs=2, ranks_per_gang=1, threads_per_rank=1) == Outcome()


def test_bad_requests_are_refused_before_ray_starts(run: Run) -> None:
    with pytest.raises(ValueError, match="unique"):
        run_gangs([Work("a", 0)] * 2, run, gangs=1, ranks_per_gang=1, threads_per_rank=1)
    with pytest.raises(ValueError, match="at least 1"):
        run_gangs([Work("a", 0)], run, gangs=0, ranks_per_gang=1, threads_per_rank=1)


def test_a_rank_never_spans_two_nodes() -> None:
    nodes = [{"CPU": 3.0, "GPU": 1.0}, {"CPU": 3.0}, {"CPU": 8.0, "GPU": 2.0}]
    assert ranks_that_fit(nodes, {"CPU": 2}) == 6
    assert ranks_that_fit(nodes, {"CPU": 2, "GPU": 1}) == 3
    assert ranks_that_fit([], {"CPU": 1}) == 0


def test_the_status_file_is_whole_and_says_who_writes_it(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "new" / "status.json")
    assert status.due()
    status.write("running", {"counts": {"done": 1}})
    assert not status.due()
    written = json.loads((tmp_path / "new" / "status.json").read_text())
    assert written["phase"] == "running"
    assert written["driver_pid"] == os.getpid()
    assert written["counts"] == {"done": 1}
    assert abs(written["heartbeat"] - time.time()) < 5
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["status.json"]


# -- with Ray --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_two_gangs_share_the_work(run: Run, tmp_path: Path) -> None:
    units = [
        Work(f"u{i}", {"do": "square", "number": i, "seconds": 1.0}, cost=i) for i in range(10)
    ]
    events: list[dict[str, Any]] = []
    status = tmp_path / "status.json"
    outcome = run_gangs(
        units,
        run,
        gangs=2,
        ranks_per_gang=1,
        threads_per_rank=1,
        on_event=events.append,
        status_path=status,
    )
    assert outcome.ok
    assert outcome.first_lease_s is not None
    assert {key: (summary or {})["square"] for key, summary in outcome.done.items()} == {
        f"u{i}": i**2 for i in range(10)
    }
    summaries = [summary or {} for summary in outcome.done.values()]
    assert {summary["gang"] for summary in summaries} == {"gang0", "gang1"}
    assert len({summary["pid"] for summary in summaries}) == 2  # one warm process per gang
    assert {summary["threads"] for summary in summaries} == {"1"}
    assert {summary["folder"] for summary in summaries} == {str(Path.cwd())}
    assert sorted(event["key"] for event in events) == sorted(outcome.done)
    assert {event["kind"] for event in events} == {"done"}
    written = json.loads(status.read_text())
    assert written["phase"] == "finished"
    assert written["counts"]["done"] == 10


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_two_ranks_with_deepspeed_errors_and_a_killed_rank(run: Run, tmp_path: Path) -> None:
    """One gang of two ranks meets everything that can go wrong, and finishes the rest."""
    payloads: dict[str, dict[str, Any]] = {
        "zero0": {"do": "deepspeed", "stage": 0},
        "raises": {"do": "raise"},
        "zero2": {"do": "deepspeed", "stage": 2},
        # Still being stored when a rank dies in the unit after it.
        "stored": {"do": "store", "path": str(tmp_path / "file"), "seconds": 1.0},
        "killed": {"do": "die_once", "marker": str(tmp_path / "died")},
        "unwritable": {"do": "store", "path": str(tmp_path / "nowhere/file"), "seconds": 0.0},
        "one_rank": {"do": "raise_on_last_rank"},
        "not_json": {"do": "summary_without_json"},
        "last": {"do": "square", "number": 3},
    }
    units = [Work(key, payload, cost=-i) for i, (key, payload) in enumerate(payloads.items())]
    outcome = run_gangs(
        units,
        run,
        gangs=1,
        ranks_per_gang=2,
        threads_per_rank=1,
        status_path=tmp_path / "status.json",
        max_attempts=2,
        sibling_grace_s=2.0,
    )
    assert outcome.done.keys() == {"zero0", "zero2", "stored", "killed", "last"}
    for key in ("zero0", "zero2"):
        summary = outcome.done[key] or {}
        assert summary["world_size"] == 2
        assert summary["last"] < summary["first"]
    # The same mathematics, sharded or not.
    assert (outcome.done["zero0"] or {})["last"] == pytest.approx(
        (outcome.done["zero2"] or {})["last"], rel=1e-5
    )
    assert outcome.done["killed"] == {"ranks": 2}
    assert (outcome.done["stored"] or {})["thread"].startswith("finish")
    assert (tmp_path / "file").read_text() == "stored"
    assert outcome.failed.keys() == {"raises", "one_rank", "not_json", "unwritable"}
    assert "FileNotFoundError" in outcome.failed["unwritable"]
    assert "ValueError: no such prompt" in outcome.failed["raises"]
    assert "gave up after 2 attempts" in outcome.failed["one_rank"]
    assert "ValueError: only here" in outcome.failed["one_rank"]
    assert "PosixPath" in outcome.failed["not_json"]
    gang = json.loads((tmp_path / "status.json").read_text())["gangs"]["gang0"]
    assert gang["restarts"] == 3  # the killed rank, and two attempts of `one_rank`


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_what_can_never_start_is_refused_with_both_numbers(run: Run, tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    with pytest.raises(NotEnoughResourcesError, match=r"4 ranks of 1 CPU, 1 GPU .* 2 CPU, 0 GPU"):
        run_gangs(
            [Work(f"u{i}", {}) for i in range(2)],
            run,
            gangs=2,
            ranks_per_gang=2,
            threads_per_rank=1,
            use_gpu=True,
            status_path=status,
        )
    assert json.loads(status.read_text())["phase"] == "error"
    require_room(gangs=1, ranks=2, per_rank={"CPU": 1})


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_code_that_ranks_cannot_import_ends_the_run_with_the_reason(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def run(payload, context):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))  # after Ray's start: unknown to the ranks
    only_here = importlib.import_module("only_here").run
    outcome = run_gangs([Work("u", {})], only_here, gangs=1, ranks_per_gang=1, threads_per_rank=1)
    assert outcome.unfinished == ("u",)
    assert "No module named 'only_here'" in outcome.gang_errors["gang0"]
    assert not outcome.ok


@pytest.mark.slow
def test_a_killed_driver_takes_its_ray_along(run: Run, tmp_path: Path) -> None:
    """SIGKILL to the driver: ranks end within seconds, though nobody told them to."""
    status = tmp_path / "status.json"
    program = (
        "import gang_units, pathlib; from cluster.launch import run_gangs;"
        "from cluster.work import Work;"
        "run_gangs([Work('u', {'do': 'square', 'number': 1, 'seconds': 600})], gang_units.run,"
        f"gangs=1, ranks_per_gang=1, threads_per_rank=1, status_path=pathlib.Path({str(status)!r}))"
    )
    log = tmp_path / "log"
    with log.open("w") as sink:
        driver = subprocess.Popen([sys.executable, "-c", program], stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + 120
        while _leased(status) == 0:
            assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        family = psutil.Process(driver.pid).children(recursive=True)
        names = [child.name() + str(child.cmdline()) for child in family]
        assert any("RayTrainWorker" in name for name in names)
        assert not any("TrainController" in name for name in names), "see CONTROLLER_HERE"
    finally:
        driver.kill()
        driver.wait()
    # Ray's two idle agents report the crash to a head that is gone, for up to a minute.
    _, left = psutil.wait_procs(family, timeout=20)
    assert all("Agent" in str(child.cmdline()) for child in left if child.is_running())


def _leased(status: Path) -> int:
    if not status.exists():
        return 0
    leased: int = json.loads(status.read_text()).get("counts", {}).get("leased", 0)
    return leased
