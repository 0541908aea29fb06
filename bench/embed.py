"""Embedding a task's queries and candidates with a method, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from data_recipes.core.model import Candidate, Query
from methods.core.contract import Batch

BATCH = 256
Images = Callable[[list[str]], Tensor]


def embed(
    encode: Callable[[Batch], Tensor],
    rows: Sequence[Query] | Sequence[Candidate],
    images: Images,
    size: int = BATCH,
) -> Tensor:
    """Features (N, D) of queries or candidates, `size` at a time, in order.

    Raises:
        ValueError: rows with and without an image (or a text) in one task.
    """
    kinds = {(row.image is not None, row.text is not None) for row in rows}
    if len(kinds) != 1:
        raise ValueError("the rows of one task must all have an image, a text, or both")
    starts = range(0, len(rows), size)
    return torch.cat([encode(batch(rows[start : start + size], images)) for start in starts])


def batch(rows: Sequence[Query] | Sequence[Candidate], images: Images) -> Batch:
    """Queries or candidates as a method takes them."""
    ids = [row.image for row in rows if row.image is not None]
    texts = [row.text for row in rows if row.text is not None]
    return Batch(images(ids) if ids else None, texts or None)
