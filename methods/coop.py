"""CoOp: learned context vectors in front of (around, after) class names.

Zhou et al., Learning to Prompt for Vision-Language Models (arXiv 2109.01134), equations 2 and 3;
official code: KaiyangZhou/CoOp, `trainers/coop.py`.

    t_c = [SOS] v_1 ... v_M  name_c . [EOT]        p(c | x) = softmax_c( s * cos(x, g(t_c)) )

Only the context moves. It is shared by all classes, or one for each class (class-specific); the
class name stands at its end, in its middle or at its front.

The official code trains in half: weights, context and momentum. `training.precision: fp16` computes
in half (autocast), and keeps the context and its momentum in single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig
from methods.core.contract import Method, TaskInfo
from methods.core.device import moved
from methods.core.prefix_chunks import KEPT_TOKENS
from methods.core.shared_prefix import Packing, pack
from methods.core.text_tower import TextTower
from methods.core.word_blocks import Blocks, lay, room, side_by_side


class CoOpConfig(MethodConfig):
    """n_ctx: M, number of context tokens. ctx_init: words to start from; sets M to their number.

    class_specific: one context for each class (CSC). class_token_position: where the name stands.
    text_weight: share of the text in late fusion (composed retrieval).
    """

    n_ctx: int = Field(default=16, gt=0)
    ctx_init: str | None = Field(default=None, min_length=1)
    class_specific: bool = False
    class_token_position: Literal["end", "middle", "front"] = "end"
    text_weight: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> CoOpConfig:
        if self.class_specific and self.ctx_init is not None:
            raise ValueError(
                "class_specific with ctx_init: the official code then shares one context after "
                "all; give only one of the two"
            )
        if self.length < 1:
            raise ValueError(f"ctx_init {self.ctx_init!r} has no words")
        if self.class_token_position == "middle" and self.length % 2:
            raise ValueError(f"class_token_position 'middle' needs an even M, not {self.length}")
        return self

    @property
    def length(self) -> int:
        """M, the number of context tokens."""
        return len(self.words.split()) if self.ctx_init else self.n_ctx

    @property
    def words(self) -> str:
        """The words of `ctx_init`; underscores are spaces, as in CoOp's scripts."""
        return (self.ctx_init or "").replace("_", " ")


@dataclass(frozen=True)
class _Layout:
    """N prompts as sources: a token id, or -1 - j for context vector j (of all classes' together).

    prefix: (P,) what all prompts begin with, or (S, P); of: then which of them each does.
    rests: (T,) what follows in each, packed. fixed: the rests are words alone. listed: what follows
    in each, in the given order, on the host.
    """

    prefix: Tensor
    rests: Tensor
    fixed: bool
    packing: Packing
    listed: tuple[tuple[int, ...], ...]
    of: tuple[int, ...] | None = None


@dataclass(frozen=True)
class _Blocks:
    """S methods' prompts as sources. prefix: (S, P). rests: (B * R,), at all places of `laid`."""

    prefix: Tensor
    rests: Tensor
    fixed: bool
    laid: Blocks


class CoOp(Method):
    """Context optimisation; on composed data the context stands before the modification text."""

    name = "coop"
    paper = "Zhou et al., Learning to Prompt for Vision-Language Models (arXiv 2109.01134)"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "image_text", "composed"})
    inferred: ClassVar[tuple[str, ...]] = (
        "use on captions and on modification texts with late fusion (the paper classifies only)",
    )
    Config = CoOpConfig

    def __init__(self, config: CoOpConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.config = config
        width = backbone.text.width
        if config.ctx_init is not None:
            start = self._embed_words(config.words)
        else:
            classes = [len(task.class_names)] if config.class_specific else []
            start = torch.empty(*classes, config.n_ctx, width).normal_(std=0.02)
        self.ctx = nn.Parameter(start)  # (M, width), or (C, M, width) when class-specific
        self._known: dict[tuple[str, ...], _Layout] = {}
        self._known_together: dict[tuple[tuple[str, ...], ...], _Layout | _Blocks] = {}
        if task.class_names:
            self._layout(task.class_names)  # prompts that do not fit are refused here, not later

    @classmethod
    def unfit(cls, config: MethodConfig, kind: TaskKind) -> str | None:
        """A class-specific context needs classes."""
        if kind != "classification" and isinstance(config, CoOpConfig) and config.class_specific:
            return f"with class_specific does classification, not {kind}"
        return super().unfit(config, kind)

    @classmethod
    def unfit_classes(cls, config: MethodConfig) -> str | None:
        """A class-specific context belongs to its classes."""
        if isinstance(config, CoOpConfig) and config.class_specific:
            return "with class_specific knows only the classes it learned on"
        return super().unfit_classes(config)

    def _embed_words(self, words: str) -> Tensor:
        tower = self.backbone.text
        ids = tower.tokenize([words])
        length = self.config.length
        if int(tower.end(ids)) != length + 1:
            raise ValueError(
                f"ctx_init {words!r}: {length} words but {int(tower.end(ids)) - 1} tokens; every "
                "word must be one token of this backbone's tokenizer"
            )
        return tower.embed(ids)[0, 1 : length + 1].detach().clone()

    def _layout(self, texts: Sequence[str]) -> _Layout:
        known = self._known.get(tuple(texts))
        if known is not None:
            return known
        tower, m = self.backbone.text, self.config.length
        named = self.task.kind == "classification"
        names = [t.replace("_", " ") for t in texts] if named else list(texts)
        ids = tower.tokenize([f"{name}." if named else name for name in names])
        ends = tower.end(ids).tolist()
        name_ends = tower.end(tower.tokenize(names)).tolist() if named else ends
        length = max(ends) + m + 1
        if length > tower.context_length:
            raise ValueError(
                f"{m} context tokens and the text {texts[ends.index(max(ends))]!r} need {length} "
                f"tokens; the backbone takes {tower.context_length}. Lower n_ctx"
            )
        before = {"end": m, "middle": m // 2, "front": 0}[self.config.class_token_position]
        shared = 1 if self.config.class_specific else 1 + before
        prompts = []
        for row, (end, name_end) in enumerate(zip(ends, name_ends, strict=True)):
            first = row * m if self.config.class_specific else 0
            context = [-1 - first - j for j in range(m)]
            words = ids[row, : end + 1].tolist()
            named_part = [words[0], *context[:before], *words[1:name_end]]
            prompts.append([*named_part, *context[before:], *words[name_end:]])
        packing = pack([len(prompt) - shared for prompt in prompts])
        listed = tuple(tuple(prompt[shared:]) for prompt in prompts)
        rests = torch.tensor([source for rest in listed for source in rest])
        layout = _Layout(
            moved(torch.tensor(prompts[0][:shared]), tower.device),
            moved(rests[packing.order], tower.device),
            bool((rests >= 0).all()),
            packing.to(tower.device),
            listed,
        )
        if named:  # the class list is the same in every step; captions are not
            self._known = {tuple(texts): layout}
        return layout

    def _embed(self, sources: Tensor) -> Tensor:
        """Sources (T,) -> word embeddings and context vectors (T, width)."""
        return _embedded(self.backbone.text, self.ctx.flatten(0, -2), sources)

    def text(self, texts: Sequence[str]) -> Tensor:
        """Class names or captions behind the learned context: (N, D) unit-norm.

        Raises:
            ValueError: a class-specific context meets other classes than it was built for.
        """
        if self.config.class_specific and tuple(texts) != self.task.class_names:
            raise ValueError(
                "a class-specific context knows only its own classes and cannot transfer; use "
                "class_specific: false to evaluate on new classes"
            )
        layout, tower = self._layout(texts), self.backbone.text
        # No gradient flows to words, which spares some of the first layer's backward.
        rests = tower.embed(layout.rests) if layout.fixed else self._embed(layout.rests)
        return tower.encode_behind(self._embed(layout.prefix), rests, layout.packing)

    @classmethod
    def apart(cls, config: MethodConfig, kind: TaskKind) -> str | None:
        """Several contexts run through the tower at once.

        Class-specific ones share no beginning: they gain by threads of their own, less by the pass.
        """
        return None

    @classmethod
    def texts_together(
        cls, methods: Sequence[Method], texts: Sequence[Sequence[str]]
    ) -> list[Tensor] | None:
        """Each method's texts behind its own context, in one pass through the tower."""
        coops = [method for method in methods if isinstance(method, CoOp)]
        first, tower = coops[0], coops[0].backbone.text
        layout = first._known_together.get(key := tuple(map(tuple, texts)))
        if layout is None:
            each = {own: first._layout(own) for own in dict.fromkeys(key)}
            tokens = max(len(own.rests) for own in each.values())
            fitting = max(1, KEPT_TOKENS // tokens)
            if fitting < len(methods):  # more would not keep their activations
                parts = [slice(at, at + fitting) for at in range(0, len(methods), fitting)]
                found = [cls.texts_together(methods[part], texts[part]) for part in parts]
                return [features for part in found for features in part or ()]
            own, vectors = [each[own] for own in key], len(first.ctx.flatten(0, -2))
            layout = _in_blocks(own, vectors) if tower.shares else None
            layout = layout or _side_by_side(own, vectors)
            if len(each) == 1:  # the class list is the same in every step; captions are not
                first._known_together = {key: layout}
        contexts = torch.cat([method.ctx.flatten(0, -2) for method in coops])
        prefixes = _embedded(tower, contexts, layout.prefix)
        rests = (
            tower.embed(layout.rests) if layout.fixed else _embedded(tower, contexts, layout.rests)
        )
        if isinstance(layout, _Blocks):
            keep = layout.fixed and first.task.kind == "classification"
            features = tower.encode_blocks(prefixes, rests, layout.laid, keep)
        else:
            features = tower.encode_behind(prefixes, rests, layout.packing, layout.of)
        return list(torch.split(features, [len(own) for own in texts]))

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Late fusion, (1 - w) * image + w * prompted text, renormalised: (B, D)."""
        w = self.config.text_weight
        return nn.functional.normalize((1 - w) * self.image(images) + w * self.text(texts), dim=-1)


def _embedded(tower: TextTower, context: Tensor, sources: Tensor) -> Tensor:
    """Sources (...) -> word embeddings and context vectors, of (m, width), (..., width)."""
    words = tower.embed(sources.clamp(min=0))
    return torch.where(sources[..., None] < 0, context[(-1 - sources).clamp(min=0)], words)


def _side_by_side(layouts: Sequence[_Layout], vectors: int) -> _Layout:
    """S methods' prompts in one: the sources of method s are those of its own `vectors`."""
    prefix = torch.stack([_of(s, own.prefix, vectors) for s, own in enumerate(layouts)])
    rests = [_of(s, o.rests, vectors)[o.packing.order.argsort()] for s, o in enumerate(layouts)]
    listed = tuple(rest for own in layouts for rest in own.listed)
    packing = pack([len(rest) for rest in listed]).to(prefix.device)
    of = tuple(number for number, own in enumerate(layouts) for _ in own.listed)
    fixed = all(own.fixed for own in layouts)
    return _Layout(prefix, torch.cat(rests)[packing.order], fixed, packing, listed, of)


def _in_blocks(layouts: Sequence[_Layout], vectors: int) -> _Blocks | None:
    """The same in blocks; None where these have more places than there are tokens."""
    places = room(max(len(rest) for own in layouts for rest in own.listed))
    each = {own.listed: lay(own.listed, places) for own in layouts}
    laid = [each[own.listed] for own in layouts]
    if sum(len(own.words) for own in laid) > sum(len(own.rests) for own in layouts):
        return None
    device = layouts[0].prefix.device
    prefix = torch.stack([_of(s, own.prefix, vectors) for s, own in enumerate(layouts)])
    rests = torch.cat([_of(s, own.words, vectors) for s, own in enumerate(laid)])
    fixed = all(own.fixed for own in layouts)
    blocks = side_by_side(laid, prefix.shape[1], device)
    return _Blocks(prefix, moved(rests, device), fixed, blocks)


def _of(number: int, sources: Tensor, vectors: int) -> Tensor:
    return torch.where(sources < 0, sources - number * vectors, sources)
