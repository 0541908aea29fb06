"""Scores of a method: the names and sums of each protocol, folds, misses, withheld labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.embed import Images
from bench.embedded import Once
from bench.features import image_features
from bench.loaded import Inputs
from bench.score import Score, folds
from bench.score import score as score_on_ranks
from bench.train import Engine
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import DataError, RetrievalTask, Task
from data_recipes.karpathy import Image, tasks
from methods.core.backbone import Backbone
from methods.core.contract import Method, TaskInfo
from methods.core.registry import method
from tests.cells import tiny_cells
from tests.tiny import TEMPLATES


@pytest.fixture(scope="module")
def images(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> Images:
    return image_features(tiny_dataset, tiny_backbone, tmp_path_factory.mktemp("features")).at


def score(*args: Any) -> Score:
    """The score on the one rank there is."""
    found = score_on_ranks(*args)
    assert found is not None
    return found


def build(name: str, backbone: Backbone, task: Task) -> Method:
    kind = method(name)
    return kind(kind.Config(), backbone, TaskInfo(task.kind, task.class_names, TEMPLATES))


def test_both_directions_have_their_prefixes_sums_and_statistics(
    tiny_dataset: Dataset, tiny_backbone: Backbone, images: Images
) -> None:
    task = replace(tiny_dataset.task("image-text"), protocol="karpathy-5k/1")
    found = score(build("zero-shot", tiny_backbone, task), task, images)
    terms = [found.metrics[f"{way}_R@{k}"] for way in ("text", "image") for k in (1, 5, 10)]
    assert np.isclose(found.statistics["rsum"], 100 * sum(terms))
    assert found.metrics["R@1"] == (found.metrics["text_R@1"] + found.metrics["image_R@1"]) / 2
    assert set(found.statistics) == {
        "rsum", *(f"{way}_{name}" for way in ("text", "image") for name in ("medr", "meanr"))
    }  # fmt: skip
    by_part = found.queries[found.queries["part"] == "t2i"]
    assert found.metrics["image_R@1"] == (by_part["rank"] == 1).mean() == by_part["value"].mean()


def test_a_query_without_its_image_is_a_miss_and_is_said(
    tiny_dataset: Dataset, tiny_backbone: Backbone, images: Images
) -> None:
    task = tiny_dataset.task("composed")
    tried = build("image-plus-text", tiny_backbone, task)
    gone = task.evaluate[0].queries[0].image
    assert gone is not None
    found = score(tried, task, images, frozenset({gone}))
    rows = found.queries.set_index("query_id")
    lost = [q.id for q in task.evaluate[0].queries if gone in (q.image, *q.relevant)]
    asked = [q.id for q in task.evaluate[0].queries if q.image == gone]
    assert (rows.loc[lost, "rank"] == 0).all() and (rows.drop(lost)["rank"] > 0).all()
    assert len(rows) == len(task.evaluate[0].queries)
    assert found.used == len(rows) - len(asked)
    assert f"{found.used} of {len(rows)} queries could be asked; the others are misses" in (
        found.notes
    )
    assert "1 of 8 images are missing from the shards" in found.notes
    assert found.metrics["recall@1"] == (rows["rank"] == 1).mean()


def test_nothing_left_to_ask_is_an_error(
    tiny_dataset: Dataset, tiny_backbone: Backbone, images: Images
) -> None:
    task = tiny_dataset.task("composed")
    everything = frozenset(task.evaluate[0].image_ids())
    with pytest.raises(DataError, match="no query can be asked"):
        score(build("image-plus-text", tiny_backbone, task), task, images, everything)


def test_withheld_labels_give_no_metric(
    tiny_dataset: Dataset, tiny_backbone: Backbone, images: Images
) -> None:
    task = tiny_dataset.task("composed")
    (part,) = task.evaluate
    bare = replace(part, queries=tuple(replace(q, relevant=()) for q in part.queries))
    hidden = replace(task, evaluate=(bare,))
    found = score(build("image-plus-text", tiny_backbone, hidden), hidden, images)
    assert found.withheld and not found.metrics and not found.statistics
    assert len(found.queries) == len(part.queries)


def pictures(count: int) -> list[Image]:
    return [
        Image(f"{n}.jpg", tuple((f"c{n}-{v}", "x") for v in range(2 + n % 2))) for n in range(count)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_folds_are_consecutive_and_lose_nothing(size: int) -> None:
    whole = tasks(pictures(6))
    cut = folds(whole, size)
    assert len(cut) == 6 // size
    for number, parts in enumerate(cut):
        expected = tasks(pictures(6)[number * size : (number + 1) * size])
        assert [p.queries for p in parts] == [p.queries for p in expected]
        assert [p.candidates for p in parts] == [p.candidates for p in expected]


def test_no_fold_size_leaves_the_parts_alone() -> None:
    whole: tuple[RetrievalTask, ...] = tasks(pictures(4))
    assert folds(whole, None) == [whole] and folds(whole, 1000) == [whole]


def test_images_that_do_not_fill_the_folds_are_refused() -> None:
    with pytest.raises(DataError, match="7 images are no whole number of folds of 2"):
        folds(tasks(pictures(7)), 2)


def test_embeddings_of_folds_are_those_of_the_whole(
    tiny_dataset: Dataset, tiny_backbone: Backbone, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folds: the mean of two scores on half the pictures each."""
    from bench import score as module

    task = replace(tiny_dataset.task("image-text"), protocol="karpathy-1k/1")
    tried = build("zero-shot", tiny_backbone, task)
    halves = folds(task.evaluate, 4)
    monkeypatch.setattr(module, "folds", lambda parts, _: halves if len(parts) else [])
    found = score(tried, task, images)
    monkeypatch.undo()
    alone = [score(tried, replace(task, evaluate=parts), images) for parts in halves]
    for name, value in found.metrics.items():
        assert np.isclose(value, np.mean([one.metrics[name] for one in alone]))
    assert len(found.queries) == sum(len(one.queries) for one in alone)
    assert torch.is_grad_enabled()


def test_both_directions_encode_their_images_once(
    tiny_dataset: Dataset, tiny_backbone: Backbone, images: Images
) -> None:
    task = tiny_dataset.task("image-text")
    asked: list[list[str]] = []

    def counted(ids: list[str]) -> torch.Tensor:
        asked.append(ids)
        return images(ids)

    method = build("zero-shot", tiny_backbone, task)
    found = score(method, task, counted)
    assert asked == [[query.image for query in task.evaluate[0].queries]]
    turned = replace(task, evaluate=(task.evaluate[0], shuffled(task.evaluate[1])))
    other = score(method, turned, counted)
    assert len(asked) == 2, "in whatever order"
    assert other is not None and other.metrics == found.metrics


def test_a_cell_encodes_its_images_once(tiny_data: Path, tmp_path: Path) -> None:
    """`Data` hands out the same images for queries and candidates, by two bound methods."""
    (cell,) = tiny_cells(
        tiny_data, tmp_path, datasets=["tiny/image-text"], methods=["zero-shot"], seeds=[1]
    )
    inputs = Inputs(cell.backbone, cell.backbone_digest, cell.data_root, cell.cache, Engine())
    data = inputs.data(cell.dataset, cell.dataset_digest, cell.task)
    method = build("zero-shot", inputs.backbone(), data.task)
    assert data.images(method) == data.gallery(method)
    encoded: list[int] = []
    plain = method.image

    def counted(images: torch.Tensor) -> torch.Tensor:
        encoded.append(len(images))
        return plain(images)

    method.image = counted  # type: ignore[method-assign]
    score_on_ranks(method, data.task, data.images(method), gallery=data.gallery(method))
    assert sum(encoded) == len({q.image for q in data.task.evaluate[0].queries})


def test_once_asks_for_what_is_new_and_keeps_the_order() -> None:
    once = Once()
    asked: list[list[str]] = []

    def encode(names: list[str]) -> Callable[[list[int]], torch.Tensor]:
        def rows(numbers: list[int]) -> torch.Tensor:
            asked.append([names[n] for n in numbers])
            return torch.tensor([[float(ord(names[n]))] for n in numbers])

        return rows

    for names in ("abca", "cb", "ad", "abcd", "dcba"):
        found = once.of([*names], encode([*names]))
        assert found[:, 0].tolist() == [float(ord(name)) for name in names]
    assert asked == [["a", "b", "c"], ["d"]]


def shuffled(part: RetrievalTask) -> RetrievalTask:
    return replace(part, candidates=part.candidates[::-1])
