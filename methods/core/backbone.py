"""Frozen backbones: any open_clip model, by hub tag, by local checkpoint, or the embedded default.

The backbone is no part of a method's parameters: it is never trained, sharded or saved with a
record; its digest is part of the record's identity instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from methods.core.device import Precision, autocast
from methods.core.frozen_texts import FrozenTexts
from methods.core.text_tower import TextTower
from methods.core.vision_tower import VisionTower

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
DEFAULT = "openmoji-vit"


class BackboneError(ValueError):
    """The backbone cannot be loaded as asked; the message says what to change."""


class BackboneSpec(BaseModel):
    """Which frozen model: `openmoji-vit`, or an open_clip model with exactly one weight source.

    model: open_clip's config name (for instance "ViT-B-32-quickgelu"), or "openmoji-vit".
    pretrained: a hub tag of that model (needs a network or a filled cache).
    checkpoint: path of a local weights file (safetensors, or a torch file read weights-only).
    random_seed: random weights, for tests of shapes and speed.
    precision: of the matrix products when images and plain texts are encoded once, frozen. Features
        are float32 whatever it is, and scores are computed in float32. Prompts that are learned
        follow `training.precision`.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    model: str = DEFAULT
    pretrained: str | None = None
    checkpoint: str | None = None
    random_seed: int | None = Field(default=None, ge=0)
    precision: Precision = "fp32"

    @model_validator(mode="after")
    def _one_source(self) -> BackboneSpec:
        given = [v for v in (self.pretrained, self.checkpoint, self.random_seed) if v is not None]
        if self.model == DEFAULT and given:
            raise ValueError(f"{DEFAULT} has its weights in the package; give no other source")
        if self.model != DEFAULT and len(given) != 1:
            raise ValueError(
                f"{self.model}: give exactly one of pretrained, checkpoint and random_seed"
            )
        if self.model != DEFAULT and open_clip.get_model_config(self.model) is None:
            raise ValueError(
                f"{self.model} is no open_clip model; see `open_clip.list_models()`, for instance "
                "ViT-B-32-quickgelu"
            )
        return self

    @property
    def label(self) -> str:
        """Short name for tables."""
        source = self.pretrained or (Path(self.checkpoint).stem if self.checkpoint else None)
        if self.random_seed is not None:
            source = f"random-{self.random_seed}"
        half = None if self.precision == "fp32" else self.precision
        return "/".join(part for part in (self.model, source, half) if part)


class Backbone:
    """A frozen CLIP-like model in eval mode, with its tokenizer and image transform.

    dim: size D of the joint space. logit_scale: exp of the model's own, a float.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        model: nn.Module,
        tokenizer: Any,
        transform: Callable[[Image.Image], Tensor],
        transform_name: str,
    ) -> None:
        self.spec = spec
        self.model = model.eval().requires_grad_(False)
        self.transform = transform
        self.transform_name = transform_name
        self._tokenizer = tokenizer
        self.logit_scale = float(cast(Tensor, model.logit_scale).exp())
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._compiled_shape: torch.Size | None = None

    @cached_property
    def text(self) -> TextTower:
        """The text tower, run from embeddings."""
        return TextTower(self.model, self._tokenizer, self.spec.label, self.precision)

    @cached_property
    def text_features(self) -> FrozenTexts:
        """Unit-norm features (N, D) of a list of texts by the frozen tower, encoded once."""
        return FrozenTexts(self)

    @cached_property
    def vision(self) -> VisionTower:
        """The vision tower, run from its patches. Raises ValueError where it is no plain ViT."""
        return VisionTower(self.model, self.spec.label)

    @cached_property
    def dim(self) -> int:
        """Size of the joint space."""
        return int(self.text.encode_texts(["a"]).shape[1])

    @property
    def label(self) -> str:
        """Short name for tables."""
        return self.spec.label

    @property
    def precision(self) -> Precision:
        """Of the matrix products in frozen encoding."""
        return self.spec.precision

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @cached_property
    def digest(self) -> str:
        """sha256 over names, shapes and bytes of all weights, and what is done with them.

        That is the image transform, the model's configuration (the same weights with another
        activation or tokenizer are another backbone) and a precision other than fp32.
        """
        config = open_clip.get_model_config(self.spec.model)  # the default's is in its transform's
        told = f"{self.transform_name}{json.dumps(config, sort_keys=True)}"
        sha = hashlib.sha256(told.encode())
        if self.precision != "fp32":
            sha.update(f"encoded in {self.precision}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return sha.hexdigest()

    def to(self, device: str | torch.device) -> Backbone:
        """Move the weights; returns self."""
        self.model.to(device)
        return self

    def compile(self) -> Backbone:
        """Run `encode_pixels` through torch.compile from now on; returns self.

        One shape is compiled, that of the first batch (all but a dataset's last one have it);
        others run as before. Rounding differs. It needs a compiler, and is meant for GPUs.
        """
        self._compiled = torch.compile(cast(Any, self.model).encode_image, dynamic=False)
        self._compiled_shape = None
        return self

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Transformed images (B, 3, H, W) -> unit-norm float32 features (B, D)."""
        encode = cast(Any, self.model).encode_image
        if self._compiled is not None:
            self._compiled_shape = self._compiled_shape or pixels.shape
            encode = self._compiled if pixels.shape == self._compiled_shape else encode
        with autocast(self.device, self.precision):
            features = encode(pixels.to(self.device))
        return nn.functional.normalize(features.float(), dim=-1)


def load_backbone(spec: BackboneSpec, device: str = "cpu") -> Backbone:
    """Load a backbone.

    Raises:
        BackboneError: weights missing or not fitting, or weights trained with QuickGELU asked
            for with a plain GELU config (open_clip only warns, and every score drops).
    """
    if spec.model == DEFAULT:
        return _load_default(spec).to(device)
    _refuse_gelu_mismatch(spec)
    if spec.random_seed is not None:
        torch.manual_seed(spec.random_seed)
    if spec.checkpoint is not None and not Path(spec.checkpoint).is_file():
        raise BackboneError(f"{spec.checkpoint}: no such checkpoint file")
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            spec.model, pretrained=spec.pretrained or spec.checkpoint, weights_only=True
        )
    except Exception as error:
        raise BackboneError(
            f"backbone {spec.label}: {error}. Without a network, give `checkpoint: FILE` with "
            "weights fetched elsewhere"
        ) from error
    tokenizer = open_clip.get_tokenizer(spec.model)
    return Backbone(spec, model, tokenizer, transform, repr(transform)).to(device)


def _refuse_gelu_mismatch(spec: BackboneSpec) -> None:
    if spec.pretrained is None:
        return
    pretrained = open_clip.get_pretrained_cfg(spec.model, spec.pretrained)
    config = open_clip.get_model_config(spec.model) or {}
    trained_with_quick_gelu = spec.pretrained == "openai" or pretrained.get("quick_gelu", False)
    if trained_with_quick_gelu and not config.get("quick_gelu", False):
        raise BackboneError(
            f"backbone {spec.label}: these weights were trained with QuickGELU, the config "
            f"{spec.model} has plain GELU; use model: {spec.model}-quickgelu"
        )


def default_config() -> dict[str, Any]:
    """Model and preprocessing config of the embedded default (`weights/openmoji-vit.json`)."""
    return cast(dict[str, Any], json.loads((WEIGHTS / f"{DEFAULT}.json").read_text()))


def expand_tokens(state: Mapping[str, Tensor], vocabulary: int) -> dict[str, Tensor]:
    """Shipped weights -> a full state dict: float32, zero rows for tokens that are not stored."""
    full = {k: v.float() for k, v in state.items() if not k.startswith("token_embedding.")}
    rows, ids = state["token_embedding.rows"].float(), state["token_embedding.ids"]
    table = torch.zeros(vocabulary, rows.shape[1])
    table[ids] = rows
    return {**full, "token_embedding.weight": table}


def _load_default(spec: BackboneSpec) -> Backbone:
    config = default_config()
    model = open_clip.model.CLIP(**config["model_cfg"])
    state = load_file(WEIGHTS / f"{DEFAULT}.safetensors")
    model.load_state_dict(expand_tokens(state, config["model_cfg"]["text_cfg"]["vocab_size"]))
    preprocess = open_clip.transform.PreprocessCfg(**config["preprocess_cfg"])
    transform = open_clip.transform.image_transform_v2(preprocess, is_train=False)
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    return Backbone(spec, model, tokenizer, transform, json.dumps(config, sort_keys=True))
