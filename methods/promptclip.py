"""PromptCLIP: the reference image becomes a prompt among the caption's tokens.

Wu et al., Few-Shot Composition Learning for Image Retrieval with Prompt Tuning (AAAI 2023). There
is no official code, and only the paper's abstract and main figure were at hand: they give the idea,
what is frozen, and the form of both losses. Sizes and numbers are a reading, see `inferred`.

    p      = phi(e_r)                               m token vectors from the reference's feature
    q(r,S) = TextTower([SOS] p S [EOT])             the query; S may be empty
    L_ret  = InfoNCE(q(r,S), v(target))             the retrieval loss
    L_aux  = InfoNCE(q(r,""), v(r))                 the image retrieves itself; needs no label
    L      = L_ret + lambda * L_aux

Both towers are frozen, so that gradients reach only phi. Dropout draws from torch's generator:
with it, losses on several ranks differ from those on one; without it they are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Method, TaskInfo, TrainBatch
from methods.core.device import moved
from methods.core.shared_prefix import pack


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
        return self._read(self._prompts(images), texts)

    def loss(self, batch: TrainBatch) -> Tensor:
        """L_ret + lambda * L_aux; this rank's share of the losses of the whole batch.

        The queries of both go through the text tower in one pass: fewer and larger products.
        """
        config, scale = self.config, self.backbone.logit_scale
        read: list[tuple[Tensor, list[str]]] = []
        if config.retrieval:
            assert batch.queries.images is not None and batch.queries.texts is not None
            read.append((batch.queries.images, [*batch.queries.texts]))
        if config.aux != "none":
            images, ids, weight = self._auxiliary(batch)
            read.append((images, [""] * len(images)))
        prompts = [self._prompts(images) for images, _ in read]
        made = self._read(torch.cat(prompts), [text for _, texts in read for text in texts])
        parts = [*torch.split(made, [len(texts) for _, texts in read])]
        total = batch.weight.new_zeros(())
        if config.retrieval:  # equal targets are no negatives
            target = self.candidate(batch.candidates)
            total = total + losses.info_nce(parts[0], target, batch.target, batch.weight, scale)
        if config.aux != "none":
            alone = losses.info_nce(parts[-1], images, ids, weight, scale)
            total = total + config.aux_weight * alone
        return total

    def _auxiliary(self, batch: TrainBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Images (n, D) that find themselves among the batch's, their ids and weights (n,)."""
        source, ids, weight = batch.queries, batch.image_id, batch.weight
        if self.config.aux == "unlabelled":
            assert batch.unlabelled is not None and batch.unlabelled_id is not None
            source, ids = batch.unlabelled, batch.unlabelled_id
            weight = weight.repeat_interleave(self.config.aux_images)
        assert source.images is not None
        return self.image(source.images), ids, weight

    def _prompts(self, images: Tensor) -> Tensor:
        """phi: features (B, D) -> token vectors (B, m, width)."""
        found: Tensor = self.phi(images * images.shape[1] ** 0.5 if self.config.scaled else images)
        return found.view(len(images), self.config.n_prompts, -1)

    def _read(self, prompts: Tensor, texts: Sequence[str]) -> Tensor:
        """The text tower over each text with its prompts (B, m, width) put in: (B, D)."""
        tower, m = self.backbone.text, self.config.n_prompts
        ids = tower.tokenize(texts)
        end = tower.end(ids)
        longest = int(end.max())
        if longest + m + 1 > tower.context_length:
            raise ValueError(
                f"{m} prompts and the text {texts[int(end.argmax())]!r} need {longest + m + 1} "
                f"tokens; the backbone takes {tower.context_length}. Lower n_prompts or shorten "
                "the text"
            )
        # Column j of a row's sequence: word j before the place, then the prompts, then word j - m.
        place = end[:, None] if self.config.position == "after" else torch.ones_like(end)[:, None]
        column = torch.arange(longest + 1 + m)[None]
        word = torch.where(column < place, column, (column - m).clamp(min=0))
        # All share the start token, which sees nothing else: it runs once.
        own = (column >= 1) & (column <= end[:, None] + m)
        packing = pack((end + m).tolist())
        # What decides shapes stays on the host: a mask would make it wait for a GPU.
        kept = own.flatten().nonzero().flatten()[packing.order]
        states = tower.embed(ids.gather(1, word).flatten()[kept])
        of_prompt = (column >= place) & (column < place + m)
        number = (column - place + m * torch.arange(len(ids))[:, None]).flatten()[kept]
        at = of_prompt.flatten()[kept].nonzero().flatten()
        taken = prompts.to(states.dtype).flatten(0, 1)[moved(number[at], states.device)]
        states = states.index_copy(0, moved(at, states.device), taken)
        return tower.encode_behind(tower.embed(ids[0, :1]), states, packing)


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
