"""Learned on one dataset, scored on another: evaluate_on, source, base classes to new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cell import run_cell
from bench.plan import plan
from bench.run import trained_in
from bench.study import Study
from data_recipes.core.build import build_dataset
from data_recipes.core.recipe import Folders
from data_recipes.imagefolder import ImageFolderRecipe
from results.frames import label_of, load
from results.store import RecordStore
from tests.cells import lease, run_on_ranks, tiny_cells
from tests.raw import pictures
from tests.tiny import TINY_SPEC


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says of the result."""
    return {name: record[name] for name in ("metrics", "tie_rate", "key", "cell", "n_queries")}


def test_what_was_learned_at_home_is_scored_abroad_without_training_again(
    tiny_data: Path, tmp_path: Path
) -> None:
    home, abroad = tiny_cells(
        tiny_data, tmp_path, datasets=["tiny/image-text"], evaluate_on=["tiny/composed"]
    )
    assert abroad.trained_on is not None and home.trained_on is None
    assert home.training_key == abroad.training_key and home.key != abroad.key
    alone = lease(abroad, tmp_path / "alone")  # no record of home there: it trains itself
    assert len(alone["loss_curve"]) == 6
    lease(home, tmp_path / "run")
    after = lease(abroad, tmp_path / "run")
    assert after["engine"]["trained_in"] == home.key and after["loss_curve"] == []
    assert comparable(after) == comparable(alone)
    weights = [RecordStore(tmp_path / f).read_weights(abroad.key) for f in ("alone", "run")]
    assert weights[0] is not None and weights[1] is not None
    assert (weights[0]["ctx"] == weights[1]["ctx"]).all()


def test_the_prompt_that_travels_is_the_one_that_was_learned(
    tiny_data: Path, tmp_path: Path
) -> None:
    home, abroad = tiny_cells(
        tiny_data, tmp_path, datasets=["tiny/image-text"], evaluate_on=["tiny/composed"]
    )
    first, second = run_cell(home), run_cell(abroad)
    assert first is not None and second is not None
    assert torch.equal(first.weights["ctx"], second.weights["ctx"])


def test_zero_shots_learn_on_all_of_the_source(tiny_data: Path, tmp_path: Path) -> None:
    (cell,) = tiny_cells(
        tiny_data, tmp_path, datasets=["tiny/composed"], source="tiny/image-text", shots=[0]
    )
    assert cell.shots == 0 and cell.trained_on is not None and cell.trained_on.whole
    record = lease(cell, tmp_path / "run")
    assert record["cell"]["trained_on"] == "tiny/image-text"
    assert record["cell"]["dataset"] == "tiny" and record["cell"]["task"] == "composed"
    frame = load(tmp_path / "run")
    assert {label_of(row) for row in frame.to_dict("records")} == {"coop (from tiny/image-text)"}
    assert "group(s) have fewer" not in " ".join(record["notes"])


def test_methods_without_training_are_scored_on_the_target_once(
    tiny_data: Path, tmp_path: Path
) -> None:
    cells = tiny_cells(
        tiny_data,
        tmp_path,
        datasets=["tiny", "tiny/image-text"],
        evaluate_on=["tiny/image-text"],
        methods=["zero-shot"],
    )
    assert [(c.task, c.trained_on) for c in cells] == [
        ("classification", None),
        ("image-text", None),
    ]


def test_ranks_agree_on_whether_to_train(tiny_data: Path, tmp_path: Path) -> None:
    _, abroad = tiny_cells(
        tiny_data, tmp_path, datasets=["tiny/image-text"], evaluate_on=["tiny/composed"]
    )
    one = run_cell(abroad)
    (two,) = run_on_ranks([abroad], 2, 0, tmp_path)
    assert one is not None and one.record["metrics"] == two["metrics"]


def test_a_pointer_to_a_record_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "k").write_text("nowhere")
    assert trained_in(store, "k") is None and trained_in(store, "other") is None


@pytest.mark.parametrize("shots", [[1], [0, 1]])
def test_source_and_zero_shots_belong_together(
    tiny_data: Path, tmp_path: Path, shots: list[int]
) -> None:
    source = {"source": "tiny/image-text"} if 0 not in shots else {}
    with pytest.raises(ValueError, match="source"):
        tiny_cells(tiny_data, tmp_path, shots=shots, **source)


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of four classes with a base-to-new task."""
    root = tmp_path_factory.mktemp("animals")
    names = ("ant", "bee", "cat", "dog")
    pictures(
        root / "images",
        [f"{s}/{c}/{n}.png" for s in ("train", "test") for c in names for n in range(3)],
    )
    build_dataset(
        ImageFolderRecipe(folders=Folders(images=root / "images")),
        root / "shards/animals",
        name="animals",
    )
    return root / "shards"


def test_base_classes_teach_new_ones_and_the_headline_is_the_harmonic_mean(
    animals: Path, tmp_path: Path
) -> None:
    (cell,) = tiny_cells(animals, tmp_path, datasets=["animals/base-to-new"])
    result = run_cell(cell)
    assert result is not None
    metrics = result.record["metrics"]
    base, new = metrics["base/accuracy"], metrics["new/accuracy"]
    assert result.record["headline"] == "H"
    assert metrics["H"] == pytest.approx(2 * base * new / (base + new) if base + new else 0.0)
    assert sorted(result.queries["part"].unique()) == ["base", "new"]


def test_a_context_of_each_class_has_none_for_new_classes(animals: Path, tmp_path: Path) -> None:
    csc = {"name": "coop", "label": "csc", "config": {"n_ctx": 2, "class_specific": True}}
    study = {
        "name": "s",
        "backbone": TINY_SPEC.model_dump(),
        "datasets": ["animals", "animals/base-to-new"],
        "methods": ["zero-shot", csc],
        "shots": [1],
        "seeds": [1],
    }
    planned = plan(Study.model_validate(study), animals, tmp_path)
    assert [(c.task, c.variant or c.method) for c in planned.cells] == [
        ("classification", "zero-shot"),
        ("classification", "csc"),
        ("base-to-new", "zero-shot"),
    ]
    assert planned.left_out == [
        "csc on animals/base-to-new: coop with class_specific knows only the classes it learned on "
        "(part new)"
    ]
