"""The frozen text tower, run from embeddings, so that learned vectors can stand among words.

open_clip's own forward takes token ids; a prompt method replaces some embedding rows. Everything
after the embedding is the same here: positions, causal transformer, final norm, the state at the
end-of-text token, projection. Sequences are cut after the last end-of-text of the batch, which
in a causal tower changes nothing but the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

# From this many texts on, they are grouped by length: the shorter half, the next third, the rest.
SMALLEST_GROUPED = 64
GROUP_ENDS = (0.5, 0.85)


class TextTower:
    """Text encoder of an open_clip `CLIP` or `CustomTextCLIP` model with a causal text tower.

    width: size of a token embedding. context_length: longest sequence, special tokens included.

    Raises:
        ValueError: the tower is not causal or does not pool at the end-of-text token.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, name: str) -> None:
        tower: Any = getattr(model, "text", model)
        self._tower = tower
        self._tokenizer = tokenizer
        pool = getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", None)
        mask = getattr(tower, "attn_mask", None)
        if pool not in ("argmax", "eos") or mask is None:
            raise ValueError(
                f"backbone {name!r}: prompt methods need a causal text tower that pools at the "
                f"end-of-text token; this one pools by {pool!r}"
                + ("" if mask is not None else " and is not causal")
            )
        self._pool = pool
        self._eos_id = getattr(tower, "eos_id", None) or getattr(tower, "text_eos_id", None)
        self.width = int(tower.token_embedding.weight.shape[1])
        self.context_length = int(tower.context_length)

    @property
    def device(self) -> torch.device:
        """Where the tower's weights are."""
        return cast(torch.device, self._tower.token_embedding.weight.device)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> token ids (N, context_length), int64, on the tower's device.

        Raises:
            ValueError: a text does not fit; the tokenizer would cut it silently.
        """
        ids: Tensor = self._tokenizer(list(texts), context_length=self.context_length + 1)
        too_long = (ids[:, -1] != 0).nonzero()
        if len(too_long):
            text = texts[int(too_long[0])]
            raise ValueError(
                f"text of more than {self.context_length} tokens: {text[:80]!r}...; shorten it"
            )
        return ids[:, : self.context_length].to(self.device)

    def end(self, ids: Tensor) -> Tensor:
        """Position of the end-of-text token in each row: (N, L) ids -> (N,) int64."""
        if self._pool == "argmax":
            return ids.argmax(dim=-1)
        return torch.eq(ids, int(self._eos_id or 0)).int().argmax(dim=-1)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (..., L) -> embeddings (..., L, width), without positions."""
        return cast(Tensor, self._tower.token_embedding(ids))

    def encode(self, embeddings: Tensor, end: Tensor) -> Tensor:
        """Embeddings (N, L, width) and end positions (N,) -> unit-norm features (N, D).

        Many texts run in groups of similar length, so that short ones are not padded to the
        longest.
        """
        if len(end) < SMALLEST_GROUPED or bool((end == end[0]).all()):
            return self._encode(embeddings, end)
        order = end.argsort(stable=True)
        groups = order.tensor_split([int(len(order) * share) for share in GROUP_ENDS])
        features = torch.cat([self._encode(embeddings[rows], end[rows]) for rows in groups])
        return features[order.argsort()]

    def _encode(self, embeddings: Tensor, end: Tensor) -> Tensor:
        tower = self._tower
        length = int(end.max()) + 1
        x = embeddings[:, :length] + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        x = tower.ln_final(x[torch.arange(len(x), device=x.device), end])
        projection = tower.text_projection
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return nn.functional.normalize(x.float(), dim=-1)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Plain texts -> unit-norm features (N, D), no gradient."""
        features = []
        with torch.no_grad():
            for start in range(0, len(texts), batch_size):
                ids = self.tokenize(texts[start : start + batch_size])
                features.append(self.encode(self.embed(ids), self.end(ids)))
        return torch.cat(features)
