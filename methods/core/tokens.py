"""Token ids of texts, kept: every cell, step and score reads the same captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

KEPT_TEXTS = 2**15  # of some 600 bytes each


class KeptTokens:
    """A tokenizer of open_clip that tokenizes each text once, while there is room."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._kept: dict[tuple[str, int], Tensor] = {}

    def __call__(self, texts: Sequence[str], context_length: int) -> Tensor:
        """Ids (N, context_length) int64, as the tokenizer gives them."""
        fresh = [t for t in dict.fromkeys(texts) if (t, context_length) not in self._kept]
        if len(self._kept) + len(fresh) > KEPT_TEXTS:
            self._kept.clear()
            fresh = [*dict.fromkeys(texts)]
        if fresh:
            ids: Tensor = self._tokenizer(fresh, context_length=context_length)
            rows = zip(fresh, ids, strict=True)
            self._kept.update({(text, context_length): row for text, row in rows})
        return torch.stack([self._kept[text, context_length] for text in texts])
