"""How training sees the images of its queries: as they are, or as random crops (`augment`).

A method that reads pixels gets a fresh crop for every row and epoch; one that learns from frozen
features gets one of K crops that were encoded once. Candidates (the targets of composed retrieval)
and images without labels are never cropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.batches import Dealt
from bench.embed import Images
from bench.loaded import Data
from data_recipes.core.model import DataError, Query
from methods.core.config import Training
from methods.core.contract import Method

View = Callable[[Dealt], Images]


def as_they_are(images: Images) -> View:
    """The same look in every epoch."""
    return lambda _: images


def query_view(
    method: Method, training: Training, data: Data, queries: Sequence[Query], seed: int
) -> tuple[View, list[str]]:
    """Rows of a batch -> the function from their queries' image ids to features or pixels.

    queries: of all training pairs, in the order of their rows. Also returns notes for the record.
    All ranks call this.

    Raises:
        DataError: the recipe augments, and the queries have no images.
    """
    if training.augment == "none":
        return as_they_are(data.images(method)), []
    names = [query.image for query in queries if query.image is not None]
    if len(names) < len(queries):
        raise DataError(
            f"{data.folder}: task {data.task.name!r} has training queries without an image, and "
            "only queries' images are augmented; use augment: none"
        )
    if method.pixels:
        pixels = data.pixels(method)

        def fresh(dealt: Dealt) -> Images:
            numbers = [(dealt.epoch, row) for row in dealt.rows.tolist()]
            return lambda ids: pixels.crops(ids, seed, numbers)

        return fresh, ["trained on a fresh crop of each image in every epoch"]
    count = training.views
    views = data.views(names, seed, count)

    def kept(dealt: Dealt) -> Images:
        numbers = [view_of(dealt.epoch, row, count) for row in dealt.rows.tolist()]
        return lambda ids: views.at(ids, numbers)

    return kept, [
        f"trained on {count} cached augmented views of each image: an approximation of a fresh "
        "crop in every epoch"
    ]


def view_of(epoch: int, row: int, views: int) -> int:
    """Which of K views a row has in an epoch: all of them in turn, another one for each row.

    The views themselves are random functions of the seed, so their order need not be.
    """
    return (epoch + row) % views
