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
        on_query, on_prompts, on_feed = self.norms
        keys = on_prompts(prompts.features[which])
        found, _ = self.attention(
            on_query(query)[:, None],
            keys,
            keys,
            key_padding_mask=~prompts.present[which],
            need_weights=False,
        )
        query = query + found[:, 0]
        aggregate: Tensor = query + self.feed(on_feed(query))
        return aggregate
