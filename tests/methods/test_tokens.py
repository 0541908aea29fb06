"""Kept token ids are the tokenizer's own, asked for once."""

from __future__ import annotations

import open_clip
import pytest
import torch

from methods.core import tokens
from methods.core.tokens import KeptTokens


class Counted:
    """open_clip's tokenizer, with what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self._own = open_clip.get_tokenizer("ViT-B-32")

    def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
        self.asked.append(texts)
        ids: torch.Tensor = self._own(texts, context_length=context_length)
        return ids


def test_each_text_is_tokenized_once_and_alike() -> None:
    counted = Counted()
    kept, plain = KeptTokens(counted), open_clip.get_tokenizer("ViT-B-32")
    for texts in (["a cat", "a dog", "a cat"], ["a dog", "woman, light skin"], ["a cat"]):
        assert torch.equal(kept(texts, 78), plain(texts, context_length=78))
    assert counted.asked == [["a cat", "a dog"], ["woman, light skin"]]
    assert torch.equal(kept(["a cat"], 9), plain(["a cat"], context_length=9))
    assert len(counted.asked) == 3, "other lengths are other ids"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KEPT_TEXTS", 3)
    counted = Counted()
    kept, plain = KeptTokens(counted), open_clip.get_tokenizer("ViT-B-32")
    for texts in (["a", "b"], ["c", "d"], ["c", "a"], ["a", "b", "c", "d", "e"], ["e"]):
        assert torch.equal(kept(texts, 10), plain(texts, context_length=10))
        assert len(kept._kept) <= max(3, len(texts))
