"""Prompts with a common beginning: equal to open_clip's own forward of whole prompts."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from methods.core import prefix_chunks
from methods.core.backbone import Backbone, BackboneSpec, load_backbone
from methods.core.shared_prefix import Packing, pack, shareable
from methods.core.text_tower import TextTower
from tests.tiny import TINY_SPEC

TOWERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "quick gelu": {"quick_gelu": True},
    "layer scale": {"text_cfg": {"ls_init_value": 0.3}},
    "tanh gelu": {
        "text_cfg": {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}}
    },
    "ViT-B-32's width": {"quick_gelu": True, "text_cfg": {"width": 512, "heads": 8}},
    "custom text, eos, linear projection": {
        "custom_text": True,
        "text_cfg": {"pool_type": "eos", "eos_id": 49407, "proj_bias": True},
    },
}


def built(change: dict[str, Any]) -> TextTower:
    """The text tower of a real open_clip model: `tests/tiny-clip.json` with 3 layers, changed."""
    config = dict(open_clip.get_model_config("tiny-clip") or {})
    text = {**config.pop("text_cfg"), "layers": 3, **change.get("text_cfg", {})}
    torch.manual_seed(3)
    rest = {k: v for k, v in change.items() if k not in ("text_cfg", "custom_text")}
    kind = open_clip.CustomTextCLIP if "custom_text" in change else open_clip.model.CLIP
    model = kind(**config, text_cfg=text, **rest).eval().requires_grad_(False)
    for name, value in model.named_parameters():  # random weights start many at 0 or 1
        if name.endswith(("bias", "gamma")) or "ln_" in name:
            value.data += 0.3 * torch.randn_like(value)
    return TextTower(model, open_clip.get_tokenizer("ViT-B-32"), "changed")


@pytest.fixture(scope="module", params=TOWERS)
def tower(request: pytest.FixtureRequest) -> TextTower:
    return built(TOWERS[request.param])


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
    check(tower, prefix, lengths)


def check(tower: TextTower, prefix: int, lengths: list[int]) -> None:
    """Features within 1e-5 of open_clip's own whole forward, gradients within 1e-4 of the norm."""
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


@pytest.mark.parametrize("length", [32, 16])
@pytest.mark.parametrize("custom", [{}, {"custom_text": True}])
def test_a_shorter_context_is_used_to_its_end(length: int, custom: dict[str, Any]) -> None:
    tower = built({**custom, "text_cfg": {"context_length": length}})
    assert tower.context_length == length
    check(tower, 5, [length - 5, 2, length - 6, 1])
    check(tower, length - 1, [1, 1])


@pytest.mark.parametrize("change", ["plain", "quick gelu"])
def test_in_bfloat16_it_is_the_same_but_coarser(change: str) -> None:
    tower = built(TOWERS[change])
    lengths = [4, 1, 9, 4, 2]
    start, rests = drawn(tower, 6, lengths)
    packing = pack(lengths)

    def run() -> tuple[Tensor, Tensor]:
        features = tower.encode_behind(start, torch.cat(rests)[packing.order], packing)
        return features, torch.autograd.grad(features[:, 0].sum(), start)[0]

    features, gradient = run()
    with torch.autocast("cpu", torch.bfloat16):
        coarse, slope = run()
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, features)
    torch.testing.assert_close(coarse, features, atol=3e-2, rtol=0)
    assert float(nn.functional.cosine_similarity(slope.flatten(), gradient.flatten(), 0)) > 0.99


@pytest.mark.parametrize("kept", [prefix_chunks.KEPT_TOKENS, 0])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    tower = load_backbone(TINY_SPEC).text
    lengths = [3, 9, 2, 7, 7, 4, 1, 12]
    start, rests = drawn(tower, 4, lengths)
    packing = pack(lengths)

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        features = tower.encode_behind(start, torch.cat(rests)[packing.order], packing)
        return features, torch.autograd.grad(features[:, 0].sum(), [start, *rests])

    features, gradients = run()
    monkeypatch.setattr(prefix_chunks, "chunk_tokens", lambda _: 10)  # the longest rest is longer
    monkeypatch.setattr(prefix_chunks, "KEPT_TOKENS", kept)  # 0: computed again for the gradient
    chunked, again = run()
    torch.testing.assert_close(chunked, features)
    torch.testing.assert_close(again, gradients)


# Which prefix each prompt has, and its rest's length: every prefix with the same lengths (seeds
# together, an image's prompts for all classes), one prompt each (captions), and neither.
SEVERAL = {
    "seeds": [(g, n) for g in range(3) for n in (4, 2, 4, 9, 3)],
    "classes first": [(g, n) for n in (4, 2, 4, 9, 3) for g in range(3)],
    "one each": [(2, 5), (0, 3), (1, 9)],
    "unequal": [(0, 3), (2, 4), (0, 4), (2, 3), (2, 12), (0, 5)],  # none begins with 1
}


@pytest.mark.parametrize("limit", [prefix_chunks.CHUNK_TOKENS, 40, 16])
@pytest.mark.parametrize("layout", SEVERAL)
def test_several_prefixes_equal_one_call_for_each(
    tower: TextTower, layout: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = torch.tensor([g for g, _ in SEVERAL[layout]])
    lengths = [n for _, n in SEVERAL[layout]]
    torch.manual_seed(7)
    prefixes = (0.5 * torch.randn(3, 6, tower.width)).requires_grad_()
    rests = [(0.5 * torch.randn(n, tower.width)).requires_grad_() for n in lengths]
    expected = torch.zeros(len(of), 16)
    for number, prefix in enumerate(prefixes):
        mine = (of == number).nonzero()[:, 0].tolist()
        if mine:
            own = pack([lengths[row] for row in mine])
            flat = torch.cat([rests[row] for row in mine])[own.order]
            expected[mine] = tower.encode_behind(prefix, flat, own)
    monkeypatch.setattr(prefix_chunks, "chunk_tokens", lambda _: limit)
    packing = pack(lengths)
    found = tower.encode_behind(prefixes, torch.cat(rests)[packing.order], packing, of.tolist())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weight = torch.randn_like(found)
    ours = torch.autograd.grad((found * weight).sum(), [prefixes, *rests])
    theirs = torch.autograd.grad((expected * weight).sum(), [prefixes, *rests])
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


def test_words_that_need_no_gradient_change_nothing(tower: TextTower) -> None:
    start, rests = drawn(tower, 6, [3, 5, 3])
    packing = pack([3, 5, 3])
    flat = torch.cat(rests)[packing.order]
    found = tower.encode_behind(start, flat.detach(), packing)
    expected = tower.encode_behind(start, flat, packing)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(f[:, 0].sum(), start)[0] for f in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_several_prefixes_need_to_know_whose_a_prompt_is(tiny_backbone: Backbone) -> None:
    tower = tiny_backbone.text
    prefixes, rests = torch.randn(2, 3, tower.width), torch.randn(4, tower.width)
    for of in (None, [0]):
        with pytest.raises(ValueError, match="2 prefixes need `of`, one for each prompt"):
            tower.encode_behind(prefixes, rests, pack([2, 2]), of)


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
    of = [1, 0, 1]
    both = torch.stack([start, start.flip(0)])
    several = tower.encode_behind(both, torch.cat(rests)[packing.order], packing, of)
    swapped = whole(tower, [torch.cat([both[g], rests[i]]) for i, g in enumerate(of)])
    torch.testing.assert_close(several, swapped, atol=1e-5, rtol=0)


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
    check(tower, 17, [3, 5, 8])


STEP = """
import re, sys
from methods.coop import CoOp, CoOpConfig
from methods.core import prefix_chunks
from methods.core.backbone import BackboneSpec, load_backbone
from methods.core.contract import TaskInfo

prefix_chunks.KEPT_TOKENS = int(sys.argv[2]) or prefix_chunks.KEPT_TOKENS
names = tuple(f"farmer {number}" for number in range(int(sys.argv[1])))
method = CoOp(CoOpConfig(), load_backbone(BackboneSpec()), TaskInfo("classification", names))
features = method.text(names)
features[:, 0].sum().backward()
# Not ru_maxrss, which begins with the parent's.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024)
"""


@pytest.mark.slow
def test_ten_thousand_classes_need_little_more_memory_than_one_thousand() -> None:
    def peak(classes: int, kept: int = 0) -> float:
        command = [sys.executable, "-c", STEP, str(classes), str(kept)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(done.stdout)

    few, many = peak(1000), peak(10_000)
    assert many - few < 350  # MB
    assert peak(10_000, 10**9) - few > 700  # all activations kept
