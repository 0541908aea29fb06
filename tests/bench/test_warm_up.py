"""What a gang loads before its first cell."""

from __future__ import annotations

from pathlib import Path

from bench import loaded
from bench.cell import run_cell
from bench.warm_up import to_warm_up, warm_up
from cluster.gang import RankContext
from data_recipes.core.dataset import Dataset
from tests.cells import tiny_cells

ALONE = RankContext(0, 1, 0, "cpu", "gang0")


def test_the_first_cell_finds_backbone_and_task_loaded(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    (cell,) = tiny_cells(tiny_dataset.folder.parent, tmp_path)
    caches = (loaded._backbone, loaded._dataset, loaded._task)
    for cache in caches:
        cache.cache_clear()
    warm_up(to_warm_up([cell]), ALONE)
    before = [cache.cache_info().misses for cache in caches]
    assert before == [1, 1, 1]
    run_cell(cell)
    assert [cache.cache_info().misses for cache in caches] == before


def test_only_what_all_cells_share_is_loaded_ahead(tiny_dataset: Dataset, tmp_path: Path) -> None:
    cells = tiny_cells(
        tiny_dataset.folder.parent, tmp_path, datasets=["tiny", "tiny/composed"], seeds=[1, 2]
    )
    payload = to_warm_up(cells)
    assert (payload["trains"], payload["backbone"], payload["data"]) == (True, True, False)
    other = cells[0].model_copy(update={"backbone_digest": "another"})
    assert not to_warm_up([*cells, other])["backbone"]
    loaded._task.cache_clear()
    warm_up(payload, ALONE)
    assert loaded._task.cache_info().misses == 0
    untrained = tiny_cells(tiny_dataset.folder.parent, tmp_path, methods=["zero-shot"])
    assert not to_warm_up(untrained)["trains"]
