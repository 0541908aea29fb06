"""A study with stages over Ray: each runs once, the others wait for it, a failed one stops them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from results.store import RecordStore

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
name: staged
datasets: [tiny/composed]
source: tiny/image-text
methods:
  - {name: staged-coop, config: {n_ctx: 2}}
  - {name: staged-coop, label: diverging, config: {n_ctx: 2}, stage_training: {lr: 1.0e+38}}
shots: [1, 2]
seeds: [1, 2]
training: {schedule: cosine, steps: 5, lr: 0.01}
run: {gangs: 2}
"""


def run(study: Path, data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, where the tests' methods are entry points."""
    command = [sys.executable, "-m", "bench.cli", "run", str(study), "--out", str(out)]
    command += ["--data", str(data), "--cache", str(out.with_suffix(".features")), *more]
    plugin = study.with_name("plugin")
    (plugin / "learners-0.dist-info").mkdir(parents=True, exist_ok=True)
    (plugin / "learners-0.dist-info/METADATA").write_text("Name: learners\nVersion: 0\n")
    (plugin / "learners-0.dist-info/entry_points.txt").write_text(
        "[promptgrid.methods]\nstaged-coop = tests.learners:StagedCoOp\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{plugin}"}
    return subprocess.run(command, env=environment, text=True, capture_output=True, cwd=ROOT)


def written(store: RecordStore) -> dict[str, int]:
    """Key -> time of writing, of every record."""
    return {k: (store.folder(k) / "record.json").stat().st_mtime_ns for k in [*store.keys()]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stage_runs_once_for_all_that_follow_it(tiny_data: Path, tmp_path: Path) -> None:
    study, out = tmp_path / "staged.yaml", tmp_path / "run"
    study.write_text(STUDY)
    listed = run(study, tiny_data, out, "--dry-run").stdout
    assert "10 cells" in listed and "staged-coop, stage on tiny/image-text" in listed

    ran = run(study, tiny_data, out)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    store = RecordStore(out)
    records = store.read_all()
    (stage,) = [record for record in records if record["cell"]["stage"]]
    rest = [record for record in records if not record["cell"]["stage"]]
    draws = sorted((r["cell"]["shots"], r["cell"]["seed"]) for r in rest)
    assert draws == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert {record["engine"]["stage_in"] for record in rest} == {stage["key"]}
    assert len(stage["loss_curve"]) == 3 and all(len(r["loss_curve"]) == 5 for r in rest)

    failures = store.failures().values()
    own = [failure for failure in failures if failure["cell"]["stage"]]
    assert len(own) == 1 and len(failures) == 5 and "lower training.lr" in own[0]["reason"]
    needs = "it needs diverging, stage on tiny/image-text, which failed: "
    assert all(f["reason"].startswith(needs) for f in failures if not f["cell"]["stage"])
    table = (out / "tables" / "leaderboard.md").read_text()
    assert "## Stages" in table and "| diverging (from tiny/image-text) (stage) |" in table
    assert "0 missing, 5 failed." in table

    times = written(store)
    study.write_text("".join(line for line in STUDY.splitlines(True) if "diverging" not in line))
    again = run(study, tiny_data, out)
    assert again.returncode == 0 and "5 recorded" in again.stdout, again.stdout + again.stderr
    assert written(store) == times
