"""Options of instructcir-lite."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from methods.core.config import MethodConfig

DEFAULT_ANCHOR = 50.0
DEFAULT_RESIDUAL = (0.5, 4.0)


class InstructCIRLiteConfig(MethodConfig):
    """model: folder or hub name of LLaVA-class weights; None: a small one over the backbone.

    dtype: of the frozen weights; what is trained is float32. tune: LoRA of rank `lora_r` on
    attention and MLP, all of the language model, or nothing of it; the projector always.
    tau: temperature of both stages. mirror: add stage 2's mirrored term (image without
    instruction against the original caption; commented out in the released code).
    image_states: what of an image the small model reads: the vision tower's pooled class token,
    or LLaVA's patches of the last layer but one (always with `model`).
    residual: weights of the image's own backbone feature beside the language model's unit state, in
    a query and in a gallery image (pooled states only); None: 0.5 and 4, or 0 elsewhere.
    anchor: weight of 1 - cosine to the backbone's own features of the same captions and (stage 1)
    images, and of made-up queries, which keeps few shots from undoing what it knows (small model
    only); None: 50, or 0 with `model`. anchor_noise: spread of the made-up queries' image states.
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
    residual: tuple[float, float] | None = None
    anchor: float | None = Field(default=None, ge=0)
    anchor_noise: float = Field(default=0.7, ge=0)
    image_targets: float = Field(default=0.0, ge=0)
    gallery: Literal["model", "backbone"] = "model"
    checkpointing: bool = False

    @property
    def pooled(self) -> bool:
        """Whether an image is one pooled state."""
        return self.model is None and self.image_states != "patches"

    @property
    def residuals(self) -> tuple[float, float]:
        """`residual`, resolved: of queries, of gallery images."""
        if self.residual is not None:
            return self.residual
        return DEFAULT_RESIDUAL if self.pooled else (0.0, 0.0)

    @property
    def anchors(self) -> float:
        """`anchor`, resolved."""
        if self.anchor is not None:
            return self.anchor
        return 0.0 if self.model is not None else DEFAULT_ANCHOR

    @model_validator(mode="after")
    def _fits(self) -> InstructCIRLiteConfig:
        if min(self.residuals) < 0 or (max(self.residuals) > 0 and not self.pooled):
            raise ValueError("residual: two weights of at least 0, with pooled states only")
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
