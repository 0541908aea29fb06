"""AAPE: prompts made of the image, learned from an aggregate of natural-language prompts.

Aggregate-and-Adapt Natural Language Prompts for Downstream Generalization of CLIP (arXiv
2410.23698, NeurIPS 2024); no code is public. In training, an aggregator makes one vector p^a of a
class's (or an image's) reference prompts, rewarded by its cosine with the image x, and a generator
h learns to make it from the image alone:

    L = lambda * || h(x) - p^a ||^2 + L_task - s * max(cos(x, p^a), 0)

At test the aggregator and all reference prompts are gone. Classification scores a class with
weights that depend on the image, w_i the frozen text feature of its name:

    p(i | x) = softmax_i( cos(x, g([w_i ; h(x)])) / tau )

Image-text retrieval takes h(x) for the image. What the text of the paper leaves open is an option
here, and named in `inferred`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.aape.aggregator import Aggregator, Kind, Prompts, bottleneck
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig
from methods.core.contract import Lesson, Method, TaskInfo, TrainBatch

TEMPLATE = "a photo of a {}"
PAIR_VALUES = 2**22  # of the adapted weights that exist at a time outside training: 16 MB


class AAPEConfig(MethodConfig):
    """bottleneck: inner width of h, and of g where it is one.

    g: a bias-free bottleneck, or one bias-free layer ("fc"). output_relu: a ReLU after g, as the
        paper's text says. residual: adds w_i to g's output. h_only: no g, h(x) meets w_i.
    aggregator: how p^a is made. Where every image has captions of its own, and so a query, the
        reward can make p^a the image itself; "mean" keeps it a text.
    aggregator_query: of the attention: one vector a class (or set of captions), or p-bar + W x.
    heads: of the attention. mlp_share: of the MLP's output in p^a.
    unit_aggregate: p^a has norm 1, as the features of texts have; nothing else bounds its norm.
    stop_gradient: the distillation moves h alone, not p^a.
    distill_weight: lambda; 0 leaves the reference prompts out. reward_weight: s.
    prompts_per_class: at most so many, the first ones.
    """

    bottleneck: int = Field(default=32, gt=0)
    g: Literal["bottleneck", "fc"] = "bottleneck"
    output_relu: bool = False
    residual: bool = False
    h_only: bool = False
    aggregator: Kind = "attention"
    aggregator_query: Literal["class", "adapted"] = "class"
    heads: int = Field(default=8, gt=0)
    mlp_share: float = Field(default=0.2, ge=0, le=1)
    unit_aggregate: bool = True
    stop_gradient: bool = True
    distill_weight: float = Field(default=5.0, ge=0)
    reward_weight: float = Field(default=2.5, ge=0)
    prompts_per_class: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> AAPEConfig:
        if self.h_only and self.shapes_g:
            raise ValueError(f"h_only has no g; leave out {', '.join(self.shapes_g)}")
        if self.aggregator != "attention" and self.aggregator_query != "class":
            raise ValueError(
                f"aggregator {self.aggregator!r} has no query; leave out aggregator_query"
            )
        return self

    @property
    def shapes_g(self) -> tuple[str, ...]:
        """Options that differ from the default and say how g is made."""
        given = {"g": self.g != "bottleneck", "output_relu": self.output_relu}
        return tuple(name for name, set_ in {**given, "residual": self.residual}.items() if set_)


class Adapter(nn.Module):
    """g: weights of every class for every image, from class features and h(x), and their cosine.

    The first layer on [w ; h(x)] is the sum of a layer on w and one on h(x), so that no pair is
    built before the inner width K. Behind a bottleneck's last layer V no pair is built at all: of
    a = V r + w the cosine needs x'a = (V'x)'r + x'w and |a|^2 = r'(V'V r + 2 V'w) + |w|^2.
    """

    def __init__(self, config: AAPEConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        inner = config.bottleneck if config.g == "bottleneck" else dim
        self.of_class = nn.Linear(dim, inner, bias=False)
        self.of_image = nn.Linear(dim, inner, bias=False)
        self.out = nn.Linear(inner, dim, bias=False) if config.g == "bottleneck" else None

    def forward(self, x: Tensor, classes: Tensor, made: Tensor) -> Tensor:
        """cos(x, g([w ; h(x)])) of images x and h(x) (b, D) and classes w (c, D): (b, c)."""
        residual = self.config.residual
        inner: Tensor = self.of_class(classes) + self.of_image(made)[:, None]
        if self.out is None or self.config.output_relu:
            adapted = inner if self.out is None else self.out(inner.relu())
            if self.config.output_relu:
                adapted = adapted.relu()
            if residual:
                adapted = adapted + classes
            along = torch.einsum("bd,bcd->bc", x, adapted)
            norm: Tensor = torch.linalg.vector_norm(adapted, dim=-1)
            return along / norm.clamp(min=1e-12)
        # In halves the terms of |a|^2 would lose the few digits that their sum has.
        with torch.autocast(x.device.type, enabled=False):
            inner, last = inner.float().relu_(), self.out.weight
            along = (inner @ (x @ last)[:, :, None])[..., 0]
            double = inner @ (last.T @ last)
            if residual:
                along = along + x @ classes.T
                double = double + 2 * (classes @ last)
            square = (inner * double).sum(dim=-1)
            if residual:
                square = square + classes.square().sum(dim=-1)
            return along / square.clamp(min=1e-24).sqrt()


class AAPE(Method):
    """Aggregate-and-adapt prompt embedding; see the module for what it computes."""

    name = "aape"
    paper = (
        "Aggregate-and-Adapt Natural Language Prompts for Downstream Generalization of CLIP "
        "(arXiv 2410.23698)"
    )
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "image_text"})
    inferred: ClassVar[tuple[str, ...]] = (
        "h and g are bias-free bottlenecks of width 32, from the paper's parameter counts",
        "a ReLU only inside the bottlenecks; no residual from the class weight unless `residual`",
        "no gradient from the distillation to the aggregate",
        "one learned query a class or set of captions; the aggregate starts at the prompts' mean",
        "the aggregator's layer: normalised inputs, 8 heads, feed-forward of 4 D",
        "reward weight 2.5 (CLIPScore's); MLP share 0.2; random: a new prompt each row and epoch",
        "the aggregate has norm 1 in the distillation, h(x) has not",
        "the training recipe is CoOp's",
    )
    Config = AAPEConfig

    def __init__(self, config: AAPEConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.config = config
        dim = backbone.dim
        self.h = bottleneck(dim, config.bottleneck, dim)
        adapts = task.kind == "classification" and not config.h_only
        self.g = Adapter(config, dim) if adapts else None
        self.aggregator: Aggregator | None = None
        self._set_of = torch.empty(0, dtype=torch.long)
        self._texts: Tensor | None = None
        self._known: dict[tuple[str, ...], Tensor] = {}

    @classmethod
    def unfit(cls, config: MethodConfig, kind: TaskKind) -> str | None:
        """g belongs to classification."""
        if kind != "classification" and isinstance(config, AAPEConfig):
            given = [*config.shapes_g, *(["h_only"] if config.h_only else [])]
            if given:
                return f"with {', '.join(given)} does classification, not {kind}"
        return super().unfit(config, kind)

    @classmethod
    def describes(cls, config: MethodConfig, kind: TaskKind) -> bool:
        """Classes need descriptions; for image-text retrieval an image's captions are these."""
        distils = isinstance(config, AAPEConfig) and config.distill_weight > 0
        return kind == "classification" and distils

    def begin_training(self, lesson: Lesson) -> None:
        """Encode the reference prompts once and add the aggregator.

        Raises:
            ValueError: a class (or an image) of the lesson has no description, or the heads do not
                divide the backbone's size.
        """
        config = self.config
        if self.task.kind == "image_text":
            texts = list(dict.fromkeys(lesson.texts))
            place = {text: row for row, text in enumerate(texts)}
            self._texts = self.backbone.text_features(texts)[[place[text] for text in lesson.texts]]
        if not config.distill_weight:
            return
        sets: dict[tuple[str, ...], int] = {}
        for text, described in zip(lesson.texts, lesson.described, strict=True):
            if not described:
                what = "class" if self.task.kind == "classification" else "the image of the text"
                raise ValueError(
                    f"method 'aape': {what} {text!r} has no description; give sentences about it "
                    "in the descriptions, or set distill_weight: 0 to learn without any"
                )
            sets.setdefault(described[: config.prompts_per_class], len(sets))
        dim = self.backbone.dim
        if config.aggregator == "attention" and dim % config.heads:
            raise ValueError(f"method 'aape': heads: {config.heads} does not divide {dim}")
        numbers = [sets[described[: config.prompts_per_class]] for described in lesson.described]
        self._set_of = torch.tensor(numbers, device=self.backbone.device)
        # In an order that the draw does not change: then all cells of a dataset ask for one list,
        # which is encoded once.
        prompts = sorted({text for one in sets for text in one})
        features = self.backbone.text_features(prompts)
        row = {text: number for number, text in enumerate(prompts)}
        self.aggregator = Aggregator(
            config.aggregator,
            Prompts([features[[row[text] for text in one]] for one in sets]),
            adapted=config.aggregator_query == "adapted",
            heads=config.heads,
            width=config.bottleneck,
            share=config.mlp_share,
            seed=int(torch.randint(2**31, ())),  # the ranks have one seed here
        )

    def end_training(self) -> None:
        """Remove the aggregator and the encoded prompts."""
        self.aggregator = None
        self._set_of = self._set_of[:0]
        self._texts = None

    def text(self, texts: Sequence[str]) -> Tensor:
        """Class names in "a photo of a {}", captions as they are: (N, D) unit-norm, frozen."""
        if self.task.kind != "classification":
            return self.backbone.text_features(texts)
        known = self._known.get(tuple(texts))
        if known is None:  # the same classes in every step
            named = [TEMPLATE.format(text.replace("_", " ")) for text in texts]
            known = self.backbone.text_features(named)
            self._known = {tuple(texts): known}
        return known

    def image(self, images: Tensor) -> Tensor:
        """x itself where g adapts the classes to it, else h(x): (B, D) unit-norm."""
        return images if self.g is not None else nn.functional.normalize(self.h(images), dim=-1)

    def similarity(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """cos(x, w_i(x)) of images x (B, D) and classes (N, D): (B, N).

        Outside training no more than `PAIR_VALUES` numbers of adapted weights exist at a time.
        """
        if self.g is None:
            return super().similarity(queries, candidates)
        return self._cosines(queries, self.h(queries), candidates)

    def _cosines(self, images: Tensor, made: Tensor, classes: Tensor) -> Tensor:
        """The same with h(x) (B, D) at hand."""
        assert self.g is not None
        rows = max(1, min(len(images), PAIR_VALUES // self.dim))
        columns = max(1, PAIR_VALUES // (rows * self.dim))
        if rows == len(images) and columns >= len(classes):
            found: Tensor = self.g(images, classes, made)
            return found
        # Into one tensor: small pieces that stay between large ones that go would fragment memory.
        scores = images.new_empty(len(images), len(classes))
        for top in range(0, len(images), rows):
            x, own = images[top : top + rows], made[top : top + rows]
            for left in range(0, len(classes), columns):
                part = classes[left : left + columns]
                scores[top : top + rows, left : left + columns] = self.g(x, part, own)
        return scores

    def loss(self, batch: TrainBatch) -> Tensor:
        """Cross-entropy, or the contrast of h(x) and captions both ways; distillation; reward."""
        both = batch.queries, batch.candidates
        images = next((side.images for side in both if side.images is not None), None)
        assert images is not None, "training rows have an image"
        made = self.h(images)
        classifies = self.task.kind == "classification"
        task = self._classify(batch, images, made) if classifies else self._contrast(batch, made)
        if self.aggregator is None:
            return task
        aggregate = self.aggregator(self._set_of[batch.row], images, batch.row, batch.epoch)
        if self.config.unit_aggregate:
            aggregate = nn.functional.normalize(aggregate, dim=-1)
        goal = aggregate.detach() if self.config.stop_gradient else aggregate
        row_losses = self.config.distill_weight * (made - goal).square().sum(dim=-1)
        if self.aggregator.learns:
            near = nn.functional.cosine_similarity(images, aggregate, dim=-1).clamp(min=0)
            row_losses = row_losses - self.config.reward_weight * near
        return task + losses.weighted_mean(row_losses, batch.weight)

    def _classify(self, batch: TrainBatch, images: Tensor, made: Tensor) -> Tensor:
        """Cross-entropy over all classes."""
        classes = self.candidate(batch.candidates)
        if self.g is not None:
            scores = self._cosines(images, made, classes)
        else:
            scores = nn.functional.normalize(made, dim=-1) @ classes.T
        logits = self.backbone.logit_scale * scores
        return losses.cross_entropy(logits, batch.target, batch.weight)

    def _contrast(self, batch: TrainBatch, made: Tensor) -> Tensor:
        """CLIP's loss of h(x) and the captions, which are encoded once for the lesson."""
        assert self._texts is not None
        image, text = nn.functional.normalize(made, dim=-1), self._texts[batch.row]
        scale = self.backbone.logit_scale
        there = losses.info_nce(image, text, batch.target, batch.weight, scale)
        back = losses.info_nce(text, image, batch.target, batch.weight, scale)
        return (there + back) / 2
