"""DCAR: dual prompts, token re-weighting, and generated negative captions for image-text retrieval.

Dual Prompt Learning for Adapting Vision-Language Models to Downstream Image-Text Retrieval
(arXiv 2508.04028). No code of the model is released. From the README and its figure are: text
prompts v and image prompts e guided by them in the two frozen encoders; the token weights

    w_j = | S(token_j, I_blank) - S(token_j, I) |

on the caption's input tokens; K negatives of two kinds, with another category or with other
attributes; a trainable module after the text encoder; category weights 1 + alpha or 1; and
L = L_con + L_cate. Everything else is inferred: see `DCAR.inferred` and the options' defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Lesson, Method, TaskInfo, TrainBatch
from methods.core.device import moved
from methods.core.negatives import Negative, nearest, negatives
from methods.core.prompts import CoupledPrompts, encode_prompted

NOTHING = 1e-6  # raw token weights that are rounding alone
WeightNorm = Literal["mean1", "softmax", "none"]


class DCARConfig(MethodConfig):
    """Options; the paper states none of these values.

    n_ctx: k, prompts of a layer. depth: layers with prompts of their own; at most those of the
        shallower tower, whatever is asked. ctx_init: words the first layer's prompts start from.
    image_init: image prompts start near the mean patch of the blank image at their layer, so that
        they change little; or as random linear maps make them (MaPLe's code), which costs the
        embedded backbone about ten points of recall@1 before the first step.
    reweight: multiply a caption's token embeddings by w in training.
    w_norm: "mean1" divides w by its mean over the caption and clips it to [w_min, w_max];
        "softmax" takes the softmax of w at CLIP's temperature times the number of tokens, and
        clips; "none" takes w as it is (about 0.01).
    blank: I_blank is the mean colour (zeros after normalisation) or black.
    swapped, altered: negatives of a caption with another class, and with another attribute.
    rivals: the classes nearest to its own that may take its place. fresh: others in every epoch.
    alpha: what a caption's weight has above 1 when its category is the image's.
    cate_loss: "weighted" is cross-entropy of the weighted logits; "weighted-logsoftmax" multiplies
        that by 1 + alpha. cate_text: what the captions of L_cate are encoded with before the CAA:
        the prompts, or the frozen tower alone. cate_weight: factor of L_cate.
    caa_reduction, caa_ratio: the CAA's bottleneck D -> D / reduction -> D, and its share.
    """

    n_ctx: int = Field(default=4, gt=0)
    depth: int = Field(default=9, gt=0)
    ctx_init: str | None = Field(default="a photo of a", min_length=1)
    image_init: Literal["blank", "random"] = "blank"
    reweight: bool = True
    w_norm: WeightNorm = "mean1"
    w_min: float = Field(default=0.5, ge=0)
    w_max: float = Field(default=2.0, gt=0)
    blank: Literal["mean", "black"] = "mean"
    swapped: int = Field(default=2, ge=0)
    altered: int = Field(default=2, ge=0)
    rivals: int = Field(default=10, gt=0)
    fresh: bool = False
    alpha: float = Field(default=0.5, ge=0)
    cate_loss: Literal["weighted", "weighted-logsoftmax"] = "weighted"
    cate_text: Literal["prompted", "frozen"] = "prompted"
    cate_weight: float = Field(default=1.0, ge=0)
    caa_reduction: int = Field(default=4, gt=0)
    caa_ratio: float = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> DCARConfig:
        if self.w_min > self.w_max:
            raise ValueError(f"w_min {self.w_min} is above w_max {self.w_max}")
        return self


class CategoryAwareModule(nn.Module):
    """CAA: a residual bottleneck on text features, of CLIP-Adapter's shape (no biases)."""

    def __init__(self, dim: int, reduction: int, ratio: float) -> None:
        super().__init__()
        hidden = max(1, dim // reduction)
        self.ratio = ratio
        self.down = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(hidden, dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) unit-norm -> (N, D) unit-norm."""
        change = self.up(self.down(features).relu()).relu()
        mixed = self.ratio * change + (1 - self.ratio) * features
        return nn.functional.normalize(mixed.float(), dim=-1)


@dataclass
class _Study:
    """What training knows of its pairs, by row.

    caption: (R,) int64, equal for equal captions. categories: class of each row, "" for none.
    rivals: class -> classes near it. blank: (D,) feature of I_blank.
    weights: token weights of the rows met so far, (L,) each.
    frozen: features (D,) by the frozen tower of the captions met so far (cate_text "frozen").
    """

    caption: Tensor
    categories: tuple[str, ...]
    rivals: dict[str, tuple[str, ...]]
    blank: Tensor
    weights: dict[int, Tensor] = field(default_factory=dict)
    frozen: dict[str, Tensor] = field(default_factory=dict)


class DCAR(Method):
    """Coupled prompts in both towers; in scoring a plain dual encoder (w = 1, prompts and CAA)."""

    name = "dcar"
    paper = (
        "Dual Prompt Learning for Adapting Vision-Language Models to Downstream Image-Text "
        "Retrieval (arXiv 2508.04028)"
    )
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"image_text"})
    touches_vision: ClassVar[bool] = True
    pixels: ClassVar[bool] = True
    inferred: ClassVar[tuple[str, ...]] = (
        "number, depth and start of the prompts; the linear map between the towers' (MaPLe's)",
        "image prompts start near a blank image's patches (MaPLe's start at random)",
        "token similarity from the frozen text tower's projected last states",
        "normalisation and clipping of the token weights, and no gradient through them",
        "the blank image",
        "the trainable module's form (CLIP-Adapter's), behind prompted captions as well",
        "both losses' exact form, alpha and the factor of L_cate",
        "making of negatives in training: nearest classes by text, attribute words by list",
        "token weights of 1 in scoring",
        "optimiser, rate, batch and epochs",
    )
    recipe: ClassVar[Training] = Training(lr=0.0025, epochs=10)
    Config = DCARConfig

    def __init__(self, config: DCARConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.config = config
        patches = backbone.vision.patch_states(self._blank())
        at = patches if config.image_init == "blank" else None
        self.prompts = CoupledPrompts(backbone, config.n_ctx, config.depth, config.ctx_init, at)
        self.caa = CategoryAwareModule(backbone.dim, config.caa_reduction, config.caa_ratio)
        self._study: _Study | None = None

    def image(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) among image prompts: (B, D) unit-norm."""
        return self.backbone.vision.encode(images, self.prompts()[1])

    def text(self, texts: Sequence[str]) -> Tensor:
        """Captions behind text prompts, then the CAA: (N, D) unit-norm."""
        return self._adapted(texts, self.prompts()[0])

    def begin_training(self, lesson: Lesson) -> None:
        """Number the captions; find each class's nearest classes by the frozen text tower."""
        known: dict[str, int] = {}
        captions = [known.setdefault(text, len(known)) for text in lesson.texts]
        categories = tuple(name.replace("_", " ") for name in lesson.categories)
        classes = sorted(set(categories) - {""})
        rivals: dict[str, tuple[str, ...]] = {}
        if len(classes) > 1 and self.config.swapped + self.config.altered > 0:
            features = self.backbone.text_features([f"a photo of a {c}." for c in classes])
            near = nearest(features, self.config.rivals)
            rivals = {c: tuple(classes[n] for n in near[i]) for i, c in enumerate(classes)}
        device = self.backbone.device
        with torch.no_grad():
            blank = self.backbone.vision.encode(self._blank())[0]
        self._study = _Study(torch.tensor(captions, device=device), categories, rivals, blank)

    def end_training(self) -> None:
        """Forget the training pairs."""
        self._study = None

    def loss(self, batch: TrainBatch) -> Tensor:
        """L_con + cate_weight * L_cate; one side of the pairs must be images, the other texts."""
        study, (pixels, texts) = self._study, _sides(batch)
        assert study is not None, "begin_training comes before the first loss"
        text_prompts, image_prompts = self.prompts()
        image = self.backbone.vision.encode(pixels, image_prompts)
        rows = batch.rows
        weights = self._token_weights(study, rows, pixels, texts) if self.config.reweight else None
        text = self._adapted(texts, text_prompts, weights)
        scale, ids = self.backbone.logit_scale, study.caption[batch.row]
        there = losses.info_nce(image, text, ids, batch.weight, scale)
        back = losses.info_nce(text, image, ids, batch.weight, scale)
        total = (there + back) / 2
        if self.config.cate_weight == 0 or self.config.swapped + self.config.altered == 0:
            return total
        draw = batch.epoch if self.config.fresh else 0
        made = [
            self._negatives(study, row, own, draw) for row, own in zip(rows, texts, strict=True)
        ]
        return total + self.config.cate_weight * self._cate(
            image, texts, made, text_prompts, batch.weight
        )

    def _adapted(
        self, texts: Sequence[str], prompts: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        features: Tensor = self.caa(encode_prompted(self.backbone.text, texts, prompts, weights))
        return features

    def _blank(self) -> Tensor:
        """I_blank, transformed: (1, 3, H, W)."""
        height, width = self.backbone.vision.image_size
        black = self.transform(Image.new("RGB", (width, height)))[None]
        return black if self.config.blank == "black" else torch.zeros_like(black)

    def _negatives(self, study: _Study, row: int, caption: str, draw: int) -> tuple[Negative, ...]:
        name = study.categories[row]
        wanted = self.config.swapped, self.config.altered
        return negatives(caption, name, study.rivals.get(name, ()), *wanted, draw)

    def _token_weights(
        self, study: _Study, rows: list[int], pixels: Tensor, texts: Sequence[str]
    ) -> Tensor:
        """w of each pair's tokens, (b, L), from the frozen towers; computed once for each row."""
        fresh = [n for n, row in enumerate(rows) if row not in study.weights]
        if fresh:
            tower = self.backbone.text
            with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
                image = self.backbone.vision.encode(pixels[fresh])
                ids = tower.tokenize([texts[n] for n in fresh])
                end = tower.end(ids)
                ids = ids[:, : int(end.max()) + 1]
                place = torch.arange(ids.shape[1])
                content = (place > 0) & (place < end[:, None])
                content = moved(content, pixels.device)
                raw = (tower.token_features(ids) @ (image - study.blank)[:, :, None])[..., 0].abs()
                made = token_weights(raw, content, self.config, self.backbone.logit_scale)
            for n, own, last in zip(fresh, made, end.tolist(), strict=True):
                study.weights[rows[n]] = own[: last + 1]
        own_weights = [study.weights[row] for row in rows]
        return nn.utils.rnn.pad_sequence(own_weights, batch_first=True, padding_value=1.0)

    def _cate(
        self,
        image: Tensor,
        texts: Sequence[str],
        made: Sequence[tuple[Negative, ...]],
        prompts: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """L_cate: each image (b, D) against its caption and that caption's negatives."""
        number: dict[str, int] = {}
        count = self.config.swapped + self.config.altered
        place = torch.zeros(len(texts), 1 + count, dtype=torch.long)
        same = torch.ones(len(texts), 1 + count, dtype=torch.bool)
        there = torch.zeros(len(texts), 1 + count, dtype=torch.bool)
        for row, (text, others) in enumerate(zip(texts, made, strict=True)):
            for column, one in enumerate((Negative(text, True), *others)):
                place[row, column] = number.setdefault(one.text, len(number))
                same[row, column], there[row, column] = one.same_class, True
        device = image.device
        if self.config.cate_text == "prompted":
            features = self._adapted(list(number), prompts)
        else:
            features = self.caa(self._frozen(list(number)))
        similarity = (image[:, None] * features[moved(place, device)]).sum(dim=-1)
        own = category_loss(
            self.backbone.logit_scale * similarity,
            moved(same, device),
            moved(there, device),
            self.config.alpha,
        )
        if self.config.cate_loss == "weighted-logsoftmax":
            own = (1 + self.config.alpha) * own
        return losses.weighted_mean(own, weight)

    def _frozen(self, texts: Sequence[str]) -> Tensor:
        """Features (n, D) of captions by the frozen tower, each encoded once in a training."""
        assert self._study is not None, "begin_training comes before the first loss"
        known = {} if self.config.fresh else self._study.frozen  # fresh ones would only pile up
        new = [text for text in texts if text not in known]
        if new:
            with torch.autocast(self.backbone.device.type, enabled=False):
                known.update(zip(new, self.backbone.text.encode_texts(new), strict=True))
        return torch.stack([known[text] for text in texts])


def token_weights(raw: Tensor, content: Tensor, config: DCARConfig, scale: float) -> Tensor:
    """Raw |S(token, blank) - S(token, image)| (b, L) -> factors of the token embeddings (b, L).

    content: (b, L) bool, False at special tokens and padding, which keep 1. A caption whose raw
    weights are all nothing (its image is the blank one) keeps 1 throughout.
    """
    raw = raw.masked_fill(~content, 0.0)
    count = content.sum(dim=-1, keepdim=True).clamp(min=1)
    known = raw.amax(dim=-1, keepdim=True) > NOTHING
    if config.w_norm == "mean1":
        mean = raw.sum(dim=-1, keepdim=True) / count
        weights = (raw / mean.clamp(min=NOTHING)).clamp(config.w_min, config.w_max)
    elif config.w_norm == "softmax":
        share = (scale * raw).masked_fill(~content, float("-inf")).softmax(dim=-1)
        weights = (share * count).clamp(config.w_min, config.w_max)
    else:
        weights = raw
    return torch.where(content & known, weights, torch.ones_like(raw))


def category_loss(logits: Tensor, same: Tensor, there: Tensor, alpha: float) -> Tensor:
    """Cross-entropy (b,) of column 0 among weighted logits (b, 1 + K); alpha 0: plain InfoNCE.

    same: (b, 1 + K) bool, the caption has the image's category: its logit counts 1 + alpha times.
    there: False where no negative could be made.
    """
    weighted = (logits * (1 + alpha * same)).masked_fill(~there, float("-inf"))
    return -weighted.log_softmax(dim=-1)[:, 0]


def _sides(batch: TrainBatch) -> tuple[Tensor, Sequence[str]]:
    """Pixels and texts of the pairs, whichever of the two is the query."""
    image, text = batch.queries, batch.candidates
    if image.images is None:
        image, text = text, image
    if image.images is None or text.texts is None or image.texts is not None:
        raise ValueError("dcar learns from pairs of an image and a caption")
    return image.images, text.texts
