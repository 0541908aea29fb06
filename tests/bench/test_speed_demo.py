"""The demo's baseline: one process per cell gives what a study gives, and is counted right."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cell import run_cell
from bench.speed_demo import Alone, kinds, run_alone, same, shared, summed
from tests.cells import tiny_cells


def test_seeds_alone_make_no_kind(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(
        tiny_data,
        tmp_path,
        datasets=["tiny", "tiny/composed"],
        methods=["zero-shot", "coop", {"name": "coop", "label": "long", "config": {"n_ctx": 3}}],
        shots=[1, 2],
        seeds=[1, 2, 3],
    )
    found = kinds(cells)
    assert [count for cell, count in found if cell.method == "zero-shot"] == [1]
    assert [(cell.seed, count) for cell, count in found if cell.training] == [(1, 3)] * 8
    assert sum(count for _, count in found) == len(cells)


def test_features_are_counted_once_where_they_are_shared(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path)

    def alone(count: int, seconds: float, features: float, *files: str) -> Alone:
        return Alone(cell, count, seconds, features, frozenset(files), {})

    runs = [
        alone(3, 10.0, 4.0, "a"),
        alone(1, 9.0, 5.0, "a"),
        alone(2, 7.0, 0.5),
        alone(1, 8.0, 1.0, "b"),
    ]
    assert summed(runs) == 30 + 9 + 14 + 8
    assert shared(runs) == summed(runs) - (12 + 5 + 1 + 1) + (4.0 + 0.5 + 1.0)


def test_metrics_are_the_same_up_to_rounding() -> None:
    assert same({"a": 0.5}, {"a": 0.5 + 1e-7})
    assert not same({"a": 0.5}, {"a": 0.501})
    assert not same({"a": 0.5}, {"a": 0.5, "b": 1.0})


@pytest.mark.slow
def test_a_process_per_cell_gives_the_same_metrics(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(
        tiny_data,
        tmp_path / "cache",
        backbone="openmoji-vit",  # other processes do not know the tests' own
        methods=["coop"],
        seeds=[1, 2],
    )
    runs = run_alone(cells, tmp_path / "alone")
    assert [(run.cell.method, run.count) for run in runs] == [("coop", 2)]
    assert not (tmp_path / "cache").exists(), "the processes have caches of their own"
    for run in runs:
        result = run_cell(run.cell)
        assert result is not None and same(run.metrics, result.record["metrics"])
        assert 0 < run.features_s < run.seconds and len(run.files) == 1


@pytest.mark.slow
def test_a_process_that_fails_is_an_error(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path, backbone="openmoji-vit")
    lost = cell.model_copy(update={"data_root": str(tmp_path / "nowhere")})
    with pytest.raises(RuntimeError, match=r"(?s)bench\.speed_demo ended with 1: .*nowhere"):
        run_alone([lost], tmp_path / "alone")
