"""The benchmark of seeds together tells equal results from others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.cell import CellResult
from bench.speed_together import alike, separate
from bench.together import run_together
from tests.cells import tiny_cells


def test_equal_is_within_a_query_and_close_in_weights(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(tiny_data, tmp_path / "cache", seeds=[1, 2])
    one, other = separate(cells), run_together(cells)
    assert alike(one, other)
    assert not alike(one, [None, other[1]])
    assert not alike(one, [*reversed(other)]), "another seed's weights"
    first = one[0]
    assert isinstance(first, CellResult)
    step = 1 / first.record["n_queries"]
    for queries, same in ((1, True), (2, False)):
        metrics = {k: v - queries * step for k, v in first.record["metrics"].items()}
        moved = replace(first, record={**first.record, "metrics": metrics})
        assert alike(one, [moved, one[1]]) == same
