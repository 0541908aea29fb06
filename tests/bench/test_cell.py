"""The cell: same bits twice, same numbers on any number of ranks and ZeRO stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.cell import CellResult, run_cell
from bench.features import image_features
from bench.run import run_leased
from cluster.gang import RankContext
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import DataError
from methods.core.backbone import Backbone
from results.store import RecordStore
from tests.cells import QUICK, run_on_ranks, stored, tiny_cells

TASKS = ["tiny/classification", "tiny/image-text", "tiny/composed"]


def finished(result: CellResult | None) -> CellResult:
    assert result is not None
    return result


def without_measurements(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("timings", "memory")}


def test_the_same_cell_twice_gives_the_same_bits(tiny_data: Path, tmp_path: Path) -> None:
    for cell in tiny_cells(tiny_data, tmp_path, datasets=TASKS):
        first, again = finished(run_cell(cell)), finished(run_cell(cell))
        assert without_measurements(first.record) == without_measurements(again.record)
        assert first.queries.equals(again.queries)
        assert all(torch.equal(first.weights[k], again.weights[k]) for k in first.weights)
        assert torch.any(first.weights["ctx"] != 0)


def test_seeds_and_shots_differ(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(tiny_data, tmp_path, shots=[1, 2], seeds=[0, 1])
    curves = [finished(run_cell(cell)).record["loss_curve"] for cell in cells]
    assert len(cells) == 4 and len({json.dumps(curve) for curve in curves}) == 4
    assert len({cell.key for cell in cells}) == 4


@pytest.mark.slow
def test_ranks_and_zero_stages_give_the_same_numbers(tiny_data: Path, tmp_path: Path) -> None:
    cells = tiny_cells(tiny_data, tmp_path / "cache", datasets=TASKS, shots=[1, 4])
    cells += tiny_cells(
        tiny_data, tmp_path / "cache", shots=[4], training={**QUICK, "accumulation": 2}
    )
    alone = run_on_ranks(cells, 1, 0, tmp_path)
    assert len(alone) == 7
    for ranks, stage in ((2, 0), (3, 0), (2, 2), (2, 3)):
        for one, other in zip(alone, run_on_ranks(cells, ranks, stage, tmp_path), strict=True):
            assert other["engine"]["world_size"] == ranks
            assert other["engine"]["zero_stage"] == stage
            assert other["key"] == one["key"]
            assert other["metrics"] == one["metrics"]
            for (step, loss), (_, expected) in zip(
                other["loss_curve"], one["loss_curve"], strict=True
            ):
                assert abs(loss - expected) < 1e-5, (one["cell"], ranks, stage, step)


def test_the_record_names_engine_and_provenance(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path, shots=[4])
    record = finished(run_cell(cell)).record
    assert record["engine"]["zero_stage"] == 0 and record["engine"]["world_size"] == 1
    assert record["engine"]["deepspeed"].count(".") >= 2
    assert record["provenance"]["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert record["identity"] == cell.identity and record["key"] == cell.key
    assert record["n_queries"] == 8 and record["trainable_parameters"] == 2 * 32
    assert "chance: 0.25" in record["notes"]
    assert len(record["loss_curve"]) == 6


def test_groups_with_too_few_queries_are_said(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path, shots=[7])
    notes = finished(run_cell(cell)).record["notes"]
    assert "4 group(s) have fewer than 7 shots: all are used" in notes


def test_training_free_methods_are_one_cell_and_bring_no_engine(
    tiny_data: Path, tmp_path: Path
) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path, methods=["zero-shot"], shots=[1, 2], seeds=[1, 2])
    result = finished(run_cell(cell))
    assert (cell.shots, cell.seed, cell.training) == (0, 0, None)
    assert result.record["engine"]["deepspeed"] is None and not result.weights


def test_a_dataset_rebuilt_in_between_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path)
    with pytest.raises(DataError, match="rebuilt in between"):
        run_cell(cell.model_copy(update={"dataset_digest": "0" * 64}))
    with pytest.raises(DataError, match="the weights differ"):
        run_cell(cell.model_copy(update={"backbone_digest": "0" * 64}))


def test_a_leased_cell_is_stored_with_ranks_and_weights(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path / "cache")
    summary = stored(cell, tmp_path / "run", RankContext(0, 1, 0, "cpu", "gang0"))
    store = RecordStore(tmp_path / "run")
    record = store.read(cell.key)
    assert summary is not None and summary["value"] == record["metrics"]["accuracy"]
    assert len(store.read_ranks(cell.key)) == 8
    weights = load_file(store.folder(cell.key) / "weights.safetensors")
    assert weights["ctx"].shape == (2, 32)
    assert {"load", "setup", "train", "score"} == record["timings"].keys()


def test_a_cell_with_a_record_is_not_run_again(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(tiny_data, tmp_path / "cache")
    alone = RankContext(0, 1, 0, "cpu", "gang0")
    summary = stored(cell, tmp_path, alone)
    file = RecordStore(tmp_path).folder(cell.key) / "record.json"
    pointer, written = tmp_path / "trained" / cell.training_key, file.stat().st_mtime_ns
    pointer.unlink()  # as when a gang dies between the two
    elsewhere = cell.model_copy(update={"data_root": "nowhere", "cache": "nowhere"})
    assert stored(elsewhere, tmp_path, alone) == summary
    assert file.stat().st_mtime_ns == written and pointer.read_text() == cell.key


def test_weights_that_are_still_being_stored_are_waited_for(
    tiny_data: Path, tmp_path: Path
) -> None:
    home, abroad = tiny_cells(
        tiny_data, tmp_path, datasets=["tiny/image-text"], evaluate_on=["tiny/composed"]
    )
    finish = run_leased(
        {"cell": home.model_dump_json(), "store": str(tmp_path)},
        RankContext(0, 1, 0, "cpu", "gang0"),
    )
    assert callable(finish) and not RecordStore(tmp_path).has(home.key)
    stored(abroad, tmp_path, RankContext(0, 1, 0, "cpu", "gang0", flush=finish))
    after = RecordStore(tmp_path).read(abroad.key)
    assert after["engine"]["trained_in"] == home.key and after["loss_curve"] == []


def test_features_are_computed_once_and_equal_the_backbones(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    features = image_features(tiny_dataset, tiny_backbone, tmp_path)
    (file,) = tmp_path.glob("*.npy")
    written = file.stat().st_mtime_ns
    again = image_features(tiny_dataset, tiny_backbone, tmp_path)
    assert file.stat().st_mtime_ns == written
    ids = list(tiny_dataset.reader.index)[3:6]
    assert torch.equal(features.at(ids), again.at(ids))
    pixels = torch.stack([tiny_backbone.transform(i) for i in tiny_dataset.reader.images(ids)])
    torch.testing.assert_close(features.at(ids), tiny_backbone.encode_pixels(pixels))
