"""Seeds in one pass: bit-close to separate runs, and one cell's trouble stays its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import together
from bench.cell import CellResult, run_cell
from bench.cell_spec import Cell
from bench.together import apart, groups, run_cells, run_together
from bench.train import DivergedError
from bench.train_together import dealt_out
from bench.workers import Inline, Workers
from methods.coop import CoOp
from methods.core.config import MethodConfig
from methods.core.contract import Method
from tests.cells import QUICK, tiny_cells

SEEDS = [1, 2, 3]
"""Settings of studies whose three cells train together."""
SETTINGS: dict[str, dict[str, Any]] = {
    "classification": {},
    "captions": {"datasets": ["tiny/image-text"]},
    "composed": {"datasets": ["tiny/composed"]},
    "middle": {"methods": [{"name": "coop", "config": {"class_token_position": "middle"}}]},
    "class-specific": {
        "methods": [{"name": "coop", "config": {"n_ctx": 4, "class_specific": True}}]
    },
    "promptclip": {
        "datasets": ["tiny/composed"],
        "methods": [{"name": "promptclip", "config": {"aux": "unlabelled", "aux_images": 3}}],
        "training": {**QUICK, "lr": 0.001, "optimizer": "adamw"},
    },
    "accumulation": {"training": {**QUICK, "accumulation": 2}},
    "adamw": {"training": {**QUICK, "optimizer": "adamw"}},
    "epochs": {"training": {"epochs": 3, "batch_size": 3, "lr": 0.05}},
}


def cells_of(data: Path, folder: Path, **fields: Any) -> list[Cell]:
    return tiny_cells(data, folder / "cache", **{"seeds": SEEDS, **fields})


def alone(cells: list[Cell]) -> list[CellResult]:
    found = [run_cell(cell) for cell in cells]
    return [result for result in found if result is not None]


def assert_close(one: CellResult, other: CellResult) -> None:
    """Equal up to rounding: losses to 1e-5, weights to 1e-4 of their norm, the same metrics."""
    assert one.record["key"] == other.record["key"]
    curves = [torch.tensor(result.record["loss_curve"]) for result in (one, other)]
    torch.testing.assert_close(*curves, rtol=0, atol=1e-5)
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert (value - other.weights[name]).norm() <= 1e-4 * value.norm(), name
    assert one.record["metrics"] == pytest.approx(other.record["metrics"], abs=1e-9)
    assert one.queries["rank"].tolist() == other.queries["rank"].tolist()
    for part in ("trainable_parameters", "n_queries", "cell", "identity"):
        assert one.record[part] == other.record[part]


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of torch. Three seeds: all in one pass; one a worker and one left; too few to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", SETTINGS)
def test_seeds_in_one_pass_are_their_separate_runs(
    name: str, tiny_data: Path, tmp_path: Path, threads: int
) -> None:
    cells = cells_of(tiny_data, tmp_path, **SETTINGS[name])
    assert groups(cells, None) == [cells]
    results = run_together(cells)
    assert torch.get_num_threads() == threads
    separate = alone(cells)
    weights = [next(iter(result.weights.values())) for result in separate]
    assert not torch.allclose(weights[0], weights[1], atol=1e-3), "the seeds do not differ"
    for one, other in zip(results, separate, strict=True):
        assert one is not None
        assert_close(one, other)


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_a_thread_of_its_own_computes_in_half_as_well(
    tiny_data: Path, tmp_path: Path, threads: int
) -> None:
    """One seed a thread: the same products as in a run alone, where a batch would round others."""
    cells = cells_of(tiny_data, tmp_path, training={**QUICK, "precision": "bf16"})
    whole = alone(cells_of(tiny_data, tmp_path))
    for one, other, single in zip(run_together(cells), alone(cells), whole, strict=True):
        assert one is not None
        assert_close(one, other)
        off = torch.tensor(one.record["loss_curve"]) - torch.tensor(single.record["loss_curve"])
        assert off.abs().max() > 1e-4, "single precision"


@pytest.mark.parametrize("count", range(6))
def test_work_is_dealt_out_evenly_and_in_order(count: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Workers() as workers:
            parts = dealt_out(lambda own: [*range(count)][own], count, workers)
    finally:
        torch.set_num_threads(before)
    assert [number for part in parts for number in part] == [*range(count)]
    assert [len(part) for part in parts] == [count // 2] * 2 * (count > 1) + [1] * (count % 2)
    assert dealt_out(lambda own: [*range(count)][own], count, Inline()) == [[*range(count)]] * (
        count > 0
    )


def test_the_record_says_that_others_ran_in_the_same_pass(tiny_data: Path, tmp_path: Path) -> None:
    cells = cells_of(tiny_data, tmp_path)
    records = [result.record for result in run_together(cells) if result]
    assert [record["key"] for record in records] == [cell.key for cell in cells]
    for record in records:
        assert record["engine"]["together"] == [cell.key for cell in cells]
        assert "trained with 2 other seed(s) in one pass: equal up to rounding" in record["notes"]
        assert record["timings"] == records[0]["timings"]
        assert set(record["timings"]) == {"load", "setup", "train", "score"}
    (lone,) = alone(cells[:1])
    assert "together" not in lone.record["engine"]


def test_a_seed_that_diverges_runs_alone_and_changes_no_other(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_of(tiny_data, tmp_path)
    start = together._pupil

    def spoilt(cell: Cell, inputs: Any) -> Any:
        method, course = start(cell, inputs)
        if cell.seed == 2:
            method.ctx.data.fill_(float("nan"))
        return method, course

    monkeypatch.setattr(together, "_pupil", spoilt)
    assert [result is None for result in run_together(cells)] == [False, True, False]
    separate = alone(cells)
    for one, other in zip(run_cells(cells), separate, strict=True):
        assert isinstance(one, CellResult)
        assert_close(one, other)
        assert ("alone" in one.record["engine"]) == (one.record["cell"]["seed"] == 2)
    spoilt_one = [*run_cells(cells)][1]
    assert isinstance(spoilt_one, CellResult)
    assert torch.equal(spoilt_one.weights["ctx"], separate[1].weights["ctx"])


def test_each_failure_is_that_of_the_cell_alone(tiny_data: Path, tmp_path: Path) -> None:
    cells = cells_of(tiny_data, tmp_path, training={**QUICK, "lr": 1e38})
    for cell, found in zip(cells, run_cells(cells), strict=True):
        with pytest.raises(DivergedError) as expected:
            run_cell(cell)
        assert isinstance(found, DivergedError)
        assert str(found) == str(expected.value)


def test_a_pass_that_fails_as_a_whole_leaves_separate_runs(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError("not that many seeds")

    monkeypatch.setattr(together, "train_together", full)
    cells = cells_of(tiny_data, tmp_path)
    for one, other in zip(run_cells(cells), alone(cells), strict=True):
        assert isinstance(one, CellResult)
        assert torch.equal(one.weights["ctx"], other.weights["ctx"])
        assert one.record["engine"]["alone"] == "in one pass: MemoryError: not that many seeds"


def test_groups_differ_in_the_seed_alone(tiny_data: Path, tmp_path: Path) -> None:
    methods = ["zero-shot", {"name": "coop", "config": {"n_ctx": 2}}, "text-only"]
    epochs = {"epochs": 2, "batch_size": 3}
    cells = cells_of(tiny_data, tmp_path, methods=methods, shots=[1, 2], training=epochs)
    found = [[(c.method, c.shots, c.seed) for c in group] for group in groups(cells, 2)]
    assert found == [
        [("zero-shot", 0, 0)],
        [("coop", 1, 1), ("coop", 1, 2)],
        [("coop", 1, 3)],
        [("coop", 2, 1), ("coop", 2, 2)],
        [("coop", 2, 3)],
    ]
    assert [len(group) for group in groups(cells, None)] == [1, 3, 3]
    assert all(len(group) == 1 for group in groups(cells, 1))
    assert all(len(group) == 1 for group in groups(cells, None, ranks=2))


def test_draws_go_together_as_seeds_do(tiny_data: Path, tmp_path: Path) -> None:
    cells = cells_of(tiny_data, tmp_path, seeds=[1, 2], draws=[1, 5])
    assert [[(c.draw, c.seed) for c in group] for group in groups(cells, None)] == [
        [(1, 1), (1, 2), (5, 1), (5, 2)]
    ]
    separate = alone(cells)
    for one, other in zip(run_together(cells), separate, strict=True):
        assert one is not None
        assert_close(one, other)
    for first, second in ((0, 2), (1, 3)):  # one seed, two draws
        weights = [separate[n].weights["ctx"] for n in (first, second)]
        assert not torch.allclose(*weights, atol=1e-3)


def test_a_text_is_encoded_once_for_all_seeds(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Composed: 4 texts to 24 queries of one part."""
    asked: list[list[tuple[str, ...]]] = []
    encode = CoOp.texts_together.__func__  # type: ignore[attr-defined]

    def counted(kind: type, methods: Any, texts: Any) -> Any:
        asked.append([tuple(own) for own in texts])
        return encode(kind, methods, texts)

    monkeypatch.setattr(CoOp, "texts_together", classmethod(counted))
    cells = cells_of(tiny_data, tmp_path, datasets=["tiny/composed"])
    assert None not in run_together(cells)
    parts = 3 if threads == 2 else 1
    scored = asked[QUICK["steps"] * parts :]
    together = len(SEEDS) // parts
    assert scored == [[scored[0][0]] * together] * parts, "scored texts are asked for once"
    assert sorted(scored[0][0]) == [f"make it {c}" for c in ("blue", "green", "grey", "red")]


def test_shots_go_together_where_shapes_agree(tiny_data: Path, tmp_path: Path) -> None:
    cells = cells_of(tiny_data, tmp_path, shots=[2, 4], seeds=[1, 2])
    assert groups(cells, None) == [cells], "the recipe counts steps"
    for one, other in zip(run_together(cells), alone(cells), strict=True):
        assert one is not None
        assert_close(one, other)
    large = {**QUICK, "batch_size": 32}  # 8 rows or 16: batches of other shapes
    cells = cells_of(tiny_data, tmp_path, shots=[2, 4], seeds=[1], training=large)
    assert groups(cells, None) == [cells]
    assert run_together(cells) == [None, None]


def test_why_a_cell_stands_apart(tiny_data: Path, tmp_path: Path) -> None:
    (cell, *_) = cells_of(tiny_data, tmp_path)
    assert apart(cell) is None
    assert apart(cell.model_copy(update={"training": None})) is not None
    assert "ZeRO stage 2" in str(apart(cell.model_copy(update={"zero_stage": 2})))
    assert "no way to train several seeds" in str(Method.apart(MethodConfig(), "composed"))
