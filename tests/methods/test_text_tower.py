"""The text tower run from embeddings equals open_clip's own forward."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch

from methods.core import text_tower
from methods.core.text_tower import TextTower

VISION = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
TEXTS = ["a cat", "a photo of a very small red firefighter with dark skin tone.", "x"]


def model(kind: str, **text: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    config = {"width": 32, "heads": 2, "layers": 3, **text}
    return getattr(open_clip.model, kind)(embed_dim=16, vision_cfg=VISION, text_cfg=config).eval()


def tower(clip: torch.nn.Module) -> TextTower:
    return TextTower(clip, open_clip.tokenizer.SimpleTokenizer(), "test")


@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize(
    "text", [{}, {"context_length": 32}, {"proj_bias": True}, {"pool_type": "eos", "eos_id": 49407}]
)
def test_features_equal_open_clip(kind: str, text: dict[str, Any]) -> None:
    clip = model(kind, **text)
    ids = open_clip.tokenizer.SimpleTokenizer()(
        TEXTS, context_length=text.get("context_length", 77)
    )
    expected = clip.encode_text(ids, normalize=True)
    torch.testing.assert_close(tower(clip).encode_texts(TEXTS), expected, rtol=0, atol=1e-6)


def test_gradients_equal_the_padded_forward() -> None:
    clip = model("CLIP")
    own = tower(clip)
    ids = own.tokenize(TEXTS)
    embeddings = own.embed(ids).detach().requires_grad_()
    own.encode(embeddings, own.end(ids)).square()[:, :3].sum().backward()
    padded = own.embed(ids).detach().requires_grad_()
    x = clip.transformer(padded + clip.positional_embedding, attn_mask=clip.attn_mask)
    x = clip.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)] @ clip.text_projection
    torch.nn.functional.normalize(x, dim=-1).square()[:, :3].sum().backward()
    assert embeddings.grad is not None and padded.grad is not None
    error = (embeddings.grad - padded.grad).norm() / padded.grad.norm()
    assert float(padded.grad.norm()) > 0 and float(error) < 1e-5


def test_too_long_text_is_refused_and_the_longest_possible_is_not() -> None:
    own = tower(model("CLIP", context_length=8))
    assert own.tokenize(["a b c d e f"]).shape == (1, 8)
    with pytest.raises(ValueError, match=r"more than 8 tokens: 'a b c d e f g'"):
        own.tokenize(["a b c d e f g"])


def test_a_text_is_tokenised_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    own, asked = tower(model("CLIP")), []
    tokenizer = own._tokenizer

    def counted(texts: list[str], context_length: int) -> torch.Tensor:
        asked.append(texts)
        return tokenizer(texts, context_length=context_length)

    own._tokenizer = counted
    first = own.tokenize(["a", "b", "a"])
    again = own.tokenize(["b", "c", "a"])
    assert asked == [["a", "b"], ["c"]]
    assert first.tolist() == tokenizer(["a", "b", "a"], context_length=77).tolist()
    assert again.tolist() == tokenizer(["b", "c", "a"], context_length=77).tolist()
    assert own.tokenize([]).shape == (0, 77)
    again[:] = 0  # what a caller does to its ids changes nothing here
    monkeypatch.setattr(text_tower, "KEPT_TEXTS", 4)
    assert own.tokenize(["d", "a", "e"]).tolist() == (
        tokenizer(["d", "a", "e"], context_length=77).tolist()
    )
    assert asked[2:] == [["d", "a", "e"]] and len(own._ids) == 3


def test_towers_that_are_not_causal_are_refused() -> None:
    with pytest.raises(ValueError, match="not causal"):
        tower(model("CustomTextCLIP", no_causal_mask=True))
    with pytest.raises(ValueError, match="pools by 'last'"):
        tower(model("CLIP", pool_type="last"))


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-B-32-SigLIP2-256"])
def test_siglips_text_tower_is_refused(name: str) -> None:
    config = open_clip.get_model_config(name)
    assert config is not None
    small = {"width": 32, "heads": 2, "layers": 1, "vocab_size": 64}
    text = {k: v for k, v in config["text_cfg"].items() if "tokenizer" not in k}
    with pytest.raises(ValueError, match="end-of-text token; this one pools by 'last' and is not"):
        tower(model("CustomTextCLIP", **{**text, **small}))


def test_cocas_text_tower_is_refused() -> None:
    text = {"width": 32, "heads": 2, "layers": 1, "context_length": 76, "embed_cls": True}
    with pytest.raises(ValueError, match="a class token behind it"):
        tower(model("CustomTextCLIP", **text, output_tokens=True))


@pytest.mark.parametrize("start", ["", "cat cat", "a photo of a"])
def test_texts_that_begin_alike_equal_open_clip(start: str) -> None:
    clip = model("CLIP")
    texts = [f"{start} {end}".strip() for end in ("cat", "cat cat", "cat cat dog", "", "x", "cat")]
    expected = clip.encode_text(open_clip.tokenizer.SimpleTokenizer()(texts), normalize=True)
    for chosen in ([0, 1, 2, 3, 4, 5], [0], [3], [0, 5], [1, 2]):
        found = tower(clip).encode_texts([texts[row] for row in chosen])
        torch.testing.assert_close(found, expected[chosen], rtol=0, atol=1e-6)


def test_many_texts_of_many_lengths_keep_their_order() -> None:
    clip = model("CLIP")
    texts = [" ".join(["cat"] * (1 + 7 * number % 19)) for number in range(97)]
    ids = open_clip.tokenizer.SimpleTokenizer()(texts)
    expected = clip.encode_text(ids, normalize=True)
    torch.testing.assert_close(tower(clip).encode_texts(texts), expected, rtol=0, atol=1e-6)


def test_deep_vectors_replace_the_states_behind_the_start_token() -> None:
    clip = model("CLIP")
    own, deep = tower(clip), torch.randn(2, 3, 32)
    ids = own.tokenize(TEXTS * 30)  # enough to be grouped by length
    embeddings = own.embed(ids).detach()
    with torch.no_grad():
        x = embeddings + clip.positional_embedding
        for layer, block in enumerate(clip.transformer.resblocks):
            if layer > 0:
                x[:, 1:4] = deep[layer - 1]
            x = block(x, attn_mask=clip.attn_mask)
        x = clip.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)] @ clip.text_projection
        expected = torch.nn.functional.normalize(x, dim=-1)
        found = own.encode(embeddings, own.end(ids), deep)
        plain = own.encode(embeddings, own.end(ids))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert float((found - plain).abs().max()) > 1e-2


def test_a_tokens_feature_is_that_of_the_text_that_ends_there() -> None:
    own = tower(model("CLIP"))
    ids = own.tokenize(TEXTS)
    end = own.end(ids)
    features = own.token_features(ids)
    rows = torch.arange(len(TEXTS))
    assert features.shape == (3, 77, 16)
    expected = own.encode_texts(TEXTS)
    torch.testing.assert_close(features[rows, end], expected, rtol=0, atol=1e-6)
    middle = own.encode(own.embed(ids[1:2]), torch.tensor([4]))
    torch.testing.assert_close(features[1:2, 4], middle, rtol=0, atol=1e-6)
    assert not features.requires_grad
