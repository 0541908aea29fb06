"""InstructCIR-lite: InstructCIR's recipe, trained here on a small LLaVA-class model.

Not InstructCIR: neither its model nor its data. What is taken from it is the form (an image with
an instruction is read by a language model; the last token's state is the embedding) and the two
stages (arXiv 2412.05756; code zhwl2117/InstructCIR):

    stage 1, image-text data:  symmetric InfoNCE of image (gallery prompt) and caption
    stage 2, composed data:    `contrast.instruction_loss`: the target's caption is right, the
                               reference's unmodified caption is the hard negative

The kind of task that the method is built for decides which stage it trains.

Two additions keep the small model near what its backbone knows, which a few hundred drawings and
64 triplets do not teach: the image's own backbone feature is added to the language model's state
(`residual`), and query prompts with made-up images and other rows' texts are anchored to the sum of
the two frozen features. So the query is taught towards a late fusion with text share
1 / (1 + residual): compare the method with image-plus-text at that share, not at 0.5 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from data_recipes.core.model import DataError, TaskKind
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Encoder, Lesson, Method, TaskInfo, TrainBatch
from methods.core.device import moved
from methods.instructcir import weights
from methods.instructcir.contrast import instruction_loss
from methods.instructcir.decoder import end_state
from methods.instructcir.lora import add_lora
from methods.instructcir.options import InstructCIRLiteConfig
from methods.instructcir.prompts import GALLERY, query_prompt
from methods.instructcir.reading import last_state
from methods.instructcir.student import student
from methods.instructcir.vision import noisy

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj")  # attention
ADAPTED_MLP = ("gate_proj", "up_proj", "down_proj", "fc1", "fc2")
TEXTS = 1  # stream of random numbers that draws the made-up queries' texts
LARGEST = 2**16  # numbers of one image on disk; CLIP ViT-L's patches are four times as many


class InstructCIRLite(Method):
    """InstructCIR-lite: stage 1 on image-text data, stage 2 on composed data."""

    name = "instructcir-lite"
    paper = "after Compositional Image Retrieval via Instruction-Aware Contrastive Learning"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed", "image_text"})
    pixels = True
    stage: ClassVar[Training | None] = Training(
        optimizer="adamw",
        lr=0.003,
        weight_decay=0.0,
        schedule="cosine",
        warmup_steps=10,
        epochs=1,
        batch_size=32,
    )
    recipe: ClassVar[Training] = Training(
        optimizer="adamw",
        lr=0.005,
        weight_decay=0.0,
        schedule="cosine",
        warmup_steps=5,
        steps=30,
        batch_size=16,
    )
    inferred: ClassVar[tuple[str, ...]] = (
        "everything about the data, the frozen parts, LoRA and the recipe",
        "the small model: the backbone's towers as a LLaVA (text tower as language model, its "
        "projection as `ret_proj`), one pooled token for an image",
        "captions are read without an instruction; stage 1's prompts",
        "residual: the image's backbone feature is added to the language model's state",
        "anchors to the backbone's features: captions, images, and made-up queries to the sum of "
        "image and text",
        "images as targets beside captions (off by default)",
        "equal captions are no negatives",
    )
    Config = InstructCIRLiteConfig

    def __init__(self, config: InstructCIRLiteConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.config = config
        built = student(config.model, config.dtype, config.pooled, backbone)
        self.words, self._vision = built.words, [built.vision]
        self.llava = built.llava.requires_grad_(False)
        self.ret_proj = built.ret_proj
        self.llava.multi_modal_projector.float().requires_grad_(True)
        if config.tune == "full":
            self.llava.language_model.requires_grad_(True)
        elif config.tune == "lora":
            self._add_lora()
        if config.checkpointing:
            self.llava.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        self._captions: dict[str, int] = {}
        self._frozen = torch.empty(0)
        self._lesson: Lesson | None = None

    def _add_lora(self) -> None:
        wanted = (*ADAPTED, *ADAPTED_MLP, "qkv_proj", "gate_up_proj")
        add_lora(self.llava.language_model, self.config.lora_r, wanted)

    @classmethod
    def weights_digest(cls, config: MethodConfig) -> str | None:
        """Of `model`'s files; None for the small model, which is the backbone's."""
        assert isinstance(config, InstructCIRLiteConfig)
        return None if config.model is None else weights.digest(config.model)

    @classmethod
    def describes(cls, config: MethodConfig, kind: TaskKind) -> bool:
        """Stage 2 needs captions of targets and references."""
        return kind == "composed"

    @property
    def dim(self) -> int:
        """Width of the embedding."""
        if self.ret_proj is not None:
            return int(self.ret_proj.weight.shape[0])
        return int(self.llava.config.text_config.hidden_size)

    @property
    def frozen_images(self) -> Encoder | None:
        """The frozen vision tower's states; None where they are too large to keep on disk."""
        return self._vision[0] if self._vision[0].dim <= LARGEST else None

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Of the vision tower."""
        return self._vision[0].transform

    def learned(self) -> dict[str, Tensor]:
        """What is trained: adapters and projector, or the whole language model."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_learned(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of `learned`. Raises RuntimeError where names or shapes differ."""
        own = self.learned()
        wrong = set(own) ^ set(weights)
        wrong |= {n for n in set(own) & set(weights) if own[n].shape != weights[n].shape}
        if wrong:
            raise RuntimeError(f"learned weights differ in names or shapes: {sorted(wrong)[:4]}")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])

    @property
    def _small(self) -> bool:
        # transformers' own forward computes activations twice where that is asked for.
        return self.config.model is None and not self.config.checkpointing

    def _units(self, prompts: Sequence[str], states: Tensor | None) -> Tensor:
        """The model's own unit vectors (N, D). states: of the images in the prompts, in order."""
        shaped = None if states is None else self._vision[0].shaped(states)
        device = self.backbone.device
        if self._small:
            state = end_state(self.llava, self.words.trees(prompts, device), shaped)
        else:
            state = last_state(self.llava, self.words.rows(prompts, device), shaped)
        if self.ret_proj is not None:
            state = self.ret_proj(state)
        return nn.functional.normalize(state.float(), dim=-1)

    def _both(
        self, prompts: Sequence[str], states: Tensor, texts: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Unit vectors of prompts with an image and of texts without, in one pass where it pays."""
        if not self._small:  # there rows are padded, and images are hundreds of tokens
            return self._units(prompts, states), self._units(texts, None)
        seen, told = self._units([*prompts, *texts], states).tensor_split([len(prompts)])
        return seen, told

    def _read(self, prompts: Sequence[str], images: Tensor, residual: float) -> Tensor:
        states = self._encoded(images)
        return self._sum(self._units(prompts, states), states, residual)

    def _encoded(self, images: Tensor) -> Tensor:
        """States of images that reach the method as such or as pixels."""
        return self._vision[0].encode_pixels(images) if images.ndim == 4 else images

    def _sum(self, units: Tensor, states: Tensor, residual: float) -> Tensor:
        """Unit vectors plus the images' own features: (B, D) unit-norm."""
        if not residual:
            return units
        own = self._vision[0].feature(states)
        return nn.functional.normalize(units + residual * own, dim=-1)

    def image(self, images: Tensor) -> Tensor:
        """Gallery images, as frozen states (B, dim of `frozen_images`) or pixels: (B, D)."""
        if self.config.gallery == "backbone":
            return self._vision[0].feature(images)
        return self._described(images)

    def _described(self, states: Tensor) -> Tensor:
        return self._read([GALLERY] * len(states), states, self.config.residuals[1])

    def text(self, texts: Sequence[str]) -> Tensor:
        """Captions alone: (N, D) unit-norm."""
        return self._units(texts, None)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Frozen states of reference images with instructions: (B, D) unit-norm."""
        prompts = [query_prompt(text) for text in texts]
        return self._read(prompts, images, self.config.residuals[0])

    def begin_training(self, lesson: Lesson) -> None:
        """Keeps the captions and, for the anchors, the frozen features of all texts.

        Raises:
            DataError: composed data without captions of targets and references.
        """
        if self.task.kind == "composed":
            lacking = [
                n
                for n, both in enumerate(
                    zip(lesson.described, lesson.reference_described, strict=True)
                )
                if not all(both)
            ]
            if lacking:
                raise DataError(
                    f"instructcir-lite learns from captions of target and reference images; "
                    f"{len(lacking)} of {len(lesson.texts)} training pairs have none (first: "
                    f"pair {lacking[0]}, {lesson.texts[lacking[0]]!r}); give `descriptions`"
                )
        told = [*lesson.described, *lesson.reference_described]
        every = [*(caption for captions in told for caption in captions), *lesson.texts]
        self._captions = {text: number for number, text in enumerate(dict.fromkeys(every))}
        if self.config.anchors:
            self._frozen = self.backbone.text_features([*self._captions])
        self._lesson = lesson

    def end_training(self) -> None:
        """Forgets the captions."""
        self._lesson, self._captions, self._frozen = None, {}, torch.empty(0)

    def loss(self, batch: TrainBatch) -> Tensor:
        """Stage 1 for image-text data, stage 2 for composed data; with the anchors."""
        return self._align(batch) if self.task.kind == "image_text" else self._instruct(batch)

    def _align(self, batch: TrainBatch) -> Tensor:
        images = batch.queries.images
        captions = batch.candidates.texts
        if images is None:
            images, captions = batch.candidates.images, batch.queries.texts
        assert images is not None and captions is not None
        images, rows, residuals = self._encoded(images), len(batch.row), self.config.residuals
        made = self._made_up(images, batch) if self.config.anchors else None
        prompts, states = [GALLERY] * rows, images
        if made is not None:
            prompts += [query_prompt(text) for text in made.texts]
            states = torch.cat([images, made.states])
        units, told = self._both(prompts, states, captions)
        seen = self._sum(units[:rows], images, residuals[1])
        scale = 1 / self.config.tau
        # One id for equal candidates; a caption's several images are no negatives of each other.
        there = losses.info_nce(seen, told, batch.target, batch.weight, scale)
        back = losses.info_nce(told, seen, batch.target, batch.weight, scale)
        value = (there + back) / 2
        if not self.config.anchors:
            return value
        value = value + self._anchor(seen, self._vision[0].feature(images), batch.weight)
        value = value + self._anchor(told, self._frozen[self._ids(captions)], batch.weight)
        if made is None:
            return value
        imagined = self._sum(units[rows:], made.states, residuals[0])
        return value + self._anchor(imagined, made.fused, batch.weight)

    def _instruct(self, batch: TrainBatch) -> Tensor:
        lesson, config = self._lesson, self.config
        assert lesson is not None, "begin_training was not called"
        assert batch.queries.images is not None and batch.queries.texts is not None
        assert batch.candidates.images is not None
        targets = self._told(lesson.described, batch)
        originals = self._told(lesson.reference_described, batch)
        target_id, original_id = self._ids(targets), self._ids(originals)
        images, texts = self._encoded(batch.queries.images), [*batch.queries.texts]
        made = self._made_up(images, batch) if config.anchors else None
        if made is not None:  # read in one pass: fewer and larger products
            images, texts = torch.cat([images, made.states]), [*texts, *made.texts]
        prompts = [query_prompt(text) for text in texts]
        units, both = self._both(prompts, images, [*targets, *originals])
        z1, imagined = self._sum(units, images, config.residuals[0]).tensor_split([len(batch.row)])
        z2, z3 = both.chunk(2)
        weight, tau = batch.weight, config.tau
        value = instruction_loss(z1, z2, z3, target_id, original_id, weight, tau)
        if config.mirror:
            plain = self._described(batch.queries.images)
            value = value + instruction_loss(plain, z3, z2, original_id, target_id, weight, tau)
            value = value / 2
        if config.image_targets:
            seen = self.image(batch.candidates.images)
            before = self.image(batch.queries.images)
            shown = instruction_loss(z1, seen, before, target_id, original_id, weight, tau)
            value = value + config.image_targets * shown
        if config.anchors:
            frozen = self._frozen[torch.cat([target_id, original_id])]
            value = value + self._anchor(both, frozen, weight.repeat(2))
        if made is not None:
            value = value + self._anchor(imagined, made.fused, weight)
        return value

    def _told(self, captions: Sequence[Sequence[str]], batch: TrainBatch) -> list[str]:
        """One caption of each row; which one turns with the epoch."""
        return [captions[n][batch.epoch % len(captions[n])] for n in batch.rows]

    def _ids(self, captions: Sequence[str]) -> Tensor:
        numbers = torch.tensor([self._captions[caption] for caption in captions])
        return moved(numbers, self.backbone.device)

    def _anchor(self, read: Tensor, frozen: Tensor, weight: Tensor) -> Tensor:
        apart = 1 - (read * frozen).sum(dim=1)
        return self.config.anchors * losses.weighted_mean(apart, weight)

    def _made_up(self, states: Tensor, batch: TrainBatch) -> _MadeUp | None:
        """A query for each row: an image around its own, the text of a row drawn for (row, epoch).

        None where the image has no share in the query.
        """
        lesson, residual = self._lesson, self.config.residuals[0]
        assert lesson is not None, "begin_training was not called"
        if not residual:
            return None
        made = noisy(self._vision[0], states, batch.rows, batch.epoch, self.config.anchor_noise)
        rows, count = batch.rows, len(lesson.texts)
        draws = [np.random.default_rng([batch.epoch, row, TEXTS]).integers(count) for row in rows]
        texts = [lesson.texts[draw] for draw in draws]
        return _MadeUp(made, texts, self._sum(self._frozen[self._ids(texts)], made, residual))


@dataclass(frozen=True)
class _MadeUp:
    """Made-up queries: image states (b, dim), texts, and what they are anchored to (b, D)."""

    states: Tensor
    texts: list[str]
    fused: Tensor
