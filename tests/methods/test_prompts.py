"""Coupled prompts, and texts behind them: starts, clamping, token weights."""

from __future__ import annotations

import pytest
import torch

from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.prompts import CoupledPrompts, encode_prompted

CAPTIONS = ("a red square", "a man farmer with light skin tone", "a cook")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def test_prompts_start_from_words_and_are_clamped_to_the_shallower_tower(
    backbone: Backbone,
) -> None:
    prompts = CoupledPrompts(backbone, 6, 9, "a photo of a")
    ids = backbone.text.tokenize(["a photo of a"])
    assert prompts.text.shape == (3, 6, 128)  # 3 text layers, 6 vision layers
    assert torch.equal(prompts.text[0, :4], backbone.text.embed(ids)[0, 1:5])
    text, image = prompts()
    assert image.shape == (3, 6, 192)
    for layer, linear in enumerate(prompts.to_image):
        torch.testing.assert_close(image[layer], linear(text[layer]))
    assert CoupledPrompts(backbone, 4, 1, None).text.shape == (1, 4, 128)


def test_shallow_prompts_from_words_are_the_written_text(backbone: Backbone) -> None:
    prompts = CoupledPrompts(backbone, 4, 1, "a photo of a").text
    written = backbone.text.encode_texts([f"a photo of a {text}" for text in CAPTIONS])
    found = encode_prompted(backbone.text, CAPTIONS, prompts)
    torch.testing.assert_close(found, written, rtol=0, atol=1e-6)
    weighted = encode_prompted(backbone.text, CAPTIONS, prompts, torch.full((3, 77), 0.5))
    assert float((weighted - written).detach().abs().max()) > 1e-3
    with pytest.raises(ValueError, match=r"4 prompt tokens and the text .* need 79 tokens; .* 77"):
        encode_prompted(backbone.text, ["a " * 73], prompts)


def test_weights_multiply_the_words_and_not_the_prompts_or_positions(backbone: Backbone) -> None:
    tower = backbone.text
    prompts = CoupledPrompts(backbone, 4, 3, None).text.detach()
    weights = 0.5 + torch.rand(3, 77)
    ids = tower.tokenize(CAPTIONS)
    words = tower.embed(ids) * weights[:, :, None]
    context = prompts[0].expand(3, -1, -1)
    by_hand = torch.cat([words[:, :1], context, words[:, 1:73]], dim=1)
    expected = tower.encode(by_hand, tower.end(ids) + 4, prompts[1:])
    found = encode_prompted(tower, CAPTIONS, prompts, weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
