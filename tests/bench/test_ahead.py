"""Gangs that start while the study is planned: when they do, and how a refused study ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import ahead
from bench.ahead import cpu_gangs, sizes_ahead
from bench.run import default_gangs
from bench.study import RunOptions

STUDY = "name: s\ndatasets: [tiny]\nmethods: [zero-shot]\nshots: [1]\nseeds: [1]\n"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "GPUS", ())


def sizes(folder: Path, run: str = "{}", out: str = "out", **overrides: Any) -> Any:
    study = folder / "study.yaml"
    study.write_text(f"{STUDY}run: {run}\n")
    return sizes_ahead(study, folder / out, overrides)


def test_the_gangs_are_those_that_the_run_will_ask_for(tmp_path: Path) -> None:
    for run in ("{}", "{ranks_per_cell: 2}", "{threads_per_rank: 3}", "{gangs: 5}", "{gpu: false}"):
        found = sizes(tmp_path, run)
        options = RunOptions(**ahead.read_yaml(tmp_path / "study.yaml")["run"])
        gangs = options.gangs or default_gangs(options, gpu=False)
        assert found == (gangs, options.ranks_per_cell, options.threads_per_rank)
    assert sizes(tmp_path, "{gangs: 5}", gangs=3, ranks_per_cell=None) == (3, 1, 1)
    assert cpu_gangs(10**6, 1) == 1


@pytest.mark.parametrize(
    "run", ["{gpu: true}", "{gangs: 0}", "{gangs: two}", "{ranks_per_cell: true}", "[1]", "{a: b"]
)
def test_what_needs_a_gpu_or_is_wrong_starts_nothing(tmp_path: Path, run: str) -> None:
    assert sizes(tmp_path, run) is None


def test_a_machine_with_gpus_starts_nothing_unless_the_study_wants_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "GPUS", (str(tmp_path),))
    assert sizes(tmp_path) is None
    assert sizes(tmp_path, "{gpu: false}") is not None


def test_a_study_that_is_recorded_starts_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "records" / "a").mkdir(parents=True)
    (out / "plan.json").write_text(json.dumps([{"key": "a"}, {"key": "b"}]))
    assert sizes(tmp_path) is not None
    (out / "records" / "b").mkdir()
    assert sizes(tmp_path) is None
    (out / "plan.json").write_text("{")  # said by those who read it next
    assert sizes(tmp_path) is None


@pytest.mark.slow  # starts Ray
def test_a_refused_study_says_why_and_leaves_no_process(tiny_data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.replace("zero-shot", "coopp") + "run: {gpu: false, gangs: 1}\n")
    words = ["run", str(study), "--data", str(tiny_data), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "bench.cli", *words]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    family: set[psutil.Process] = set()
    while driver.poll() is None:
        family |= set(psutil.Process(driver.pid).children(recursive=True))
        try:
            driver.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    out, err = driver.communicate()
    assert (driver.returncode, out) == (2, "")
    assert err.splitlines() == [
        f"error: {study}: 1 error",
        "  - methods.0.name: Unknown method 'coopp'. Did you mean: coop?",
    ]
    assert len(family) > 3, "no Ray was started ahead"
    _, left = psutil.wait_procs(family, timeout=20)
    assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / "out").exists()
