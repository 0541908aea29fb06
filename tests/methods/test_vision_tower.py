"""The vision tower: open_clip's features without prompts; prompts enter where MaPLe puts them."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.vision_tower import VisionTower
from tests.tiny import TINY_SPEC

TEXT = {"width": 16, "heads": 2, "layers": 1}


def model(**vision: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    config = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 3, "head_width": 16}
    return open_clip.model.CLIP(embed_dim=16, vision_cfg={**config, **vision}, text_cfg=TEXT).eval()


def encoded(clip: Any, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = clip.encode_image(pixels, normalize=True)
    return features


@pytest.mark.parametrize(
    "spec",
    [BackboneSpec(), TINY_SPEC, BackboneSpec(model="ViT-B-32-quickgelu", random_seed=0)],
    ids=lambda spec: spec.label,
)
def test_without_prompts_it_is_open_clip(spec: BackboneSpec) -> None:
    backbone: Backbone = load_backbone(spec)
    torch.manual_seed(1)
    pixels = torch.randn(2, 3, *backbone.vision.image_size)
    with torch.no_grad():
        own = backbone.vision.encode(pixels)
    torch.testing.assert_close(own, encoded(backbone.model, pixels), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "vision",
    [
        {"pool_type": "avg"},
        {"final_ln_after_pool": True},
        {"no_ln_pre": True},
        {"ls_init_value": 0.1},
        {"pos_embed_type": "sin_cos_2d"},
        {"qk_norm": True, "block_type": "custom"},
    ],
)
def test_it_is_open_clip_in_other_plain_transformers(vision: dict[str, Any]) -> None:
    clip, pixels = model(**vision), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        own = VisionTower(clip, "test").encode(pixels)
    torch.testing.assert_close(own, encoded(clip, pixels), rtol=0, atol=1e-6)


def by_hand(visual: Any, pixels: Tensor, prompts: Tensor) -> Tensor:
    """Features with prompts as whole states that are replaced layer by layer, by open_clip."""
    rows, own = len(pixels), len(visual.positional_embedding)
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.expand(rows, 1, -1)
    x = torch.cat([first, patches], dim=1) + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, prompts[0].expand(rows, -1, -1)], dim=1))
    for layer, block in enumerate(visual.transformer.resblocks):
        if 0 < layer < len(prompts):
            x = torch.cat([x[:, :own], prompts[layer].expand(rows, -1, -1)], dim=1)
        x = block(x)
    x = visual.ln_post(x[:, :own])
    pooled = x[:, 0] if visual.pool_type == "tok" else x[:, 1:].mean(dim=1)
    return torch.nn.functional.normalize(pooled @ visual.proj, dim=-1)


def check_prompts(clip: Any, depth: int) -> None:
    """Features and prompts' gradients are those of `by_hand`; prompts and pixels stay as given."""
    clip.requires_grad_(False)
    tower = VisionTower(clip, "test")
    torch.manual_seed(2)
    pixels = torch.randn(3, 3, *tower.image_size)
    prompts = torch.randn(depth, 2, tower.width, requires_grad=True)
    given = pixels.clone(), prompts.detach().clone()
    expected = by_hand(clip.visual, pixels, prompts)
    towards = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * towards).sum(), prompts)
    with torch.no_grad():
        torch.testing.assert_close(tower.encode(pixels, prompts), expected, rtol=0, atol=1e-5)
    found = tower.encode(pixels, prompts)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    (own,) = torch.autograd.grad((found * towards).sum(), prompts)
    for layer in range(depth):
        size = float(wanted[layer].abs().max())
        assert size > 1e-4
        torch.testing.assert_close(own[layer], wanted[layer], rtol=0, atol=1e-4 * size)
    assert torch.equal(pixels, given[0]) and torch.equal(prompts, given[1])
    assert float((found - encoded(clip, pixels)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("vision", [{}, {"pool_type": "avg"}, {"ls_init_value": 0.5}])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_prompts_stand_behind_the_patches_and_are_replaced_layer_by_layer(
    vision: dict[str, Any], depth: int
) -> None:
    check_prompts(model(**vision), depth)


@pytest.mark.parametrize(
    ("spec", "depth"), [(TINY_SPEC, 1), *((BackboneSpec(), n) for n in (1, 3, 6))]
)
def test_prompts_in_the_embedded_and_the_tiny_backbone(spec: BackboneSpec, depth: int) -> None:
    check_prompts(load_backbone(spec).model, depth)


@pytest.mark.parametrize("block", [{}, {"qk_norm": True, "block_type": "custom"}])
def test_autocast_gives_the_same_features_roughly(block: dict[str, Any]) -> None:
    tower, pixels = VisionTower(model(**block), "test"), torch.randn(4, 3, 32, 32)
    prompts = torch.randn(2, 2, tower.width)
    with torch.no_grad():
        exact = tower.encode(pixels, prompts)
        with torch.autocast("cpu", torch.bfloat16):
            half = tower.encode(pixels, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        learning = tower.encode(pixels, prompts.requires_grad_())
    for found in (half, learning.detach()):
        assert found.dtype == torch.float32 and not torch.equal(found, exact)
        torch.testing.assert_close(found, exact, rtol=0, atol=0.03)


def test_patch_states_are_what_stands_at_the_patches_before_each_layer() -> None:
    clip: Any = model()
    pixels, seen = torch.randn(2, 3, 32, 32), []
    for block in clip.visual.transformer.resblocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, 1:]))
    encoded(clip, pixels)
    found = VisionTower(clip, "test").patch_states(pixels)
    assert found.shape == (3, 32)
    torch.testing.assert_close(found[1:], torch.stack([x.mean(dim=(0, 1)) for x in seen[1:3]]))
    before = clip.visual.conv1(pixels).mean(dim=(0, 2, 3))
    expected = before + clip.visual.positional_embedding[1:].mean(dim=0)
    torch.testing.assert_close(found[0], expected.detach())


def test_every_layers_prompts_get_a_gradient_and_no_weight_does() -> None:
    clip = model().requires_grad_(False)
    prompts = torch.randn(3, 2, 32, requires_grad=True)
    VisionTower(clip, "test").encode(torch.randn(2, 3, 32, 32), prompts)[:, :3].sum().backward()
    assert prompts.grad is not None and float(prompts.grad.abs().amax(dim=(1, 2)).min()) > 0
    assert all(p.grad is None for p in clip.parameters())


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"layers": (1, 1, 1, 1), "width": 16, "head_width": 16}, "ModifiedResNet"),
        ({"attentional_pool": True}, "attentional pooler"),
        ({"attentional_pool": "parallel"}, "attentional pooler"),
        ({"pool_type": "none"}, "pools by 'none'"),
        ({"timm_model_name": "vit_tiny_patch16_224"}, "TimmModel"),
    ],
)
def test_other_image_encoders_are_refused(vision: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        VisionTower(model(**vision), "some model")
    assert "'some model'" in str(error.value) and "ViT-B-32-quickgelu" in str(error.value)
