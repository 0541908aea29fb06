"""A study from the command line, whole: resumed after kill -9, a rank killed, a failing cell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from results.store import RecordStore

STUDY = """
name: disturbed
datasets: [tiny, tiny/composed]
methods:
  - zero-shot
  - image-plus-text
  - {name: coop, config: {n_ctx: 4}}
  - {name: coop, label: diverging, config: {n_ctx: 4}, training: {lr: 1.0e+38}}
shots: [1, 2]
seeds: [1, 2, 3]
training: {schedule: cosine, steps: 200, lr: 0.01}
run: {gangs: 2}
"""
CELLS, FAILING = 26, 12
PATIENCE_S = 240


def start(study: Path, data: Path, cache: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.cli", "run", str(study), "--out", str(out)]
    command += ["--data", str(data), "--cache", str(cache)]
    log = out.with_suffix(".log").open("a")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)


def records(out: Path) -> dict[str, int]:
    """Key -> time of writing, of every record."""
    store = RecordStore(out)
    return {k: (store.folder(k) / "record.json").stat().st_mtime_ns for k in [*store.keys()]}


def wait_for_records(out: Path, count: int, driver: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(records(out)) < count:
        assert driver.poll() is None, out.with_suffix(".log").read_text()
        assert time.monotonic() < end, f"no {count} records in {PATIENCE_S} s"
        time.sleep(0.02)


def wait_for_gangs(out: Path, count: int, driver: subprocess.Popen[str]) -> None:
    """Wait for a status file, which the driver writes now and then, that names `count` gangs."""
    end, path = time.monotonic() + PATIENCE_S, out / "status.json"
    while not path.exists() or len(json.loads(path.read_text())["gangs"]) < count:
        assert driver.poll() is None, out.with_suffix(".log").read_text()
        assert time.monotonic() < end, f"no status of {count} gangs in {PATIENCE_S} s"
        time.sleep(0.02)
    assert json.loads(path.read_text())["phase"] in ("starting", "running")


def ranks_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes in which the driver's gangs train."""
    return [
        process
        for process in psutil.Process(driver.pid).children(recursive=True)
        if "RayTrainWorker" in " ".join(process.cmdline())
    ]


def wait_for_end(processes: list[psutil.Process]) -> None:
    """Wait for ranks whose driver is gone: each may finish, and record, the cell it is at."""
    end = time.monotonic() + 60
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
        assert time.monotonic() < end, "ranks outlive their driver by more than 60 s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("study") / "disturbed.yaml"
    path.write_text(STUDY)
    yield path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_disturbed_study_ends_like_an_undisturbed_one(
    study: Path, tiny_data: Path, tmp_path: Path
) -> None:
    whole, disturbed, cache = tmp_path / "whole", tmp_path / "disturbed", tmp_path / "cache"
    undisturbed = start(study, tiny_data, cache, whole)
    assert undisturbed.wait(PATIENCE_S) == 1, whole.with_suffix(".log").read_text()
    assert len(records(whole)) == CELLS - FAILING
    failures = RecordStore(whole).failures()
    assert len(failures) == FAILING
    assert all("lower training.lr" in failure["reason"] for failure in failures.values())
    table = (whole / "tables" / "leaderboard.md").read_text()
    assert "diverging" in table and "lower training.lr" in table

    killed = start(study, tiny_data, cache, disturbed)
    wait_for_records(disturbed, 2, killed)
    wait_for_gangs(disturbed, 2, killed)
    orphans = ranks_of(killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    wait_for_end(orphans)
    before = records(disturbed)
    assert 2 <= len(before) < CELLS - FAILING, "the study was over before the driver was killed"

    again = start(study, tiny_data, cache, disturbed)
    wait_for_records(disturbed, len(before) + 1, again)
    ranks = ranks_of(again)
    assert ranks, "a new record, yet no rank of this driver at work"
    ranks[0].kill()
    assert again.wait(PATIENCE_S) == 1, disturbed.with_suffix(".log").read_text()
    after = records(disturbed)
    assert len(after) == CELLS - FAILING
    assert {key: after[key] for key in before} == before, "a finished cell was computed again"
    for name in ("leaderboard.md", "leaderboard.csv"):
        first, second = (out / "tables" / name for out in (whole, disturbed))
        assert first.read_bytes() == second.read_bytes()
    assert not list(whole.glob("records/.tmp-*")), "an undisturbed run leaves half a record"
    for path in whole.glob("splits/*.json"):
        assert path.read_bytes() == (disturbed / "splits" / path.name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_per_cell_and_then_nothing_to_do(tiny_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text(
        STUDY.replace(
            "  - {name: coop, label: diverging, config: {n_ctx: 4}, training: {lr: 1.0e+38}}\n", ""
        )
        .replace("shots: [1, 2]", "shots: [2]")
        .replace("gangs: 2", "gangs: 1, ranks_per_cell: 2, zero_stage: 2")
    )
    out = tmp_path / "pairs"
    first = start(path, tiny_data, tmp_path / "cache", out)
    assert first.wait(PATIENCE_S) == 0, out.with_suffix(".log").read_text()
    store = RecordStore(out)
    trained = [r for r in store.read_all() if r["cell"]["trains"]]
    assert len(store.keys()) == 8 and len(trained) == 6
    assert all(r["engine"]["world_size"] == 2 for r in trained)
    assert all(r["engine"]["zero_stage"] == 2 and r["engine"]["deepspeed"] for r in trained)
    table, times = (out / "tables" / "leaderboard.md").read_bytes(), records(out)
    second = start(path, tiny_data, tmp_path / "cache", out)
    assert second.wait(60) == 0
    assert records(out) == times and (out / "tables" / "leaderboard.md").read_bytes() == table
    assert "0 to run" in out.with_suffix(".log").read_text()
