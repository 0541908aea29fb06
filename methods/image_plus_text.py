"""Composed retrieval by the sum of image and text features (the field's first baseline)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig
from methods.core.contract import Method, TaskInfo


class ImagePlusTextConfig(MethodConfig):
    """text_weight: share of the text in the weighted sum of unit vectors."""

    text_weight: float = Field(default=0.5, ge=0, le=1)


class ImagePlusText(Method):
    """Normalised sum of normalised features: Pic2Word's variant of the three published ones."""

    name = "image-plus-text"
    paper = "control, e.g. Pic2Word (arXiv 2302.03084), table 1"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed"})
    trains = False
    Config = ImagePlusTextConfig

    def __init__(self, config: ImagePlusTextConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.text_weight = config.text_weight

    def text(self, texts: Sequence[str]) -> Tensor:
        """Plain text features: (N, D) unit-norm."""
        return self.backbone.text_features(texts)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(1 - w) * image + w * text, renormalised: (B, D)."""
        w = self.text_weight
        return nn.functional.normalize((1 - w) * self.image(images) + w * self.text(texts), dim=-1)
