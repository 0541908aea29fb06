"""The benchmarks of the text tower run both ways, and see where they differ."""

from __future__ import annotations

import pytest
import torch

from bench import speed_text
from bench.speed_text import equal, many_classes, many_names, padded_text, prompt_step
from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone
from methods.core.contract import TaskInfo


def test_both_ways_give_the_same_numbers(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_text, "PART", 7)
    few = prompt_step("tiny", tiny_backbone, many_names()[:9])
    assert few.equal and few.baseline > 0 and few.ours > 0
    many = many_classes("tiny", tiny_backbone, many_names()[:30])
    assert many.equal and many.name == "prompt step, tiny, 30 classes, M = 16"


def test_the_padded_way_is_open_clips_own_forward(tiny_backbone: Backbone) -> None:
    names = ("cat", "tabby_cat")
    method = CoOp(
        CoOpConfig(ctx_init="a photo of a"), tiny_backbone, TaskInfo("classification", names)
    )
    method.config = CoOpConfig(n_ctx=4)
    ids = tiny_backbone.text.tokenize(["a photo of a cat.", "a photo of a tabby cat."])
    expected = tiny_backbone.model.encode_text(ids, normalize=True)
    found = padded_text(method, names, tiny_backbone)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_another_loss_or_gradient_is_not_equal() -> None:
    loss, gradient = torch.tensor(2.0), torch.ones(3, 4)
    assert equal((loss, gradient), (loss * (1 + 4e-6), gradient * (1 + 5e-5)))
    assert not equal((loss, gradient), (loss * (1 + 2e-5), gradient))
    assert not equal((loss, gradient), (loss, gradient * (1 + 3e-4)))


def test_the_many_names_are_a_thousand_of_several_lengths() -> None:
    names = many_names()
    assert len(set(names)) == len(names) == 1000
    assert {len(name.split()) for name in names} == {1, 2, 3, 4, 5}
