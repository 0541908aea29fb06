"""Rests in blocks, equal first words once: equal to open_clip's own forward of whole prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from methods.coop import CoOp, CoOpConfig, _Blocks, _in_blocks, _Layout
from methods.core import prefix_chunks, word_blocks
from methods.core.backbone import load_backbone
from methods.core.contract import TaskInfo
from methods.core.text_tower import TextTower
from methods.core.word_blocks import lay, room, side_by_side
from tests.methods.test_shared_prefix import TOWERS, built, whole
from tests.syncs import Syncs
from tests.tiny import TINY_SPEC

# Rests of three prefixes; numbers are words, a row of `words` each.
RESTS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((1, 2, 3), (1, 2, 4, 5), (1,), (2, 2), (1, 2, 3), (7, 6, 5, 4, 3, 2, 1)),
    ((9,),),
    ((1, 2, 3), (1, 2, 3, 4, 5, 6, 7, 8, 9), (0, 1), (0, 2), (0, 3), (0, 3, 0)),
)


@pytest.fixture(scope="module", params=TOWERS)
def tower(request: pytest.FixtureRequest) -> TextTower:
    return built(TOWERS[request.param])


def drawn(tower: TextTower, length: int) -> tuple[Tensor, Tensor]:
    """Prefixes (3, length, width), and words (10, width)."""
    torch.manual_seed(length)
    prefixes = (0.5 * torch.randn(3, length, tower.width)).requires_grad_()
    return prefixes, (0.5 * torch.randn(10, tower.width)).requires_grad_()


def encoded(
    tower: TextTower, prefixes: Tensor, words: Tensor, places: int = 16, keep: bool = False
) -> Tensor:
    laid = [lay(rests, places) for rests in RESTS]
    rests = words[torch.cat([own.words for own in laid])]
    blocks = side_by_side(laid, prefixes.shape[1], rests.device)
    return tower.encode_blocks(prefixes, rests, blocks, keep)


@pytest.mark.parametrize("length", [1, 6])
@pytest.mark.parametrize("limit", [4096, 32, 16])
def test_features_and_gradients_equal_open_clips(
    tower: TextTower, length: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_chunks, "chunk_tokens", lambda _: limit)
    prefixes, words = drawn(tower, length)
    found = encoded(tower, prefixes, words)
    prompts = [
        torch.cat([prefix, words[list(rest)]])
        for prefix, rests in zip(prefixes, RESTS, strict=True)
        for rest in rests
    ]
    expected = whole(tower, prompts)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad((found * weight).sum(), [prefixes, words])
    theirs = torch.autograd.grad((expected * weight).sum(), [prefixes, words])
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


def test_chunks_that_are_computed_again_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = load_backbone(TINY_SPEC).text
    prefixes, words = drawn(tower, 4)

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        features = encoded(tower, prefixes, words)
        return features, torch.autograd.grad(features[:, 0].sum(), [prefixes, words])

    whole_, kept = run()
    monkeypatch.setattr(prefix_chunks, "chunk_tokens", lambda _: 16)
    monkeypatch.setattr(prefix_chunks, "KEPT_TOKENS", 0)
    chunked, again = run()
    torch.testing.assert_close(chunked, whole_)
    torch.testing.assert_close(again, kept)


def test_the_first_layer_of_fixed_words_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = load_backbone(TINY_SPEC).text
    prefixes, words = drawn(tower, 4)
    laid = [lay(rests, 16) for rests in RESTS]
    blocks = side_by_side(laid, 4, words.device)
    rests = words.detach()[torch.cat([own.words for own in laid])]

    def run(keep: bool, start: Tensor) -> tuple[Tensor, Tensor]:
        features = tower.encode_blocks(start, rests, blocks, keep)
        return features, torch.autograd.grad(features[:, 0].sum(), start)[0]

    with torch.no_grad():
        tower.encode_blocks(prefixes, rests, blocks, True)
    assert len(blocks.begun) == 1
    for start in (prefixes, prefixes.detach().flip(0).requires_grad_()):
        for ours, theirs in zip(run(True, start), run(False, start), strict=True):
            assert torch.equal(ours, theirs)
    with torch.autocast("cpu", torch.bfloat16):
        for ours, theirs in zip(run(True, prefixes), run(False, prefixes), strict=True):
            assert torch.equal(ours, theirs)
        assert not torch.equal(run(True, prefixes)[0], run(True, prefixes.flip(0))[0])
    assert len(blocks.begun) == 2, "one for each precision"
    monkeypatch.setattr(prefix_chunks, "chunk_tokens", lambda _: 16)
    assert torch.allclose(run(True, prefixes)[0], run(False, prefixes)[0])


def test_in_bfloat16_it_is_the_same_but_coarser() -> None:
    tower = built(TOWERS["quick gelu"])
    prefixes, words = drawn(tower, 6)
    features = encoded(tower, prefixes, words)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = encoded(tower, prefixes, words)
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, features)
    torch.testing.assert_close(coarse, features, atol=3e-2, rtol=0)


@given(
    rests=st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=9), min_size=1, max_size=30),
    places=st.sampled_from([16, 32]),
)
def test_every_rest_is_a_branch_of_one_block(rests: list[list[int]], places: int) -> None:
    given_ = [tuple(rest) for rest in rests]
    laid = lay(given_, places)
    assert len(laid.words) % places == 0 and laid.sees.shape == (len(laid.words), places)
    starts = set[tuple[int, tuple[int, ...]]]()
    for rest, last in zip(given_, laid.last.tolist(), strict=True):
        block = last // places
        branch = [block * places + i for i in laid.sees[last].nonzero()[:, 0].tolist()]
        assert tuple(laid.words[branch].tolist()) == rest
        assert laid.depth[branch].tolist() == list(range(len(rest)))
        for number, place in enumerate(branch):
            seen = laid.sees[place].nonzero()[:, 0] + block * places
            assert seen.tolist() == branch[: number + 1]
            starts.add((block, rest[: number + 1]))
    empty = (laid.sees.sum(1) == 1) & (laid.words == 0) & (laid.depth == 0)
    assert len(laid.words) - len(starts) <= int(empty.sum()), "equal words of a block stand once"


def test_longer_rests_have_longer_blocks() -> None:
    assert room(1) == room(word_blocks.PLACES) == word_blocks.PLACES
    assert room(word_blocks.PLACES + 1) == word_blocks.PLACES + 8
    rest = tuple(range(40))
    assert lay([rest, rest[:3]], room(40)).words.tolist() == [*rest]


NAMES = ("red square", "red squares", "red circle", "red cross", "red crossing")


@pytest.mark.parametrize(
    ("config", "names", "kind"),
    [
        ({"n_ctx": 4}, NAMES * 8, _Blocks),
        ({"n_ctx": 4, "class_token_position": "middle"}, NAMES * 8, _Blocks),
        ({"n_ctx": 4, "class_token_position": "front"}, NAMES * 8, _Blocks),
        ({"n_ctx": 5, "class_specific": True}, NAMES * 8, _Layout),  # no two words in common
        ({"n_ctx": 4}, NAMES[:1], _Layout),  # a block would be mostly empty
    ],
)
def test_seeds_share_words_where_that_spares_some(
    config: dict[str, Any], names: tuple[str, ...], kind: type
) -> None:
    backbone = load_backbone(TINY_SPEC)
    task = TaskInfo("classification", names, ())
    torch.manual_seed(1)
    methods = [CoOp(CoOpConfig(**config), backbone, task) for _ in range(3)]
    assert not torch.allclose(methods[0].ctx, methods[1].ctx)
    found = CoOp.texts_together(methods, [task.class_names] * 3)
    (layout,) = methods[0]._known_together.values()
    assert type(layout) is kind
    assert found is not None
    for method, features in zip(methods, found, strict=True):
        expected = method.text(task.class_names)
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
        ours, theirs = (
            torch.autograd.grad(f[:, 0].sum(), method.ctx, retain_graph=True)[0]
            for f in (features, expected)
        )
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize(("many", "kind"), [(4, type(None)), (16, _Blocks)])
def test_new_texts_of_several_seeds_wait_for_no_gpu(many: int, kind: type) -> None:
    backbone = load_backbone(TINY_SPEC)
    methods = [CoOp(CoOpConfig(n_ctx=4), backbone, TaskInfo("composed")) for _ in range(2)]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEF"
    texts = [[f"the same in {c}" for c in letters[s : s + many]] for s in (0, many)]
    with Syncs() as syncs:
        syncs.watching = True
        found = CoOp.texts_together(methods, texts)
        assert found is not None
        torch.stack(found)[..., 0].sum().backward()
        syncs.watching = False
    assert not syncs.found, "\n".join(syncs.found)
    blocks = _in_blocks([methods[0]._layout(own) for own in texts], 4)
    assert type(blocks) is kind
