"""CoOp: word initialisation reproduces plain prompts, in all three positions."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from methods.coop import CoOp, CoOpConfig
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.contract import Batch, TaskInfo

CLASSES = ("farmer", "raised_fist", "person in steamy room")
WORDS = "a photo of a"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(BackboneSpec())


def coop(backbone: Backbone, kind: str = "classification", **options: object) -> CoOp:
    torch.manual_seed(1)
    classes = CLASSES if kind == "classification" else ()
    return CoOp(CoOpConfig.model_validate(options), backbone, TaskInfo(kind, classes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "prompt"),
    [("end", "a photo of a {}."), ("front", "{} a photo of a."), ("middle", "a photo {} of a.")],
)
def test_word_initialisation_equals_the_written_prompt(
    backbone: Backbone, position: str, prompt: str
) -> None:
    method = coop(backbone, ctx_init=WORDS, class_token_position=position)
    written = [prompt.format(name.replace("_", " ")) for name in CLASSES]
    expected = backbone.text.encode_texts(written)
    torch.testing.assert_close(method.text(CLASSES), expected, rtol=0, atol=1e-6)


def test_the_context_is_all_that_is_trained(backbone: Backbone) -> None:
    method = coop(backbone)
    assert [name for name, _ in method.named_parameters()] == ["ctx"]
    assert method.ctx.shape == (16, backbone.text.width)
    assert list(method.state_dict()) == ["ctx"]
    assert 0.015 < float(method.ctx.detach().std()) < 0.025
    method.text(CLASSES).sum().backward()
    assert method.ctx.grad is not None and float(method.ctx.grad.abs().min(dim=1).values.max()) > 0
    assert all(p.grad is None for p in backbone.model.parameters())


def test_class_specific_context_has_one_row_a_class_and_refuses_others(backbone: Backbone) -> None:
    method = coop(backbone, class_specific=True, n_ctx=4)
    shared = coop(backbone, n_ctx=4)
    assert method.ctx.shape == (3, 4, backbone.text.width)
    with torch.no_grad():
        method.ctx.copy_(shared.ctx.expand_as(method.ctx))
    torch.testing.assert_close(method.text(CLASSES), shared.text(CLASSES))
    with pytest.raises(ValueError, match="cannot transfer"):
        method.text(("farmer", "judge"))


def test_a_unified_context_transfers_to_new_classes(backbone: Backbone) -> None:
    method = coop(backbone, n_ctx=4)
    one = method.text(("judge",))
    torch.testing.assert_close(method.text((*CLASSES, "judge"))[3:], one, rtol=0, atol=1e-6)


def test_captions_and_modifications_are_taken_as_they_are(backbone: Backbone) -> None:
    method = coop(backbone, "composed", ctx_init=WORDS)
    texts = ["with dark skin tone", "as a man"]
    written = backbone.text.encode_texts([f"{WORDS} {t}" for t in texts])
    torch.testing.assert_close(method.text(texts), written, rtol=0, atol=1e-6)
    images = torch.nn.functional.normalize(torch.randn(2, backbone.dim), dim=-1)
    query = method.query(Batch(images=images, texts=texts))
    expected = torch.nn.functional.normalize(images + written, dim=-1)
    torch.testing.assert_close(query, expected, rtol=0, atol=1e-6)
    assert torch.equal(method.candidate(Batch(images=images)), images)


def test_the_same_seed_gives_the_same_context(backbone: Backbone) -> None:
    assert torch.equal(coop(backbone).ctx, coop(backbone).ctx)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ctx": 3, "class_token_position": "middle"}, "even M, not 3"),
        ({"ctx_init": "a photo of", "class_token_position": "middle"}, "even M, not 3"),
        ({"ctx_init": WORDS, "class_specific": True}, "only one of the two"),
        ({"ctx_init": "_"}, "has no words"),
        ({"ctx_init": "a_photo_of", "class_token_position": "middle"}, "even M, not 3"),
        ({"n_ctx": 0}, "greater than 0"),
        ({"n_ctx": "16"}, "valid integer"),
        ({"n_context": 16}, "Extra inputs"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CoOpConfig.model_validate(options)


def test_a_word_of_several_tokens_and_a_context_that_is_too_long_are_refused(
    backbone: Backbone,
) -> None:
    with pytest.raises(ValueError, match="every word must be one token"):
        coop(backbone, ctx_init="an unphotographable thing")
    with pytest.raises(ValueError, match=r"the backbone takes 77\. Lower n_ctx"):
        coop(backbone, n_ctx=75)
    with pytest.raises(ValueError, match="does classification, not image_text"):
        coop(backbone, "image_text", class_specific=True)
