"""A tiny world for tests: 24 generated pictures, three tasks, and a backbone with random weights.

    dataset "tiny": 4 classes (colours), 4 training and 2 test pictures each, 16 to 32 px PNG
      classification  picture -> colour name
      image-text      train: picture -> caption; evaluated parts "i2t" (two right captions each)
                      and "t2i"
      composed        picture + "make it blue" -> the blue picture with the same number; the
                      reference is excluded

`DESCRIPTIONS` has texts for every class and every picture. Fixtures over these are in
`tests/conftest.py`: `tiny_data`, `tiny_dataset`, `tiny_backbone`.
Importing this module makes the model "tiny-clip" known to open_clip, so that `TINY_SPEC` works
wherever a backbone is named: in a study file, in a Cell, in `load_backbone`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import open_clip
from PIL import Image, ImageDraw

from data_recipes.core.images import RawImage
from data_recipes.core.model import Candidate, Query, RetrievalTask, Task
from data_recipes.core.recipe import Recipe, RecipeConfig
from methods.core.backbone import BackboneSpec

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "grey": (120,) * 3}
NUMBERS = {"train": range(4), "test": range(2)}
LOOKS = {"red": "a tomato", "green": "fresh grass", "blue": "a clear sky", "grey": "wet concrete"}
TEMPLATES = ("a {} square.", "a drawing of a {} square.")

open_clip.add_model_config(Path(__file__).with_name("tiny-clip.json"))
TINY_SPEC = BackboneSpec(model="tiny-clip", random_seed=0)


def image_id(split: str, colour: str, number: int) -> str:
    """Id of one picture; slashes and dots are in it on purpose."""
    return f"{split}/{colour}.{number}"


DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    f"{colour}_square": (
        f"a square as {colour} as {like}",
        f"a {colour} shape with four equal sides on white paper",
        f"four straight edges around the colour of {like}",
    )
    for colour, like in LOOKS.items()
} | {
    image_id(split, colour, number): (
        f"a {colour} square, number {number}, on white",
        f"something {colour} like {like} in picture {number}",
    )
    for split, numbers in NUMBERS.items()
    for colour, like in LOOKS.items()
    for number in numbers
}
"""Class name (as candidates have it) or image id -> natural-language texts, for training alone."""


def png(colour: tuple[int, int, int], number: int, size: int = 24) -> bytes:
    """A square of `colour` on white whose place and size depend on `number`."""
    image = Image.new("RGB", (size, size), "white")
    corner = 1 + 2 * (number % 4)
    ImageDraw.Draw(image).rectangle((corner, corner, corner + size // 2, size - 2), fill=colour)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def classification() -> Task:
    """Pictures -> colour names; the few-shot group is the class."""
    names = tuple(Candidate(id=colour, text=f"{colour}_square") for colour in COLOURS)

    def part(split: str) -> RetrievalTask:
        queries = tuple(
            Query(id=name, image=name, relevant=(colour,), group=colour)
            for colour in COLOURS
            for number in NUMBERS[split]
            for name in [image_id(split, colour, number)]
        )
        return RetrievalTask(split, queries, names)

    return Task(
        "classification",
        "classification",
        "classification/1",
        part("train"),
        (part("test"),),
        TEMPLATES,
    )


def image_text() -> Task:
    """Pictures <-> captions, two captions a picture in the evaluated parts."""
    train = RetrievalTask(
        "train",
        tuple(
            Query(id=name, image=name, relevant=(f"{name}#0",), group=colour)
            for colour in COLOURS
            for number in NUMBERS["train"]
            for name in [image_id("train", colour, number)]
        ),
        tuple(
            Candidate(id=f"{image_id('train', colour, number)}#0", text=_caption(colour, number, 0))
            for colour in COLOURS
            for number in NUMBERS["train"]
        ),
    )
    pictures = [(c, n, image_id("test", c, n)) for c in COLOURS for n in NUMBERS["test"]]
    captions = [(f"{p}#{v}", _caption(c, n, v), p, c) for c, n, p in pictures for v in (0, 1)]
    i2t = RetrievalTask(
        "i2t",
        tuple(Query(id=p, image=p, relevant=(f"{p}#0", f"{p}#1"), group=c) for c, _, p in pictures),
        tuple(Candidate(id=name, text=text) for name, text, _, _ in captions),
    )
    t2i = RetrievalTask(
        "t2i",
        tuple(
            Query(id=name, text=text, relevant=(p,), group=c, cluster=p)
            for name, text, p, c in captions
        ),
        tuple(Candidate(id=p, image=p) for _, _, p in pictures),
    )
    return Task("image-text", "image_text", "image-text/1", train, (i2t, t2i))


def composed() -> Task:
    """Reference picture + wanted colour -> picture; the few-shot group is the wanted colour."""

    def part(split: str) -> RetrievalTask:
        queries = tuple(
            Query(
                id=f"{reference}>{wanted}",
                image=reference,
                text=f"make it {wanted}",
                relevant=(image_id(split, wanted, number),),
                excluded=(reference,),
                group=f"to {wanted}",
            )
            for colour in COLOURS
            for number in NUMBERS[split]
            for reference in [image_id(split, colour, number)]
            for wanted in COLOURS
            if wanted != colour
        )
        gallery = tuple(
            Candidate(id=name, image=name)
            for colour in COLOURS
            for number in NUMBERS[split]
            for name in [image_id(split, colour, number)]
        )
        return RetrievalTask(split, queries, gallery)

    return Task("composed", "composed", "composed/1", part("train"), (part("test"),))


def _caption(colour: str, number: int, version: int) -> str:
    first = "a" if version == 0 else "one"
    return f"{first} {colour} square, number {number}"


class TinyConfig(RecipeConfig):
    """size: of the smallest picture, in pixels."""

    size: int = 16


class TinyRecipe(Recipe):
    """The 24 pictures and their three tasks; classification is the default task."""

    name = "tiny"
    summary = "24 generated squares"
    licence = "CC0-1.0"
    attribution = "generated by the tests"
    source = "tests/tiny.py"
    Config = TinyConfig

    def images(self) -> Iterator[RawImage]:
        """Every picture once; sizes 16 to 32 px, not all square in memory."""
        assert isinstance(self.config, TinyConfig)
        for split, numbers in NUMBERS.items():
            for colour, value in COLOURS.items():
                for number in numbers:
                    size = self.config.size + 4 * number
                    yield RawImage(
                        image_id(split, colour, number),
                        png(value, number, size),
                        "png",
                        {"colour": colour},
                    )

    def tasks(self) -> list[Task]:
        """Classification, image-text, composed."""
        return [classification(), image_text(), composed()]


class DescribedRecipe(TinyRecipe):
    """The tiny recipe with its descriptions."""

    def descriptions(self) -> dict[str, tuple[str, ...]]:
        """Of every class and picture."""
        return DESCRIPTIONS
