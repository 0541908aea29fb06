"""Frozen texts: the bits of a fresh encoding of that very list, whatever was asked before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from methods.core.backbone import Backbone
from methods.core.frozen_texts import FrozenTexts

LISTS = [[f"a drawing of {n} {'very ' * (n % 7)}red squares" for n in range(k)] for k in (1, 5, 90)]


class Counted(FrozenTexts):
    """Counts the texts that are encoded."""

    def __init__(self, backbone: Backbone, kept: int = 2**20) -> None:
        super().__init__(backbone, kept)
        self.encoded: list[int] = []

    def _encode(self, texts: Sequence[str]) -> Tensor:
        self.encoded.append(len(texts))
        return super()._encode(texts)


def test_a_list_is_encoded_once_and_as_ever(tiny_backbone: Backbone) -> None:
    texts = Counted(tiny_backbone)
    for _ in range(2):
        for one in [*LISTS, LISTS[2][::-1], LISTS[2][:64]]:
            assert torch.equal(texts(one), tiny_backbone.text.encode_texts(one))
            assert torch.equal(texts(tuple(one)), texts(one))
    assert texts.encoded == [1, 5, 90, 90, 64]


def test_lists_are_told_apart_by_their_cuts(tiny_backbone: Backbone) -> None:
    texts = Counted(tiny_backbone)
    assert texts(["a b", "c"]).shape == texts(["a", "b c"]).shape == (2, 16)
    assert not torch.equal(texts(["a b", "c"]), texts(["a", "b c"]))
    assert texts.encoded == [2, 2]


def test_memory_is_bounded_and_the_list_used_last_stays(tiny_backbone: Backbone) -> None:
    texts = Counted(tiny_backbone, kept=3 * 16 * 4)  # three texts of D = 16
    for name in "abca":
        texts([name])
    texts(["d"])  # b goes
    for name in "cad":
        texts([name])
    assert len(texts.encoded) == 4
    texts(["b"])
    assert len(texts.encoded) == 5
    large = texts([str(n) for n in range(50)])  # larger than all of it, and kept alone
    assert texts([str(n) for n in range(50)]) is large and len(texts.encoded) == 6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_precision_of_a_training_does_not_matter(
    tiny_backbone: Backbone, dtype: torch.dtype
) -> None:
    texts, tower = FrozenTexts(tiny_backbone), tiny_backbone.text
    ids = tower.tokenize(LISTS[1])
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        found = texts(LISTS[1])
        rough = tower.encode(tower.embed(ids), tower.end(ids))
    plain = tower.encode_texts(LISTS[1])
    assert torch.equal(found, plain) and (rough - plain).abs().max() > 1e-4
    assert found.dtype == torch.float32 and not found.requires_grad


def test_a_store_is_asked_for_what_is_not_in_memory(tiny_backbone: Backbone) -> None:
    class Store:
        asked: list[list[str]]

        def features(self, texts: Sequence[str], encode: Callable[[], Tensor]) -> Tensor:
            self.asked.append(list(texts))
            return encode() if len(texts) > 1 else torch.ones(1, 16)

    texts, store = Counted(tiny_backbone), Store()
    store.asked = []
    texts.store = store
    for _ in range(2):
        assert texts(["x"]).tolist() == [[1.0] * 16]
        assert torch.equal(texts(LISTS[1]), tiny_backbone.text.encode_texts(LISTS[1]))
    assert store.asked == [["x"], LISTS[1]] and texts.encoded == [5]


def test_a_text_that_does_not_fit_is_refused(tiny_backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"more than \d+ tokens"):
        tiny_backbone.text_features(["fits", "word " * 100])
