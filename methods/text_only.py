"""Composed retrieval by the modification text alone (the field's control)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from data_recipes.core.model import TaskKind
from methods.core.contract import Method


class TextOnly(Method):
    """The query is the modification text's feature; the reference image is ignored."""

    name = "text-only"
    paper = "control, e.g. Pic2Word (arXiv 2302.03084), table 1"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"composed"})
    trains = False

    def text(self, texts: Sequence[str]) -> Tensor:
        """Plain text features: (N, D) unit-norm."""
        return self.backbone.text_features(texts)

    def compose(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """The text features: (B, D) unit-norm."""
        return self.text(texts)
