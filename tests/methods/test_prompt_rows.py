"""Texts with vectors put in: the sequences they make, in blocks or whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.core.backbone import BackboneSpec, load_backbone
from methods.core.prompt_rows import encode, joined, prompt_rows
from methods.core.text_tower import TextTower

TEXTS = ["with dark skin", "", "as a man", ""]


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return load_backbone(BackboneSpec()).text


def test_words_stand_around_the_room_for_vectors(tower: TextTower) -> None:
    ids, end = tower.tokenize(TEXTS).numpy(), tower.end(tower.tokenize(TEXTS)).tolist()
    for after in (False, True):
        rows = prompt_rows(tower, TEXTS, 2, after)
        assert rows.length.tolist() == [e + 2 for e in end] and rows.tokens == sum(end) + 8
        assert rows.prompt.tolist() == [e - 1 if after else 0 for e in end]
        for own, at, words, e in zip(rows.words, rows.prompt, ids, end, strict=True):
            assert own[at : at + 2].tolist() == [0, 0]
            assert np.delete(own, [at, at + 1])[:e].tolist() == words[1 : e + 1].tolist()
            assert not own[e + 2 :].any()


def test_parts_joined_are_one(tower: TextTower) -> None:
    whole = prompt_rows(tower, TEXTS, 3)
    parts = joined([prompt_rows(tower, TEXTS[1:2], 3), prompt_rows(tower, TEXTS, 3)])
    assert np.array_equal(parts.words[1:], whole.words) and parts.words.shape[0] == 5
    assert parts.length[1:].tolist() == whole.length.tolist()
    assert parts.prompt.tolist() == [0] * 5 and parts.start == whole.start


@pytest.mark.parametrize("after", [False, True])
def test_a_tower_of_another_kind_runs_whole_rows(
    tower: TextTower, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    drawn = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 2, tower.width, generator=drawn).requires_grad_()
    rows = prompt_rows(tower, TEXTS, 2, after)

    def graded() -> tuple[Tensor, Tensor]:
        features = encode(tower, vectors, rows)
        (grad,) = torch.autograd.grad(features[:, :5].sum(), vectors)
        return features, grad

    features, grad = graded()
    monkeypatch.setattr(TextTower, "shares", False)
    whole, expected = graded()
    torch.testing.assert_close(features, whole, rtol=0, atol=1e-5)
    assert (grad - expected).norm() <= 1e-4 * expected.norm()
