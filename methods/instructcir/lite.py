"""InstructCIR-lite: InstructCIR's recipe, trained here on a small LLaVA-class model.

Not InstructCIR: neither its model nor its data. What is taken from it is the form (an image with
an instruction is read by a language model; the last token's state is the embedding) and the two
stages (arXiv 2412.05756; code zhwl2117/InstructCIR):

    stage 1, image-text data:  symmetric InfoNCE of image (gallery prompt) and caption
    stage 2, composed data:    `contrast.instruction_loss`: the target's caption is right, the
                               reference's unmodified caption is the hard negative

The kind of task that the method is built for decides which stage it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_recipes.core.model import DataError, TaskKind
from methods.core import losses
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig, Training
from methods.core.contract import Encoder, Lesson, Method, TaskInfo, TrainBatch
from methods.instructcir import weights
from methods.instructcir.contrast import instruction_loss
from methods.instructcir.prompts import GALLERY, query_prompt
from methods.instructcir.reading import last_state
from methods.instructcir.student import student
from methods.instructcir.vision import noisy

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj")  # attention
ADAPTED_MLP = ("gate_proj", "up_proj", "down_proj", "fc1", "fc2")
DEFAULT_ANCHOR = 50.0
LARGEST = 2**16  # numbers of one image on disk; CLIP ViT-L's patches are four times as many


class InstructCIRLiteConfig(MethodConfig):
    """model: folder or hub name of LLaVA-class weights; None: a small one over the backbone.

    dtype: of the frozen weights; what is trained is float32. tune: LoRA of rank `lora_r` on
    attention and MLP, all of the language model, or nothing of it; the projector always.
    tau: temperature of both stages. mirror: add stage 2's mirrored term (image without
    instruction against the original caption; commented out in the released code).
    image_states: what of an image the small model reads: the vision tower's pooled class token,
    or LLaVA's patches of the last layer but one (always with `model`).
    anchor: weight of 1 - cosine to the backbone's own features of the same captions and images,
    which keeps few shots from undoing what it knows (small model only); None: 50, or 0 with
    `model`. anchor_noise: spread of the made-up image states that are anchored with them.
    image_targets: weight of stage 2's loss with images in the captions' place.
    gallery: gallery images are read by the model, or are the backbone's features.
    checkpointing: save memory by computing activations twice.
    """

    model: str | None = Field(default=None, min_length=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    tune: Literal["lora", "full", "projector"] = "lora"
    lora_r: int = Field(default=16, gt=0)
    tau: float = Field(default=0.05, gt=0)
    mirror: bool = False
    image_states: Literal["pooled", "patches"] | None = None
    anchor: float | None = Field(default=None, ge=0)
    anchor_noise: float = Field(default=0.7, ge=0)
    image_targets: float = Field(default=0.0, ge=0)
    gallery: Literal["model", "backbone"] = "model"
    checkpointing: bool = False

    @property
    def pooled(self) -> bool:
        """Whether an image is one pooled state."""
        return self.model is None and self.image_states != "patches"

    @model_validator(mode="after")
    def _fits(self) -> InstructCIRLiteConfig:
        if self.model is not None:
            if self.anchor or self.image_states == "pooled" or self.gallery == "backbone":
                raise ValueError(
                    "anchor, image_states: pooled and gallery: backbone need the small model, "
                    "whose space is the backbone's; leave them out, or leave out `model`"
                )
        elif self.image_states == "patches" and (self.anchor != 0 or self.gallery == "backbone"):
            raise ValueError(
                "anchors and gallery: backbone need image_states: pooled; give anchor: 0"
            )
        if self.model is not None and self.tune == "full" and self.dtype != "float32":
            raise ValueError("tune: full trains the weights themselves; use dtype: float32")
        return self


class InstructCIRLite(Method):
    """InstructCIR-lite: stage 1 on image-text data, stage 2 on composed data."""

    name = "instructcir-lite"
    paper = "after Compositional Image Retrieval via Instruction-Aware Contrastive Learning"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed", "image_text"})
    pixels = True
    stage: ClassVar[Training | None] = Training(
        optimizer="adamw",
        lr=0.005,
        weight_decay=0.0,
        schedule="cosine",
        warmup_steps=10,
        epochs=2,
        batch_size=64,
    )
    recipe: ClassVar[Training] = Training(
        optimizer="adamw",
        lr=0.004,
        weight_decay=0.0,
        schedule="cosine",
        warmup_steps=5,
        steps=80,
        batch_size=16,
    )
    inferred: ClassVar[tuple[str, ...]] = (
        "everything about the data, the frozen parts, LoRA and the recipe",
        "the small model: the backbone's towers as a LLaVA (text tower as language model, its "
        "projection as `ret_proj`), one pooled token for an image",
        "captions are read without an instruction; stage 1's prompts",
        "anchors to the backbone's features, and images as targets beside captions",
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
        self._lesson: Lesson | None = None

    def _add_lora(self) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        language = self.llava.language_model
        wanted = (*ADAPTED, *ADAPTED_MLP, "qkv_proj", "gate_up_proj")
        names = {name.rsplit(".", 1)[-1] for name, _ in language.named_modules()}
        r = self.config.lora_r
        lora = LoraConfig(r=r, lora_alpha=r, target_modules=sorted(names & {*wanted}))
        inject_adapter_in_model(lora, language)

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

    def _read(self, prompts: Sequence[str], states: Tensor | None) -> Tensor:
        rows = self.words.rows(prompts, self.backbone.device)
        if states is not None and states.ndim == 4:
            states = self._vision[0].encode_pixels(states)
        shaped = None if states is None else self._vision[0].shaped(states)
        state = last_state(self.llava, rows, shaped)
        if self.ret_proj is not None:
            state = self.ret_proj(state)
        return nn.functional.normalize(state.float(), dim=-1)

    def image(self, images: Tensor) -> Tensor:
        """Gallery images, as frozen states (B, dim of `frozen_images`) or pixels: (B, D)."""
        if self.config.gallery == "backbone":
            return self._vision[0].feature(images)
        return self._described(images)

    def _described(self, states: Tensor) -> Tensor:
        return self._read([GALLERY] * len(states), states)

    def text(self, texts: Sequence[str]) -> Tensor:
        """Captions alone: (N, D) unit-norm."""
        return self._read(texts, None)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Frozen states of reference images with instructions: (B, D) unit-norm."""
        return self._read([query_prompt(text) for text in texts], images)

    def begin_training(self, lesson: Lesson) -> None:
        """Keeps the captions.

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
        every = dict.fromkeys(caption for captions in told for caption in captions)
        self._captions = {caption: number for number, caption in enumerate(every)}
        self._lesson = lesson

    def end_training(self) -> None:
        """Forgets the captions."""
        self._lesson, self._captions = None, {}

    def loss(self, batch: TrainBatch) -> Tensor:
        """Stage 1 for image-text data, stage 2 for composed data; with the anchors."""
        return self._align(batch) if self.task.kind == "image_text" else self._instruct(batch)

    def _align(self, batch: TrainBatch) -> Tensor:
        images = batch.queries.images
        captions = batch.candidates.texts
        if images is None:
            images, captions = batch.candidates.images, batch.queries.texts
        assert images is not None and captions is not None
        seen, anchored = self._images(images, batch)
        told = self.text(captions)
        scale = 1 / self.config.tau
        # One id for equal candidates; a caption's several images are no negatives of each other.
        there = losses.info_nce(seen, told, batch.target, batch.weight, scale)
        back = losses.info_nce(told, seen, batch.target, batch.weight, scale)
        return (there + back) / 2 + anchored + self._anchor(told, captions, batch.weight)

    def _instruct(self, batch: TrainBatch) -> Tensor:
        lesson, config = self._lesson, self.config
        assert lesson is not None, "begin_training was not called"
        assert batch.queries.images is not None and batch.queries.texts is not None
        assert batch.candidates.images is not None
        targets = self._told(lesson.described, batch)
        originals = self._told(lesson.reference_described, batch)
        target_id, original_id = self._ids(targets), self._ids(originals)
        z1 = self.compose(batch.queries.images, batch.queries.texts)
        both = self.text([*targets, *originals])
        z2, z3 = both.chunk(2)
        weight, tau = batch.weight, config.tau
        value = instruction_loss(z1, z2, z3, target_id, original_id, weight, tau)
        if config.mirror:
            plain = self._described(batch.queries.images)
            value = value + instruction_loss(plain, z3, z2, original_id, target_id, weight, tau)
            value = value / 2
        anchored = self._anchor(both, [*targets, *originals], weight.repeat(2))
        if config.image_targets:
            seen = self.image(batch.candidates.images)
            before = self.image(batch.queries.images)
            shown = instruction_loss(z1, seen, before, target_id, original_id, weight, tau)
            value = value + config.image_targets * shown
        if self._anchors:
            anchored = anchored + self._images(batch.queries.images, batch)[1]
        return value + anchored

    def _told(self, captions: Sequence[Sequence[str]], batch: TrainBatch) -> list[str]:
        """One caption of each row; which one turns with the epoch."""
        return [captions[n][batch.epoch % len(captions[n])] for n in batch.row.tolist()]

    def _ids(self, captions: Sequence[str]) -> Tensor:
        device = self.backbone.device
        return torch.tensor([self._captions[caption] for caption in captions], device=device)

    @property
    def _anchors(self) -> float:
        if self.config.anchor is not None:
            return self.config.anchor
        return 0.0 if self.config.model is not None else DEFAULT_ANCHOR

    def _anchor(self, told: Tensor, captions: Sequence[str], weight: Tensor) -> Tensor:
        if not self._anchors:
            return told.new_zeros(())
        frozen = self.backbone.text.encode_texts(captions)
        return self._anchors * losses.weighted_mean(1 - (told * frozen).sum(dim=1), weight)

    def _images(self, states: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """Described images (b, D), and the anchor of these and of made-up ones."""
        if not self._anchors:
            return self._described(states), states.new_zeros(())
        vision = self._vision[0]
        made = noisy(vision, states, batch.row, batch.epoch, self.config.anchor_noise)
        every = torch.cat([states, made])
        seen = self._described(every)
        apart = 1 - (seen * vision.feature(every)).sum(dim=1)
        weight = batch.weight.repeat(len(every) // len(states))
        return seen[: len(states)], self._anchors * losses.weighted_mean(apart, weight)
