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

from methods.core.device import Precision, autocast, moved
from methods.core.row_blocks import RowBlocks, states_in_rows
from methods.core.shared_prefix import Packing, pack, shareable, states_behind
from methods.core.word_blocks import Blocks, states_in_blocks

# So many texts' token ids are kept (about 1 kB each): the next cell has the same texts.
KEPT_TEXTS = 100_000
# From this many texts on, they are grouped by length: the shorter half, the next third, the rest.
SMALLEST_GROUPED = 64
GROUP_ENDS = (0.5, 0.85)


class TextTower:
    """Text encoder of an open_clip `CLIP` or `CustomTextCLIP` model with a causal text tower.

    width: size of a token embedding. layers: number of transformer layers. context_length:
    longest sequence, special tokens included.

    Raises:
        ValueError: the tower is not causal or does not pool at the end-of-text token.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, name: str, precision: Precision = "fp32"
    ) -> None:
        tower: Any = getattr(model, "text", model)
        self._tower = tower
        self._tokenizer = tokenizer
        self._ids: dict[str, Tensor] = {}
        self._precision = precision
        pool = getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", None)
        mask = getattr(tower, "attn_mask", None)
        if pool not in ("argmax", "eos") or mask is None:
            raise ValueError(
                f"backbone {name!r}: prompt methods need a causal text tower that pools at the "
                f"end-of-text token; this one pools by {pool!r}"
                + ("" if mask is not None else " and is not causal")
            )
        if getattr(tower, "cls_emb", None) is not None:
            raise ValueError(
                f"backbone {name!r}: prompt methods need a text tower that pools at the "
                "end-of-text token; this one pools at a class token behind it (CoCa)"
            )
        self._pool = pool
        self._eos_id = getattr(tower, "eos_id", None) or getattr(tower, "text_eos_id", None)
        self.width = int(tower.token_embedding.weight.shape[1])
        self.layers = len(tower.transformer.resblocks)
        self.context_length = int(tower.context_length)

    @property
    def device(self) -> torch.device:
        """Where the tower's weights are."""
        return cast(torch.device, self._tower.token_embedding.weight.device)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> token ids (N, context_length), int64, on the host: lengths are read from them.

        Raises:
            ValueError: a text does not fit; the tokenizer would cut it silently.
        """
        kept = self._ids  # another thread may forget it meanwhile
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        if len(kept) + len(new) > KEPT_TEXTS:
            kept = self._ids = {}
            new = [*dict.fromkeys(texts)]
        if new:
            ids: Tensor = self._tokenizer(new, context_length=self.context_length + 1)
            too_long = (ids[:, -1] != 0).nonzero()
            if len(too_long):
                text = new[int(too_long[0])]
                raise ValueError(
                    f"text of more than {self.context_length} tokens: {text[:80]!r}...; shorten it"
                )
            kept.update(zip(new, ids[:, : self.context_length], strict=True))
        rows = [kept[text] for text in texts]
        return torch.stack(rows) if rows else torch.zeros(0, self.context_length, dtype=torch.long)

    def forget(self) -> None:
        """Give up the token ids that are kept."""
        self._ids = {}

    def end(self, ids: Tensor) -> Tensor:
        """Position of the end-of-text token in each row: (N, L) ids -> (N,) int64."""
        if self._pool == "argmax":
            return ids.argmax(dim=-1)
        return torch.eq(ids, int(self._eos_id or 0)).int().argmax(dim=-1)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (..., L) -> embeddings (..., L, width) on the device, without positions."""
        return cast(Tensor, self._tower.token_embedding(moved(ids, self.device)))

    def encode(self, embeddings: Tensor, end: Tensor, deep: Tensor | None = None) -> Tensor:
        """Embeddings (N, L, width) and end positions (N,) -> unit-norm features (N, D).

        end: best on the host, where they are read without waiting for a GPU.
        deep: (J - 1, k, width), for layers 2 to J: before each of them the states at the positions
            1 to k, where the first layer's prompts stand, are replaced by these vectors.

        Many texts run in groups of similar length, so that short ones are not padded to the
        longest.
        """
        if len(end) < SMALLEST_GROUPED or bool((end == end[0]).all()):
            return self._encode(embeddings, end, deep)
        order = end.argsort(stable=True)
        groups = order.tensor_split([int(len(order) * share) for share in GROUP_ENDS])
        features = torch.cat(
            [
                self._encode(embeddings[moved(rows, embeddings.device)], end[rows], deep)
                for rows in groups
            ]
        )
        return features[moved(order.argsort(), features.device)]

    def encode_behind(
        self, prefix: Tensor, rests: Tensor, packing: Packing, of: Sequence[int] | None = None
    ) -> Tensor:
        """Features (N, D), unit-norm, of N prompts that begin with the same P embeddings.

        prefix: (P, width), with the start-of-text token; or (G, P, width), where `of`, N numbers,
            says which of them each prompt begins with, in the given order.
        rests: (T, width), what follows in each prompt up to its end-of-text token, packed.

        A prefix runs once (`shared_prefix`), unless the tower's blocks are of an unknown kind: then
        each prompt runs whole.

        Raises:
            ValueError: several prefixes, and `of` does not say for every prompt which.
        """
        tower, count = self._tower, prefix.shape[-2]
        packing = packing.to(self.device)
        if prefix.dim() == 3 and len(prefix) > 1:
            if of is None or len(of) != len(packing.given):
                raise ValueError(f"{len(prefix)} prefixes need `of`, one for each prompt")
        else:
            of = None
        if not self.shares:
            whole = packing.unpacked(prefix, rests, of)
            return self.encode(whole, packing.lengths + count - 1)
        positions = tower.positional_embedding
        begins = prefix + positions[:count]
        states = states_behind(
            tower.transformer.resblocks,
            begins if begins.dim() == 3 else begins[None],
            rests + positions[count + packing.position],
            packing,
            of,
        )
        return self._project(states)

    @property
    def shares(self) -> bool:
        """Whether a common prefix can run once: the blocks' parts can be run apart."""
        return shareable(self._tower.transformer)

    def encode_blocks(
        self, prefixes: Tensor, rests: Tensor, laid: Blocks, keep: bool = False
    ) -> Tensor:
        """Features (N, D), unit-norm, of prompts in blocks (`word_blocks`), prefix by prefix.

        prefixes: (G, P, width). rests: (B * R, width), the embeddings of all places. keep: they are
            the same in every call with `laid`. For a tower that `shares`.
        """
        tower, count = self._tower, prefixes.shape[1]
        positions = tower.positional_embedding
        blocks = tower.transformer.resblocks
        places = rests + positions[count + laid.depth]
        return self._project(
            states_in_blocks(blocks, prefixes + positions[:count], places, laid, keep)
        )

    def encode_rows(self, places: Tensor, laid: RowBlocks) -> Tensor:
        """Features (N, D), unit-norm, of rows in blocks (`row_blocks`), for a tower that `shares`.

        places: (B * R, width), the embeddings of all places, the start token's first in each block.
        """
        tower = self._tower
        depth = moved(torch.from_numpy(laid.depth), self.device)
        x = places + tower.positional_embedding[depth]
        return self._project(states_in_rows(tower.transformer.resblocks, x, laid))

    def _encode(self, embeddings: Tensor, end: Tensor, deep: Tensor | None) -> Tensor:
        x = self._states(embeddings[:, : int(end.max()) + 1], deep)
        return self._project(x[torch.arange(len(x), device=x.device), moved(end, x.device)])

    @torch.no_grad()
    def token_features(self, ids: Tensor) -> Tensor:
        """Ids (N, L) -> each token's own feature (N, L, D): its last state, projected; unit-norm.

        A token sees those before it, so that its feature stands for the text up to it.
        """
        return self._project(self._states(self.embed(ids), None))

    def _states(self, embeddings: Tensor, deep: Tensor | None) -> Tensor:
        """States after the last layer: (N, L, width)."""
        tower, length = self._tower, embeddings.shape[1]
        x = embeddings + tower.positional_embedding[:length]
        mask = tower.attn_mask[:length, :length]
        if deep is None:
            return cast(Tensor, tower.transformer(x, attn_mask=mask))
        for layer, block in enumerate(tower.transformer.resblocks):
            if 0 < layer <= len(deep):
                new = deep[layer - 1].to(x.dtype).expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], new, x[:, 1 + new.shape[1] :]], dim=1)
            x = block(x, attn_mask=mask)
        return cast(Tensor, x)

    def _project(self, states: Tensor) -> Tensor:
        """States (..., width) -> unit-norm features (..., D)."""
        tower = self._tower
        x = tower.ln_final(states)
        projection = tower.text_projection
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return nn.functional.normalize(x.float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Plain texts -> unit-norm features (N, D), no gradient.

        What all texts of a batch begin with, at least the start-of-text token, runs once.
        """
        features = []
        with autocast(self.device, self._precision):
            for start in range(0, len(texts), batch_size):
                ids = self.tokenize(texts[start : start + batch_size])
                end = self.end(ids)
                same = int((ids == ids[:1]).all(dim=0).cumprod(dim=0).sum())
                shared = min(same, int(end.min()))
                place = torch.arange(ids.shape[1])
                rests = ids[(place >= shared) & (place <= end[:, None])]
                packing = pack((end + 1 - shared).tolist())
                prefix = self.embed(ids[0, :shared])
                found = self.encode_behind(prefix, self.embed(rests[packing.order]), packing)
                features.append(found)
        return torch.cat(features)
