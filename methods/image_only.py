"""Composed retrieval by the reference image alone (the field's control)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from data_recipes.core.model import TaskKind
from methods.core.contract import Method


class ImageOnly(Method):
    """The query is the reference image's feature; the modification text is ignored."""

    name = "image-only"
    paper = "control, e.g. Pic2Word (arXiv 2302.03084), table 1"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed"})
    trains = False

    def text(self, texts: Sequence[str]) -> Tensor:
        """Plain text features, for galleries of texts: (N, D) unit-norm."""
        return self.backbone.text_features(texts)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """The image features unchanged: (B, D)."""
        return self.image(images)
