"""Batches made ahead: the same ones in the same order, and no thread is left behind."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import bench.loaded
import bench.train
from bench.cell import run_cell
from bench.prefetch import AHEAD, prefetched
from data_recipes.core.model import DataError
from tests.cells import tiny_cells


def threads() -> int:
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


@pytest.mark.parametrize("wanted", [False, True])
def test_every_item_once_and_in_order(wanted: bool) -> None:
    with closing(prefetched(lambda n: n * n, range(20), "cpu", wanted)) as made:
        assert list(made) == [(n, n * n) for n in range(20)]
        assert threads() == 0
    assert list(prefetched(str, [], "cpu", wanted)) == []


def test_it_runs_ahead_by_a_few_in_one_other_thread() -> None:
    seen: list[tuple[int, str]] = []
    ready = threading.Event()

    def make(number: int) -> int:
        seen.append((number, threading.current_thread().name))
        if number == AHEAD:
            ready.set()
        return number

    with closing(prefetched(make, range(50), "cpu", True)) as made:
        assert next(made) == (0, 0)
        assert ready.wait(30)
        assert [number for number, _ in seen] == [*range(1 + AHEAD)]
        assert len({name for _, name in seen} - {threading.current_thread().name}) == 1
        assert threads() == 1
    assert threads() == 0


def test_an_error_waits_for_its_turn_and_ends_the_thread() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise DataError("photos/a.jpg: not a readable image")
        return number

    with closing(prefetched(make, range(9), "cpu", True)) as made:
        assert [next(made), next(made)] == [(0, 0), (1, 1)]
        with pytest.raises(DataError, match=r"photos/a\.jpg"):
            next(made)
        assert threads() == 0


@pytest.mark.parametrize("ending", [KeyboardInterrupt, RuntimeError])
def test_a_step_that_is_broken_off_waits_for_the_batch_in_the_making(
    ending: type[BaseException],
) -> None:
    started, ended = threading.Event(), threading.Event()

    def make(number: int) -> int:
        if number == 1:
            started.set()
            started_again.wait(0.2)
            ended.set()
        return number

    started_again = threading.Event()
    with pytest.raises(ending), closing(prefetched(make, range(50), "cpu", True)) as made:
        next(made)
        assert started.wait(30)
        raise ending
    assert ended.is_set() and threads() == 0


CELLS: list[dict[str, Any]] = [
    {"methods": ["coop"]},
    {"methods": [{"name": "promptclip", "config": {"aux": "unlabelled", "dropout": 0.0}}]},
    {"methods": ["dcar"], "training": {"augment": "crop-flip"}},
]


@pytest.mark.parametrize("fields", CELLS, ids=["features", "unlabelled", "crops"])
def test_training_gives_the_same_bits(
    fields: dict[str, Any], tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {"coop": "classification", "dcar": "image-text"}
    name = fields["methods"][0]
    on = task.get(name if isinstance(name, str) else "", "composed")
    training = {"schedule": "constant", "steps": 5, "lr": 0.05, "batch_size": 3, "accumulation": 2}
    (cell,) = tiny_cells(
        tiny_data,
        tmp_path,
        **{**fields, "datasets": [f"tiny/{on}"], "training": training | fields.get("training", {})},
    )
    plain = run_cell(cell)
    made = 0

    def ahead(make: Any, items: Any, device: str, _: bool) -> Any:
        nonlocal made
        made += 1
        return prefetched(make, items, device, True)

    monkeypatch.setattr(bench.train, "prefetched", ahead)
    early = run_cell(cell)
    assert plain is not None and early is not None and made == 1 and threads() == 0
    assert plain.record["loss_curve"] == early.record["loss_curve"]
    assert plain.record["metrics"] == early.record["metrics"]
    assert all(torch.equal(plain.weights[k], early.weights[k]) for k in plain.weights)


def test_a_broken_image_is_named_by_the_step(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that breaks after the plan was made: the error is that of the image."""
    (cell,) = tiny_cells(tiny_data, tmp_path, methods=["dcar"], datasets=["tiny/image-text"])

    def broken(*_: Any) -> Any:
        raise DataError("tiny: image 'train/red.1': not a readable image")

    bench.loaded._pixels.cache_clear()
    monkeypatch.setattr("bench.pixels.decode", broken)
    monkeypatch.setattr(
        bench.train, "prefetched", lambda *given: prefetched(*given[:3], wanted=True)
    )
    with pytest.raises(DataError, match=r"image 'train/red\.1'"):
        run_cell(cell)
    assert threads() == 0
