"""InstructCIR's released weights, evaluated: no training here.

Compositional Image Retrieval via Instruction-Aware Contrastive Learning (arXiv 2412.05756); code
zhwl2117/InstructCIR, weights uta-smile/instructcir_llava_phi35_clip224_lp. A LLaVA-class model
reads an image with an instruction; its last layer's state at the last token, unit-norm, is the
embedding. Images of the gallery are read with a prompt of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig
from methods.core.contract import Encoder, Method, TaskInfo
from methods.instructcir import generic, weights
from methods.instructcir.prompts import GALLERY, Words, chat_words, query_prompt
from methods.instructcir.reading import last_state, patches

RELEASED = "uta-smile/instructcir_llava_phi35_clip224_lp"
BATCH = 16  # prompts of a large model at once


class InstructCIRConfig(MethodConfig):
    """model: folder or hub name of weights: LLaVA-class, or any `AutoModelForImageTextToText`.

    dtype: of its weights and activations. image_size: side of the square image that a model of
        another class than LLaVA is given; its own processor goes on from there.
    """

    model: str = Field(default=RELEASED, min_length=1)
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    image_size: int = Field(default=384, ge=16)


class Gallery:
    """A released model as the encoder of gallery images, for `bench.features`' cache."""

    def __init__(self, method: InstructCIR) -> None:
        self._method = method
        self.label = method.config.model
        self.dim = method.dim
        self.transform = method.transform

    @cached_property
    def digest(self) -> str:
        """Of weights, dtype and prompt; the image preprocessing is among the weights' files."""
        config = self._method.config
        told = f"{weights.digest(config.model)}:{config.dtype}:{GALLERY}:{config.image_size}"
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the features go."""
        return self._method.backbone.device

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) -> unit-norm float32 features (B, dim)."""
        return self._method.image(pixels)


class InstructCIR(Method):
    """Evaluates released InstructCIR weights by the released code's prompts and pooling.

    The study's backbone takes no part. The weights are loaded at the first image or text.
    """

    name = "instructcir"
    paper = (
        "Compositional Image Retrieval via Instruction-Aware Contrastive Learning "
        "(arXiv 2412.05756)"
    )
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed", "image_text"})
    trains = False
    pixels = True
    inferred: ClassVar[tuple[str, ...]] = (
        "captions in image-text retrieval are read without an instruction, in the chat format",
        "models of another class than LLaVA: their own chat template and image processing",
    )
    Config = InstructCIRConfig

    def __init__(self, config: InstructCIRConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.config = config
        self._llava, self._processor = weights.config_and_processor(config.model)
        # None: another class, read through its own processor.
        self.words: Words | None = None
        if self._llava.model_type == "llava":
            self.words = chat_words(self._processor, self._llava)

    @classmethod
    def weights_digest(cls, config: MethodConfig) -> str | None:
        """Of the folder's or the hub snapshot's files."""
        assert isinstance(config, InstructCIRConfig)
        return weights.digest(config.model)

    @property
    def dim(self) -> int:
        """Width of the language model."""
        return int(self._llava.get_text_config().hidden_size)

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """The processor's own (LLaVA: plain CLIP preprocessing, no targetpad), or a square."""
        if self.words is None:
            return partial(generic.square, side=self.config.image_size)
        processor = self._processor.image_processor

        def pixels(image: Image.Image) -> Tensor:
            found: Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
            return found

        return pixels

    @property
    def frozen_gallery(self) -> Encoder:
        """The gallery prompt's embeddings, kept on disk."""
        return Gallery(self)

    def image(self, images: Tensor) -> Tensor:
        """Gallery images: pixels (B, 3, H, W), or features (B, D) that are encoded already."""
        if images.ndim == 2:
            return images
        return self._read([GALLERY] * len(images), images)

    def text(self, texts: Sequence[str]) -> Tensor:
        """Captions alone: (N, D) unit-norm."""
        return self._read(texts, None)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Reference pixels (B, 3, H, W) with instructions: (B, D) unit-norm."""
        return self._read([query_prompt(text) for text in texts], images)

    @torch.no_grad()
    def _read(self, prompts: Sequence[str], pixels: Tensor | None) -> Tensor:
        device = self.backbone.device
        model = _loaded(
            self.config.model, weights.digest(self.config.model), self.config.dtype, device
        )
        found = []
        for start in range(0, len(prompts), BATCH):
            part = slice(start, start + BATCH)
            own = None if pixels is None else pixels[part]
            if self.words is None:
                found.append(generic.last_states(model, self._processor, prompts[part], own))
                continue
            states = None if own is None else patches(model, own.to(device))
            found.append(last_state(model, self.words.rows(prompts[part], device), states))
        return nn.functional.normalize(torch.cat(found), dim=-1)


@lru_cache(maxsize=1)
def _loaded(model: str, digest: str, dtype: str, device: torch.device) -> Any:
    """The model with these weights, shared by the cells of a process."""
    return weights.load(model, dtype, device)
