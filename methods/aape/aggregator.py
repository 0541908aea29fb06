"""The prompt aggregator of AAPE: many reference prompts -> one vector. For training alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

Kind = Literal["attention", "mean", "mlp", "random"]
HIDDEN = 4  # width of the feed-forward layer, in D


def bottleneck(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two bias-free layers with a ReLU between them."""
    return nn.Sequential(
        nn.Linear(inputs, width, bias=False), nn.ReLU(), nn.Linear(width, outputs, bias=False)
    )


class Prompts:
    """Features of S sets of reference prompts, padded to n each; frozen, so in no state.

    features: (S, n, D), 0 where padded. present: (S, n). mean: (S, D), p-bar of each set.
    """

    def __init__(self, sets: Sequence[Tensor]) -> None:
        self.features = nn.utils.rnn.pad_sequence(list(sets), batch_first=True)
        self.counts = torch.tensor([len(one) for one in sets], device=self.features.device)
        places = torch.arange(self.features.shape[1], device=self.features.device)
        self.present = places < self.counts[:, None]
        self.mean = self.features.sum(dim=1) / self.counts[:, None]


class Aggregator(nn.Module):
    """p^a of a set of prompts (arXiv 2410.23698).

    attention: one layer of multi-head cross-attention and feed-forward, both on normalised input
        and added to the query; it starts at the query, which starts at p-bar. The query is one
        vector for each set, or with `adapted` p-bar + W x.
    mlp: share * f(p-bar) + (1 - share) * p-bar. mean: p-bar.
    random: one prompt of the set, drawn anew for each row and epoch from `seed`.
    """

    def __init__(
        self,
        kind: Kind,
        prompts: Prompts,
        *,
        adapted: bool,
        heads: int,
        width: int,
        share: float,
        seed: int,
    ) -> None:
        super().__init__()
        dim = prompts.mean.shape[1]
        self.kind = kind
        self.share = share
        self.seed = seed
        self.prompts = prompts
        self.adapt: nn.Linear | None = None
        if kind == "attention":
            if adapted:
                self.adapt = nn.Linear(dim, dim, bias=False)
                nn.init.zeros_(self.adapt.weight)
            else:
                self.query = nn.Parameter(prompts.mean.clone())
            self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
            self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
            last = nn.Linear(HIDDEN * dim, dim)
            self.feed = nn.Sequential(nn.Linear(dim, HIDDEN * dim), nn.GELU(), last)
            for layer in (self.attention.out_proj, last):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        elif kind == "mlp":
            self.mlp = bottleneck(dim, width, dim)

    @property
    def learns(self) -> bool:
        """Whether it has parameters, and so a reward."""
        return self.kind in ("attention", "mlp")

    def forward(self, which: Tensor, images: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """p^a (b, D) for sets `which` (b,), images (b, D) and places in the lesson `rows` (b,)."""
        prompts = self.prompts
        mean = prompts.mean[which]
        if self.kind == "mean":
            return mean
        if self.kind == "mlp":
            mixed: Tensor = self.share * self.mlp(mean) + (1 - self.share) * mean
            return mixed
        if self.kind == "random":
            drawn = [
                int(np.random.default_rng([self.seed, epoch, row]).integers(count))
                for row, count in zip(rows.tolist(), prompts.counts[which].tolist(), strict=True)
            ]
            return prompts.features[which, torch.tensor(drawn, device=which.device)]
        query = self.query[which] if self.adapt is None else mean + self.adapt(images)
        query = query + self._attend(query, which)
        aggregate: Tensor = query + self.feed(self.norms[2](query))
        return aggregate

    def _attend(self, query: Tensor, which: Tensor) -> Tensor:
        """Multi-head attention of queries (b, D) to the prompts of sets `which` (b,): (b, D).

        With one query a set, products change places: W_k goes to the query, W_v behind the mean
        over the prompts, and so do scale and shift of the prompts' norm. Nothing learned is then
        applied to (b, n, D). What a key adds to all scores of a query alike goes out in the
        softmax.
        """
        attention, heads = self.attention, self.attention.num_heads
        on_query, on_prompts = self.norms[0], self.norms[1]
        assert isinstance(on_prompts, nn.LayerNorm) and attention.in_proj_weight is not None
        dim = query.shape[1]
        for_query, for_keys, for_values = attention.in_proj_weight.chunk(3)
        bias = attention.in_proj_bias.chunk(3)
        prompts = nn.functional.layer_norm(self.prompts.features[which], (dim,))
        asked = nn.functional.linear(on_query(query), for_query, bias[0]) * (heads / dim) ** 0.5
        asked = asked.view(len(asked), heads, -1).transpose(0, 1)  # (H, b, D / H)
        asked = (asked @ for_keys.view(heads, -1, dim)).transpose(0, 1) * on_prompts.weight
        scores = prompts @ asked.transpose(1, 2)  # (b, n, H): heads last, as softmax is fast
        absent = ~self.prompts.present[which]
        shares = scores.masked_fill(absent[:, :, None], float("-inf")).softmax(dim=1)
        seen = shares.transpose(1, 2) @ prompts * on_prompts.weight + on_prompts.bias  # (b, H, D)
        values = for_values.view(heads, -1, dim).transpose(1, 2)  # (H, D, D / H)
        found = (seen.transpose(0, 1) @ values).transpose(0, 1).flatten(1) + bias[2]
        attended: Tensor = attention.out_proj(found)
        return attended
