"""PromptCLIP: the reference image becomes a prompt among the caption's tokens.

Wu et al., Few-Shot Composition Learning for Image Retrieval with Prompt Tuning (AAAI 2023). There
is no official code, and only the paper's abstract and main figure were at hand: they give the idea,
what is frozen, and the form of both losses. Sizes and numbers are a reading, see `inferred`.

    p      = phi(e_r)                               m token vectors from the reference's feature
    q(r,S) = TextTower([SOS] p S [EOT])             the query; S may be empty
    L_ret  = InfoNCE(q(r,S), v(target))             the retrieval loss
    L_aux  = InfoNCE(q(r,""), v(r))                 the image retrieves itself; needs no label
    L      = L_ret + lambda * L_aux

Both towers are frozen, so that gradients reach only phi. Dropout's masks depend on the seed, the
epoch and the row alone (`row_dropout`): losses are equal on one rank and on several, alone and
together with other seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Method, TaskInfo, TrainBatch
from methods.core.device import moved
from methods.core.prefix_chunks import KEPT_TOKENS
from methods.core.prompt_rows import PromptRows, encode, joined, prompt_rows
from methods.core.row_blocks import Numbers
from methods.core.row_dropout import row_masks


class PromptCLIPConfig(MethodConfig):
    """n_prompts: m, predicted token vectors.

    phi: the predicting network: an MLP with two hidden layers; one linear layer; or "fixed", a
        random MLP that never learns (an ablation; the method is then training-free, for there is
        nothing left to train).
    hidden, dropout: of the MLP.
    scaled: phi reads the feature times sqrt(D), whose entries are of size 1, not the unit vector:
        no source has it; it needs fewer steps.
    position: where the prompts stand: before the caption (the paper) or after it (an ablation).
    retrieval: False: auxiliary loss alone, so that no caption and no target enters the training.
    aux: images of the auxiliary loss: the references of the shots; "unlabelled", images of the
        whole training split, which other methods do not see; or "none", no auxiliary loss.
    aux_images: how many unlabelled images stand in a batch for each of its triplets.
    aux_weight: lambda.
    """

    n_prompts: int = Field(default=1, gt=0)
    phi: Literal["mlp", "linear", "fixed"] = "mlp"
    hidden: int = Field(default=512, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    scaled: bool = False
    position: Literal["before", "after"] = "before"
    retrieval: bool = True
    aux: Literal["shots", "unlabelled", "none"] = "shots"
    aux_images: int = Field(default=1, gt=0)
    aux_weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> PromptCLIPConfig:
        if not self.retrieval and self.aux == "none":
            raise ValueError("without retrieval and with aux 'none' there is no loss; keep one")
        return self


@dataclass(frozen=True)
class _Asked:
    """What a batch's losses ask of the tower: n images (n, D) with their texts.

    The first `shots` of them are queries, the others images that find themselves. rows: (n,) places
    in the lesson; number: (n,) tells the images of a row apart.
    """

    images: Tensor
    texts: list[str]
    shots: int
    rows: Numbers
    number: Numbers


class PromptCLIP(Method):
    """Predicted visual prompts in front of the modification text, through the frozen text tower."""

    name = "promptclip"
    paper = (
        "Wu et al., Few-Shot Composition Learning for Image Retrieval with Prompt Tuning "
        "(AAAI 2023, pp. 4729-4737)"
    )
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed"})
    inferred: ClassVar[tuple[str, ...]] = (
        "phi reads the frozen image feature: an MLP with two hidden layers of 512, ReLU, dropout",
        "one predicted token (n_prompts)",
        "the weight 1 of the auxiliary loss (aux_weight)",
        "the auxiliary loss on the shots' references, or on one image for each triplet (aux)",
        "the backbone's own temperature; negatives are the other images of the batch",
        "AdamW at 1e-4, weight decay 0.01, cosine, 1,000 steps, batches of 128",
    )
    recipe = Training(
        optimizer="adamw",
        lr=1e-4,
        weight_decay=0.01,
        schedule="cosine",
        steps=1000,
        batch_size=128,
    )
    Config = PromptCLIPConfig

    def __init__(self, config: PromptCLIPConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.config = config
        self._seed = torch.initial_seed()  # of dropout; ranks agree on it, as on the weights
        out = config.n_prompts * backbone.text.width
        if config.phi == "linear":
            self.phi: nn.Module = nn.Linear(backbone.dim, out)
        else:
            self.phi = _mlp(backbone.dim, config.hidden, out, config.dropout)
        self.phi.requires_grad_(self.learns(config))

    @classmethod
    def learns(cls, config: MethodConfig) -> bool:
        """A fixed phi leaves nothing to train."""
        return not (isinstance(config, PromptCLIPConfig) and config.phi == "fixed")

    @property
    def unlabelled(self) -> int:
        """Images of the whole training split that the auxiliary loss wants for each row."""
        return self.config.aux_images if self.config.aux == "unlabelled" else 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know of these options beside the numbers."""
        found = []
        if self.config.scaled:
            found.append("phi reads features scaled to entries of size 1 (scaled; in no source)")
        if self.config.phi == "fixed":
            found.append("phi is random and never learns: one draw of it")
        elif self.config.aux == "unlabelled":
            found.append(
                "the auxiliary loss sees all images of the training split, without labels; "
                "methods that learn from the shots alone do not"
            )
        return tuple(found)

    def text(self, texts: Sequence[str]) -> Tensor:
        """Plain text features, for galleries of texts: (N, D) unit-norm."""
        return self.backbone.text_features(texts)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Queries (B, D) unit-norm of references (B, D) and modification texts.

        Raises:
            ValueError: a text and the prompts together are longer than the text tower takes.
        """
        return encode(self.backbone.text, self._prompts(images), self._rows(texts))

    def loss(self, batch: TrainBatch) -> Tensor:
        """L_ret + lambda * L_aux; this rank's share of the losses of the whole batch."""
        return self.together([self], [batch])[0]

    @classmethod
    def apart(cls, config: MethodConfig, kind: TaskKind) -> str | None:
        """The prompts of several networks run through the tower at once."""
        return None

    @classmethod
    def together(cls, methods: Sequence[Method], batches: Sequence[TrainBatch]) -> Tensor:
        """Losses (S,): the queries of both losses of all methods, in one pass through the tower.

        Of as many methods as a pass keeps the activations of; of one, where that is too many.
        """
        ours = [method for method in methods if isinstance(method, PromptCLIP)]
        asked = [own._asked(batch) for own, batch in zip(ours, batches, strict=True)]
        rows = [ours[0]._rows(one.texts) for one in asked]
        fitting = max(1, KEPT_TOKENS // max(own.tokens for own in rows))
        found = list[Tensor]()
        for first in range(0, len(ours), fitting):
            part = slice(first, first + fitting)
            prompts = [
                own._prompts(one.images, (one, batch.epoch))
                for own, batch, one in zip(ours[part], batches[part], asked[part], strict=True)
            ]
            made = encode(ours[0].backbone.text, torch.cat(prompts), joined(rows[part]))
            each = torch.split(made, [len(one.texts) for one in asked[part]])
            for own, batch, one, features in zip(
                ours[part], batches[part], asked[part], each, strict=True
            ):
                found.append(own._losses(batch, one, features))
        return torch.stack(found)

    def _asked(self, batch: TrainBatch) -> _Asked:
        config = self.config
        images, texts, shots = list[Tensor](), list[str](), 0
        lesson = np.asarray(batch.rows)
        rows, number = list[Numbers](), list[Numbers]()
        if config.retrieval:
            assert batch.queries.images is not None and batch.queries.texts is not None
            images.append(batch.queries.images)
            texts += batch.queries.texts
            shots = len(texts)
            rows.append(lesson)
            number.append(np.zeros_like(lesson))
        if config.aux != "none":
            source = batch.unlabelled if self.unlabelled else batch.queries
            assert source is not None and source.images is not None
            each = max(1, self.unlabelled)
            images.append(self.image(source.images))
            texts += [""] * len(source.images)
            rows.append(lesson.repeat(each))
            number.append(np.tile(1 + np.arange(each), len(lesson)))
        return _Asked(torch.cat(images), texts, shots, np.concatenate(rows), np.concatenate(number))

    def _losses(self, batch: TrainBatch, asked: _Asked, features: Tensor) -> Tensor:
        config, scale, weight = self.config, self.backbone.logit_scale, batch.weight
        total = weight.new_zeros(())
        if config.retrieval:  # equal targets are no negatives
            target = self.candidate(batch.candidates)
            query = features[: asked.shots]
            total = total + losses.info_nce(query, target, batch.target, weight, scale)
        if config.aux != "none":
            ids = batch.image_id
            if self.unlabelled:
                assert batch.unlabelled_id is not None
                ids, weight = batch.unlabelled_id, weight.repeat_interleave(self.unlabelled)
            own, images = features[asked.shots :], asked.images[asked.shots :]
            total = total + config.aux_weight * losses.info_nce(own, images, ids, weight, scale)
        return total

    def _prompts(self, images: Tensor, dropped: tuple[_Asked, int] | None = None) -> Tensor:
        """phi: features (B, D) -> token vectors (B, m, width); dropout for a batch in an epoch."""
        x = images * images.shape[1] ** 0.5 if self.config.scaled else images
        if dropped is None or not isinstance(self.phi, nn.Sequential):
            x = self.phi(x)
        else:
            x = self._with_dropout(self.phi, x, *dropped)
        return x.view(len(images), self.config.n_prompts, -1)

    def _with_dropout(self, phi: nn.Sequential, x: Tensor, asked: _Asked, epoch: int) -> Tensor:
        drops = [layer for layer in phi if isinstance(layer, nn.Dropout) and layer.p]
        if self.training and drops:
            units, rate = len(drops) * self.config.hidden, drops[0].p
            masks = row_masks(self._seed, epoch, asked.rows, asked.number, units, rate)
            each = iter(moved(masks, x.device).chunk(len(drops), dim=1))
        for layer in phi:
            if not isinstance(layer, nn.Dropout):
                x = layer(x)
            elif self.training and layer.p:
                x = x * next(each)
        return x

    def _rows(self, texts: Sequence[str]) -> PromptRows:
        after = self.config.position == "after"
        return prompt_rows(self.backbone.text, texts, self.config.n_prompts, after)


def _mlp(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    """Pic2Word's shape (arXiv 2302.03084, `IM2TEXT`): two hidden layers, dropout, ReLU."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Linear(hidden, out),
    )
