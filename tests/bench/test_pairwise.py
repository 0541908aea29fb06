"""Scores that depend on the pair: ranks and lists against a plain double loop.

Features and scores are small whole numbers, so that ties are many and sums exact in any block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.features import image_features
from bench.ranking import NotFiniteError, rank
from bench.score import pairwise, score
from bench.top import top_lists
from data_recipes.core.dataset import Dataset
from data_recipes.core.model import TaskKind
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig
from methods.core.contract import Method, TaskInfo
from methods.zero_shot import ZeroShot
from tests.bench.test_ranking import Case, cases, equal, gallery_of, naive_ranks, without_padding


def wider(candidates: Tensor) -> Tensor:
    """Candidates with one column more than the queries have."""
    return torch.cat([candidates, candidates[:, :1] - 1], dim=1)


def crooked(queries: Tensor, candidates: Tensor) -> Tensor:
    """Not an inner product: (q . c) times the candidate's extra column, less |q_0 - c_0|."""
    assert candidates.shape[1] == queries.shape[1] + 1
    inner = queries @ candidates[:, :-1].T * candidates[:, -1]
    return inner - (queries[:, :1] - candidates[:, 0]).abs()


def one_score(query: list[float], candidate: list[float]) -> float:
    inner = sum(q * c for q, c in zip(query, candidate[:-1], strict=True))
    return inner * candidate[-1] - abs(query[0] - candidate[0])


@given(cases(), st.integers(1, 40))
def test_ranks_equal_a_double_loop_in_blocks_of_any_size(case: Case, block_values: int) -> None:
    task, queries, narrow = case
    candidates = wider(narrow)
    found = rank(task, queries, candidates, block_values, similarity=crooked)
    for row, query in enumerate(task.queries):
        scores = {
            c.id: one_score(queries[row].tolist(), candidates[column].tolist())
            for column, c in enumerate(task.candidates)
        }
        gallery = gallery_of(task, query)
        assert without_padding(found.ranks)[row] == naive_ranks(query, scores, gallery)
        best = max((scores[c] for c in query.relevant if c in gallery), default=None)
        others = [scores[c] for c in gallery if c not in query.relevant]
        assert found.tied[row] == (best is not None and best in others)


@given(cases(), st.integers(1, 10), st.integers(1, 40))
def test_lists_equal_a_double_loop_in_blocks_of_any_size(
    case: Case, k: int, block_values: int
) -> None:
    task, queries, narrow = case
    candidates = wider(narrow)
    found = top_lists(task, queries, candidates, k, 0, block_values, similarity=crooked)
    for row, query in enumerate(task.queries):
        scores = {
            c.id: one_score(queries[row].tolist(), candidates[column].tolist())
            for column, c in enumerate(task.candidates)
        }
        order = sorted(gallery_of(task, query), key=lambda c: (-scores[c], task.position[c]))
        assert found.candidates[row] == order[:k]


@given(cases())
def test_the_inner_product_as_a_similarity_changes_nothing(case: Case) -> None:
    assert equal(rank(*case, similarity=lambda q, c: q @ c.T), rank(*case))


@given(cases())
def test_the_target_may_win_ties_here_too(case: Case) -> None:
    task, queries, candidates = case

    def constant(q: Tensor, c: Tensor) -> Tensor:
        return torch.ones(len(q), len(c))

    found = rank(task, queries, candidates, target_first=True, similarity=constant)
    for row, query in enumerate(task.queries):
        count = len(set(query.relevant) & gallery_of(task, query))
        assert without_padding(found.ranks)[row] == list(range(1, count + 1))


@pytest.mark.parametrize("block_values", [1, 1000])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(
    tiny_dataset: Dataset, value: float, block_values: int
) -> None:
    part = tiny_dataset.task().evaluate[0]
    queries = torch.arange(8.0)[:, None]

    def broken(q: Tensor, c: Tensor) -> Tensor:
        return torch.where(q == 3, value, q) + torch.zeros(len(c))

    name = part.queries[3].id
    for scored in (
        lambda: rank(part, queries, torch.ones(4, 2), block_values, similarity=broken),
        lambda: top_lists(part, queries, torch.ones(4, 2), 2, 0, block_values, similarity=broken),
    ):
        with pytest.raises(NotFiniteError, match=f"query '{name}': a similarity is not finite"):
            scored()


def test_another_shape_is_refused(tiny_dataset: Dataset) -> None:
    part = tiny_dataset.task().evaluate[0]
    with pytest.raises(ValueError, match=r"similarity has shape \(4, 8\), not \(8, 4\)"):
        rank(part, torch.ones(8, 2), torch.ones(4, 2), similarity=lambda q, c: c @ q.T)


class Farthest(ZeroShot):
    """Zero-shot upside down, with class features of another size than the images'."""

    name = "farthest"

    def text(self, texts: Sequence[str]) -> Tensor:
        return nn.functional.pad(super().text(texts), (0, 3))

    def similarity(self, queries: Tensor, candidates: Tensor) -> Tensor:
        return -(queries @ candidates[:, :-3].T)


def test_the_engine_scores_with_a_methods_own_similarity(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    """One right class of four: the rank by the negative is five less the rank."""
    task = tiny_dataset.task()
    images = image_features(tiny_dataset, tiny_backbone, tmp_path).at
    info = TaskInfo(task.kind, task.class_names, task.templates)

    def ranks(method: Method) -> list[int]:
        found = score(method, task, images)
        assert found is not None and found.tie_rate == 0
        return [int(rank) for rank in found.queries["rank"]]

    plain = ZeroShot(ZeroShot.Config(), tiny_backbone, info)
    turned = Farthest(ZeroShot.Config(), tiny_backbone, info)
    assert pairwise(plain) is None and pairwise(turned) is not None
    assert ranks(turned) == [5 - rank for rank in ranks(plain)]


def test_kept_lists_use_it_too(
    tiny_dataset: Dataset, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    class Backwards(Method):
        """Composes to the reference and prefers what is least like it."""

        name = "backwards"
        tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed"})

        def text(self, texts: Sequence[str]) -> Tensor:
            raise NotImplementedError

        def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
            return images

        def similarity(self, queries: Tensor, candidates: Tensor) -> Tensor:
            return -(queries @ candidates.T)

    task = replace(tiny_dataset.task("composed"), protocol="circo/1")
    part = task.evaluate[0]
    images = image_features(tiny_dataset, tiny_backbone, tmp_path).at
    method = Backwards(MethodConfig(), tiny_backbone, TaskInfo("composed"))
    found = score(method, task, images)
    assert found is not None and found.lists is not None
    for query, listed in zip(part.queries, found.lists["candidates"], strict=True):
        assert query.image is not None
        own = images([query.image])
        near = {c.id: float(own @ images([c.image or ""]).T) for c in part.candidates}
        order = sorted(gallery_of(part, query), key=lambda c: near[c])
        assert listed == order[: len(listed)] and listed
