"""Zero-shot CLIP with hand-written templates, averaged (Radford et al. 2021, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator
from torch import Tensor, nn

from data_recipes.core.model import TaskKind
from methods.core.backbone import Backbone
from methods.core.config import MethodConfig
from methods.core.contract import Method, TaskInfo


class ZeroShotConfig(MethodConfig):
    """templates: prompts with one {}; None takes the dataset's own."""

    templates: list[str] | None = Field(default=None, min_length=1)

    @field_validator("templates")
    @classmethod
    def _one_slot(cls, templates: list[str] | None) -> list[str] | None:
        for template in templates or []:
            if template.count("{}") != 1:
                raise ValueError(f"template {template!r} needs exactly one {{}}")
        return templates


class ZeroShot(Method):
    """Each class is the normalised mean of its normalised template features.

    Captions (image-text retrieval) are encoded as they are.
    """

    name = "zero-shot"
    paper = "Radford et al., Learning Transferable Visual Models (arXiv 2103.00020)"
    tasks: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "image_text"})
    trains = False
    Config = ZeroShotConfig

    def __init__(self, config: ZeroShotConfig, backbone: Backbone, task: TaskInfo) -> None:
        super().__init__(config, backbone, task)
        self.templates = tuple(config.templates or task.templates or ("a photo of a {}.",))

    def text(self, texts: Sequence[str]) -> Tensor:
        """Class names through the templates, or captions alone: (N, D) unit-norm."""
        if self.task.kind != "classification":
            return self.backbone.text_features(texts)
        views = [template.replace("{}", text) for template in self.templates for text in texts]
        of_each = self.backbone.text_features(views).view(len(self.templates), len(texts), -1)
        return nn.functional.normalize(of_each.sum(dim=0), dim=-1)
