"""The model that instructcir-lite trains: a LLaVA-class one by name, or a small one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from methods.core.backbone import Backbone
from methods.instructcir import weights
from methods.instructcir.prompts import IMAGE, Words, chat_words
from methods.instructcir.small import small_llava
from methods.instructcir.vision import Vision, named

HIDDEN = 4  # of the small projector, in widths of the language model


@dataclass(frozen=True)
class Student:
    """llava: a LlavaModel without its vision tower. ret_proj: of the embedding, or None."""

    llava: Any
    words: Words
    vision: Vision
    ret_proj: nn.Linear | None


def student(model: str | None, dtype: str, pooled: bool, backbone: Backbone) -> Student:
    """The model, its words and its frozen vision.

    Raises:
        ValueError: the weights, or the backbone's towers, are not of this kind.
    """
    weights.transformers()
    if model is None:
        return _small(backbone, pooled)
    config, processor = weights.config_and_processor(model)
    if config.model_type != "llava":
        raise weights.WeightsError(
            f"{model}: model_type {config.model_type!r}; only the LLaVA class ('llava') is trained"
        )
    llava = weights.load(model, dtype, backbone.device)
    words = chat_words(processor, config)

    def transform(image: Image.Image) -> Tensor:
        pixels: Tensor = processor.image_processor(images=image, return_tensors="pt")[
            "pixel_values"
        ][0]
        return pixels

    told = named(weights.digest(model), dtype, "patches")
    width = int(config.vision_config.hidden_size)
    vision = Vision(
        told, model, transform, _taken(llava), backbone, words.image_tokens, width, pooled=False
    )
    return Student(llava, words, vision, None)


@dataclass(frozen=True)
class _Side:
    """The vision side of a LlavaModel, outside the module that is trained."""

    vision_tower: Any
    config: Any


def _taken(llava: Any) -> _Side:
    side = _Side(llava.vision_tower, llava.config)
    del llava.vision_tower
    return side


def _small(backbone: Backbone, pooled: bool) -> Student:
    tower = backbone.text
    llava = small_llava(backbone, 1 if pooled else None)
    seen = llava.config.vision_config
    count = 1 if pooled else (seen.image_size // seen.patch_size) ** 2
    vision_width, width = llava.config.vision_config.hidden_size, tower.width
    llava.multi_modal_projector = nn.Sequential(
        nn.Linear(vision_width, HIDDEN * width), nn.GELU(), nn.Linear(HIDDEN * width, width)
    )
    image = int(llava.config.image_token_index)

    def encode(prompt: str) -> list[int]:
        before, mark, after = prompt.partition(IMAGE)
        ids = tower.tokenize([f"{before}{after}"])[0]
        own: list[int] = ids[: int(tower.end(ids[None])) + 1].tolist()
        if mark:  # images stand at the front of both prompts
            own.insert(1, image)
        return own

    words = Words(encode, image, count, tower.context_length, text_length=tower.context_length)
    told = named(backbone.digest, "pooled by the tower" if pooled else "patches")
    side = _taken(llava)
    label = f"{backbone.label} (vision states)"
    vision = Vision(told, label, backbone.transform, side, backbone, count, vision_width, pooled)
    return Student(llava, words, vision, _projection(backbone))


def _projection(backbone: Backbone) -> nn.Linear | None:
    """The text tower's projection as `ret_proj`, a slot that the released code leaves unused."""
    text: Any = getattr(backbone.model, "text", backbone.model)
    projection: Any = text.text_projection
    if projection is None:
        return None
    matrix: Tensor = projection.weight.T if isinstance(projection, nn.Linear) else projection
    layer = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False)
    with torch.no_grad():
        layer.weight.copy_(matrix.T)
    layer.requires_grad_(False)
    return layer
