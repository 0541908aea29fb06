"""Learned tokens for both frozen towers: text prompts, and image prompts made from them.

Khattak et al., MaPLe: Multi-modal Prompt Learning (arXiv 2210.03117); official code:
muzairkhattak/multimodal-prompt-learning, `trainers/maple.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from methods.core.backbone import Backbone
from methods.core.text_tower import TextTower

STD = 0.02  # of prompts that start random


class CoupledPrompts(nn.Module):
    """k prompts for each of J layers of both towers; an image prompt is Linear(its text prompt).

    J is `depth`, or the layers of the shallower tower where that has fewer. The first layer's text
    prompts start as the first k tokens of `words`, all others random. Image prompts start as the
    random linear maps make them (MaPLe); or, with `at` (layers, vision width), near those states.
    """

    def __init__(
        self,
        backbone: Backbone,
        count: int,
        depth: int,
        words: str | None,
        at: Tensor | None = None,
    ) -> None:
        super().__init__()
        text, vision = backbone.text, backbone.vision
        layers = min(depth, text.layers, vision.layers)
        start = torch.empty(layers, count, text.width).normal_(std=STD)
        if words is not None:
            ids = text.tokenize([words])
            known = text.embed(ids)[0, 1 : int(text.end(ids))].detach()[:count]
            start[0, : len(known)] = known.cpu()
        self.text = nn.Parameter(start)
        maps = [nn.Linear(text.width, vision.width) for _ in range(layers)]
        if at is not None:
            for linear, state in zip(maps, at, strict=False):
                nn.init.normal_(linear.weight, std=STD)
                linear.bias.data.copy_(state)
        self.to_image = nn.ModuleList(maps)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Text prompts (J, k, text width) and image prompts (J, k, vision width)."""
        made = [linear(own) for linear, own in zip(self.to_image, self.text, strict=True)]
        return self.text, torch.stack(made)


def encode_prompted(
    tower: TextTower, texts: Sequence[str], prompts: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Texts behind learned prompts -> unit-norm features (N, D).

    prompts: (J, k, width); the first k stand after the start token, the others replace the states
        there in the layers 2 to J. weights: (N, L), factors of the plain text's token embeddings.

    Raises:
        ValueError: a text and the prompts are longer than the tower's context.
    """
    ids = tower.tokenize(texts)
    end, count = tower.end(ids), prompts.shape[1]
    length = int(end.max()) + 1
    if length + count > tower.context_length:
        raise ValueError(
            f"{count} prompt tokens and the text {texts[int(end.argmax())]!r} need "
            f"{length + count} tokens; the backbone takes {tower.context_length}. Lower n_ctx"
        )
    words = tower.embed(ids[:, :length])
    if weights is not None:
        words = words * weights[:, :length, None]
    context = prompts[0].to(words.dtype).expand(len(words), -1, -1)
    embeddings = torch.cat([words[:, :1], context, words[:, 1:]], dim=1)
    return tower.encode(embeddings, end + count, prompts[1:] if len(prompts) > 1 else None)
