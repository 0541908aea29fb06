"""Backbones: the embedded default, random weights, local checkpoints, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file

from methods.core.backbone import (
    Backbone,
    BackboneError,
    BackboneSpec,
    expand_tokens,
    load_backbone,
)

SMALL = "ViT-B-32-quickgelu"


def test_the_default_is_frozen_and_gives_unit_norm_features() -> None:
    backbone = load_backbone(BackboneSpec())
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not backbone.model.training
    pixels = torch.stack(
        [backbone.transform(Image.new("RGB", (90, 50), c)) for c in ("red", "blue")]
    )
    features = backbone.encode_pixels(pixels)
    assert features.shape == (2, backbone.dim)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    texts = backbone.text.encode_texts(["a farmer", "a woman farmer with dark skin tone"])
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))
    assert 1 < backbone.logit_scale <= 100.1


def test_the_digest_tells_weights_apart() -> None:
    first, again = load_backbone(BackboneSpec()), load_backbone(BackboneSpec())
    assert first.digest == again.digest
    with torch.no_grad():
        next(again.model.parameters()).view(-1)[0] += 1e-6
    del again.__dict__["digest"]
    assert first.digest != again.digest


def test_the_digest_tells_configurations_apart(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal weights with another activation give other features."""
    config = open_clip.get_model_config(tiny_backbone.spec.model)
    known = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(known, "tiny-quick", {**config, "quick_gelu": True})
    plain, quick = tiny_backbone, load_backbone(BackboneSpec(model="tiny-quick", random_seed=0))
    theirs = quick.model.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in plain.model.state_dict().items())
    pixels = torch.ones(1, 3, 32, 32)
    assert not torch.equal(plain.encode_pixels(pixels), quick.encode_pixels(pixels))
    assert plain.digest != quick.digest


def test_tokens_that_are_not_stored_become_zero_rows() -> None:
    state = {
        "token_embedding.rows": torch.ones(2, 3, dtype=torch.float16),
        "token_embedding.ids": torch.tensor([4, 1]),
        "ln_final.bias": torch.zeros(3, dtype=torch.float16),
    }
    full = expand_tokens(state, vocabulary=6)
    assert full["token_embedding.weight"].sum(dim=1).tolist() == [0, 3, 0, 0, 3, 0]
    assert full["ln_final.bias"].dtype == torch.float32


@pytest.mark.slow
def test_a_local_checkpoint_gives_the_same_model(tmp_path: Path) -> None:
    random = load_backbone(BackboneSpec(model=SMALL, random_seed=3))
    path = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in random.model.state_dict().items()}, path)
    loaded = load_backbone(BackboneSpec(model=SMALL, checkpoint=str(path)))
    assert loaded.digest == random.digest
    assert loaded.dim == 512 and loaded.text.width == 512


def test_a_missing_checkpoint_names_the_file(tmp_path: Path) -> None:
    spec = BackboneSpec(model=SMALL, checkpoint=str(tmp_path / "none.pt"))
    with pytest.raises(BackboneError, match=r"none\.pt: no such checkpoint"):
        load_backbone(spec)


def test_openai_weights_with_plain_gelu_are_an_error_before_any_download() -> None:
    spec = BackboneSpec(model="ViT-B-32", pretrained="openai")
    with pytest.raises(BackboneError, match="use model: ViT-B-32-quickgelu"):
        load_backbone(spec)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "ViT-B-32"}, "exactly one of"),
        ({"model": "ViT-B-32", "pretrained": "openai", "random_seed": 1}, "exactly one of"),
        ({"model": "ViT-B-99", "random_seed": 1}, "no open_clip model"),
        ({"random_seed": 1}, "no other source"),
        ({"modell": "x"}, "Extra inputs"),
    ],
)
def test_wrong_specs_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BackboneSpec.model_validate(fields)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_another_backbone(precision: str) -> None:
    spec = BackboneSpec.model_validate({"precision": precision})
    whole, half = load_backbone(BackboneSpec()), load_backbone(spec)
    assert half.digest != whole.digest and half.precision == precision
    assert half.spec.label == f"openmoji-vit/{precision}" and whole.spec.label == "openmoji-vit"
    pictures = [Image.new("RGB", (90, 50), colour) for colour in ("red", "blue", "white")]
    pixels = torch.stack([whole.transform(picture) for picture in pictures])
    texts = ["a farmer", "a woman farmer with dark skin tone", "a red car"]
    for encode in (lambda b: b.encode_pixels(pixels), lambda b: b.text.encode_texts(texts)):
        exact, rounded = encode(whole), encode(half)
        assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
        torch.testing.assert_close(rounded.norm(dim=1), torch.ones(3))
        assert float((exact * rounded).sum(dim=1).min()) > 0.99
    assert all(p.dtype == torch.float32 for p in half.model.parameters())


def test_frozen_encoding_has_the_backbones_precision_inside_any_autocast() -> None:
    backbone = load_backbone(BackboneSpec())
    pixels = backbone.transform(Image.new("RGB", (90, 50), "red"))[None]
    with torch.autocast("cpu", torch.bfloat16):
        inside = backbone.encode_pixels(pixels), backbone.text.encode_texts(["a farmer"])
    assert torch.equal(inside[0], backbone.encode_pixels(pixels))
    assert torch.equal(inside[1], backbone.text.encode_texts(["a farmer"]))


@pytest.mark.slow
def test_compiled_encoding_is_equal_up_to_rounding() -> None:
    """Where there is a compiler; a batch of another size than the first runs as it is."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU, and there is none")
    backbone, plain = load_backbone(BackboneSpec()).compile(), load_backbone(BackboneSpec())
    pictures = [Image.new("RGB", (70, 70), (value, 90, 9)) for value in range(0, 250, 50)]
    pixels = torch.stack([backbone.transform(picture) for picture in pictures])
    for _ in range(2):
        torch.testing.assert_close(
            backbone.encode_pixels(pixels), plain.encode_pixels(pixels), rtol=0, atol=1e-5
        )
    assert torch.equal(backbone.encode_pixels(pixels[:2]), plain.encode_pixels(pixels[:2]))
