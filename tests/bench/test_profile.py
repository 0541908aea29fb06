"""`promptgrid profile`: which cell, where its time goes, and that nothing of it is kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from bench import cli
from bench.cell import run_cell
from bench.marks import PHASES, mark
from bench.profile import Operator, Profile, page, profile_cell, select, with_other
from bench.train import Engine
from data_recipes.core.model import DataError
from tests.cells import staged_cells, tiny_cells
from tests.tiny import TINY_SPEC

STUDY = f"""
name: small
backbone: {{model: {TINY_SPEC.model}, random_seed: {TINY_SPEC.random_seed}}}
datasets: [tiny]
methods: [zero-shot, coop]
shots: [1, 2]
seeds: [1, 2]
training: {{schedule: constant, steps: 3, lr: 0.05}}
"""


def test_a_cell_is_found_by_its_key_or_its_title(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(
        tiny_data, tmp_path, methods=["zero-shot", "coop"], shots=[1, 2], seeds=[1, 11]
    )
    zero, first = cells[0], cells[1]
    assert select(cells, "zero-shot") is zero
    assert select(cells, first.key[:8]) is first
    assert select(cells, first.key) is first
    # "seed 1" begins "seed 11" as well; the whole title is one cell's alone.
    assert first.title == "coop on tiny/classification, 1 shot, seed 1"
    assert select(cells, first.title) is first
    assert select(cells, "1 SHOT, seed 11").title.endswith("1 shot, seed 11")


def test_an_ambiguous_or_unknown_cell_lists_the_nearest(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(
        tiny_data, tmp_path, methods=["zero-shot", "coop"], shots=[1, 2], seeds=[1, 2, 3]
    )
    with pytest.raises(DataError) as ambiguous:
        select(cells, "coop")
    lines = str(ambiguous.value).splitlines()
    assert lines[0] == "--cell 'coop' names 6 cells; give a whole title or key:"
    assert lines[1] == f"  {cells[1].key[:12]} coop on tiny/classification, 1 shot, seed 1"
    assert lines[6:] == ["  ... and 1 more", "(--dry-run lists all)"]
    with pytest.raises(DataError) as unknown:
        select(cells, "zero-shut on tiny")
    lines = str(unknown.value).splitlines()
    assert lines[0].endswith("is no cell of the study; the nearest are:")
    assert "zero-shot on tiny/classification" in lines[1]


def test_the_phases_and_the_rest_sum_to_the_wall_time() -> None:
    spent = {"load": 0.5, "forward": 2.0}
    assert with_other(spent, 4.0) == {"load": 0.5, "forward": 2.0, "other": 1.5}


def test_the_page_has_shares_operators_and_memory() -> None:
    text = page(
        Profile(
            wall=4.0,
            warm_up=6.0,
            phases={"forward": 3.0, "other": 1.0},
            operators=[Operator("aten::mm", 1_234, 2.0)],
            on="CPU",
            memory={"process_peak_bytes": 2**30, "gpu_peak_bytes": 2**20},
            facts={"cell": "coop on x", "key": "abc"},
        )
    )
    assert text.startswith("# Profile: coop on x\n")
    for line in (
        "- key: abc",
        "| forward | 3.0000 | 75.0% |",
        "| other | 1.0000 | 25.0% |",
        "| all | 4.0000 | 100.0% |",
        "| aten::mm | 1,234 | 2.0000 | 50.0% |",
        "| the process, since its start | 1,024 |",
        "| the GPU, in this cell | 1 |",
    ):
        assert line in text.splitlines()


def test_a_profile_has_every_phase_and_the_trace_shows_them(
    tiny_data: Path, tmp_path: Path
) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path / "cache")
    found = profile_cell(cell, Engine(), tmp_path / "out")
    assert [*found.phases] == [*PHASES, "other"]
    assert all(seconds > 0 for seconds in found.phases.values()), found.phases
    assert sum(found.phases.values()) == pytest.approx(found.wall)
    assert found.operators and found.operators[0].seconds > 0
    assert not any(one.name.startswith("promptgrid/") for one in found.operators)
    events = json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
    marks = [event["name"] for event in events if event["name"].startswith("promptgrid/")]
    assert set(marks) == {f"promptgrid/{phase}" for phase in PHASES}
    assert marks.count("promptgrid/forward") >= 6
    assert not [*tmp_path.rglob("record.json")], "nothing is kept"


@pytest.mark.gpu
def test_a_profile_on_a_gpu_counts_its_operators_and_memory(
    tiny_data: Path, tmp_path: Path
) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path / "cache")
    found = profile_cell(cell, Engine(device="cuda"), tmp_path / "out")
    assert found.on == "GPU" and found.operators[0].seconds > 0
    assert found.memory["gpu_peak_bytes"] > 0
    assert sum(found.phases.values()) == pytest.approx(found.wall)


def test_a_profiled_cell_gives_the_same_result(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path / "cache")
    result = run_cell(cell)
    assert result is not None
    facts = profile_cell(cell, Engine(), tmp_path / "out").facts
    headline = result.record["headline"]
    assert facts[headline] == f"{100 * result.record['metrics'][headline]:.2f} %"
    assert facts["steps"] == "6"


@pytest.mark.usefixtures("learners")
def test_a_stage_is_trained_before_and_not_profiled(tiny_data: Path, tmp_path: Path) -> None:
    stage, *cells = staged_cells(tiny_data, tmp_path / "cache")
    assert stage.stage and cells[0].after == stage
    found = profile_cell(cells[0], Engine(), tmp_path / "out")
    events = json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
    backward = [e for e in events if e["name"] == "promptgrid/backward"]
    assert len(backward) == int(found.facts["steps"]) == 6


def test_marks_cost_nothing_without_a_profile() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        assert mark("data") is mark("forward")
        with mark("forward"):
            torch.zeros(1)
    assert not any(row.key.startswith("promptgrid/") for row in profiler.key_averages())


def test_the_command_writes_a_trace_and_a_page(
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)
    words = ["promptgrid", "profile", "study.yaml", "--data", str(tiny_data), "--cache", "cache"]

    def leave(*more: str) -> object:
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code

    try:
        assert leave("--cell", "coop on tiny/classification, 2 shots, seed 2", "--out", "prof") == 0
        out = capsys.readouterr().out
        text = Path("prof/profile.md").read_text()
        assert text in out and "- steps: 3\n" in text
        assert Path("prof/trace.json").is_file()
        assert not Path("runs").exists()
        assert leave("--cell", "no such cell") == 2
        assert "'no such cell' is no cell of the study" in capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
