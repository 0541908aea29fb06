"""Prompts with a common beginning: equal to open_clip's own forward of whole prompts."""

from __future__ import annotations

from collections.abc import Iterator

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from methods.core import shared_prefix
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.shared_prefix import Packing, pack, shareable
from methods.core.text_tower import TextTower
from tests.tiny import TINY_SPEC

TOWERS = {
    "plain": {},
    "quick gelu": {"quick_gelu": True},
    "layer scale": {"text_cfg": {"ls_init_value": 0.3}},
    "custom text, eos, linear projection": {
        "custom_text": True,
        "text_cfg": {"pool_type": "eos", "eos_id": 49407, "proj_bias": True},
    },
}


@pytest.fixture(scope="module", params=TOWERS)
def tower(request: pytest.FixtureRequest) -> Iterator[TextTower]:
    config = dict(open_clip.get_model_config("tiny-clip") or {})
    change = TOWERS[request.param]
    text = {**config.pop("text_cfg"), "layers": 3, **change.get("text_cfg", {})}
    torch.manual_seed(3)
    rest = {k: v for k, v in change.items() if k not in ("text_cfg", "custom_text")}
    kind = open_clip.CustomTextCLIP if "custom_text" in change else open_clip.model.CLIP
    model = kind(**config, text_cfg=text, **rest).eval().requires_grad_(False)
    for name, value in model.named_parameters():  # random weights start many at 0 or 1
        if name.endswith(("bias", "gamma")) or "ln_" in name:
            value.data += 0.3 * torch.randn_like(value)
    yield TextTower(model, open_clip.get_tokenizer("ViT-B-32"), request.param)


def whole(tower: TextTower, prompts: list[Tensor]) -> Tensor:
    """open_clip's transformer over prompts padded to the full context, states at their ends."""
    inner = tower._tower
    padded = torch.zeros(len(prompts), tower.context_length, tower.width)
    rows = [nn.functional.pad(p, (0, 0, 0, tower.context_length - len(p))) for p in prompts]
    x = padded + torch.stack(rows) + inner.positional_embedding
    x = inner.ln_final(inner.transformer(x, attn_mask=inner.attn_mask))
    x = x[torch.arange(len(prompts)), torch.tensor([len(p) - 1 for p in prompts])]
    x = inner.text_projection(x) if callable(inner.text_projection) else x @ inner.text_projection
    return nn.functional.normalize(x, dim=-1)


def drawn(tower: TextTower, prefix: int, lengths: list[int]) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(prefix + sum(lengths))
    start = (0.5 * torch.randn(prefix, tower.width)).requires_grad_()
    return start, [(0.5 * torch.randn(n, tower.width)).requires_grad_() for n in lengths]


@pytest.mark.parametrize(
    ("prefix", "lengths"),
    [(1, [1]), (5, [3, 3, 3]), (17, [4, 1, 9, 4, 2, 30, 5]), (2, [75, 1, 40]), (40, [37, 2])],
)
def test_features_and_gradients_equal_open_clips(
    tower: TextTower, prefix: int, lengths: list[int]
) -> None:
    start, rests = drawn(tower, prefix, lengths)
    packing = pack(lengths)
    found = tower.encode_behind(start, torch.cat(rests)[packing.order], packing)
    expected = whole(tower, [torch.cat([start, rest]) for rest in rests])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad((found * weight).sum(), [start, *rests])
    theirs = torch.autograd.grad((expected * weight).sum(), [start, *rests])
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = load_backbone(TINY_SPEC).text
    lengths = [3, 9, 2, 7, 7, 4, 1, 12]
    start, rests = drawn(tower, 4, lengths)
    packing = pack(lengths)

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        features = tower.encode_behind(start, torch.cat(rests)[packing.order], packing)
        return features, torch.autograd.grad(features[:, 0].sum(), [start, *rests])

    features, gradients = run()
    monkeypatch.setattr(shared_prefix, "CHUNK_TOKENS", 10)  # the longest rest is longer
    chunked, again = run()
    torch.testing.assert_close(chunked, features)
    torch.testing.assert_close(again, gradients)


def test_blocks_of_another_kind_run_whole(tiny_backbone: Backbone) -> None:
    config = dict(open_clip.get_model_config("tiny-clip") or {})
    text = {**config.pop("text_cfg"), "block_type": "custom"}
    torch.manual_seed(3)
    model = open_clip.model.CLIP(**config, text_cfg=text).eval().requires_grad_(False)
    tower = TextTower(model, open_clip.get_tokenizer("ViT-B-32"), "custom")
    assert not shareable(model.transformer) and shareable(tiny_backbone.text._tower.transformer)
    lengths = [3, 6, 2]
    start, rests = drawn(tower, 4, lengths)
    packing = pack(lengths)
    found = tower.encode_behind(start, torch.cat(rests)[packing.order], packing)
    expected = whole(tower, [torch.cat([start, rest]) for rest in rests])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_packing_sorts_and_gives_back(lengths: list[int]) -> None:
    packing: Packing = pack(lengths)
    tokens = [(row, place) for row, length in enumerate(lengths) for place in range(length)]
    packed = [tokens[i] for i in packing.order.tolist()]
    assert sorted(packed) == tokens
    assert [place for _, place in packed] == packing.position.tolist()
    rows = [row for row, place in packed if place == 0]
    assert [lengths[row] for row in rows] == sorted(lengths)
    assert [rows[i] for i in packing.back.tolist()] == list(range(len(lengths)))
    assert packing.sizes == tuple((n, lengths.count(n)) for n in sorted(set(lengths)))
    rests = torch.tensor(packed, dtype=torch.float32)
    unpacked = packing.unpacked(torch.full((2, 2), -1.0), rests)
    for row, length in enumerate(lengths):
        assert unpacked[row, 2 : 2 + length, 0].tolist() == [row] * length
        assert (unpacked[row, 2 + length :] == 0).all() and (unpacked[row, :2] == -1).all()


def test_an_empty_rest_is_refused() -> None:
    with pytest.raises(ValueError, match="a token behind the prefix"):
        pack([2, 0])


@pytest.mark.slow
def test_a_real_tower() -> None:
    tower = load_backbone(BackboneSpec(model="ViT-B-32-quickgelu", random_seed=0)).text
    start, rests = drawn(tower, 17, [3, 5, 8])
    packing = pack([3, 5, 8])
    found = tower.encode_behind(start, torch.cat(rests)[packing.order], packing)
    expected = whole(tower, [torch.cat([start, rest]) for rest in rests])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    ours = torch.autograd.grad(found[:, 0].sum(), start)[0]
    theirs = torch.autograd.grad(expected[:, 0].sum(), start)[0]
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
