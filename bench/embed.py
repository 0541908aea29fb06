"""Embedding a task's queries and candidates with a method, a batch at a time, on all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bench.gather import ALONE, gather
from bench.train import Engine
from data_recipes.core.model import Candidate, Query
from methods.core.contract import Batch

BATCH = 256
Images = Callable[[list[str]], Tensor]
Encode = Callable[[Batch], Tensor]


def embed(
    encode: Encode,
    rows: Sequence[Query | Candidate],
    images: Images,
    size: int = BATCH,
    engine: Engine = ALONE,
    everywhere: bool = False,
) -> Tensor:
    """Features (N, D) of queries or candidates, `size` at a time, in order.

    With several ranks all call it, each encodes its share (`bench.gather`), and rank 0, or with
    `everywhere` every rank, gets the result; the others get (0, D). A query with several texts
    (`meta["texts"]`, FashionIQ's SEARLE join) has the normalised mean of the features of each.

    Raises:
        ValueError: rows with and without an image (or a text) in one task, or texts that are no
            list of strings.
        OtherRankError: another rank failed.
    """
    kinds = {(row.image is not None, row.text is not None) for row in rows}
    if len(kinds) != 1:
        raise ValueError("the rows of one task must all have an image, a text, or both")
    return gather(
        lambda own: torch.cat([_encoded(encode, rows[part], images) for part in own]),
        len(rows),
        size,
        engine,
        everywhere,
    )


def _encoded(encode: Encode, rows: Sequence[Query | Candidate], images: Images) -> Tensor:
    texts = {n: _texts(row) for n, row in enumerate(rows) if "texts" in row.meta}
    if not texts:
        return encode(batch(rows, images))
    worded = [replace(row, text=texts[n][0]) if n in texts else row for n, row in enumerate(rows)]
    features = encode(batch(worded, images)).clone()
    for variant in range(1, max(map(len, texts.values()))):
        own = [n for n in texts if variant < len(texts[n])]
        worded = [replace(rows[n], text=texts[n][variant]) for n in own]
        features[own] += encode(batch(worded, images))
    several = [n for n in texts if len(texts[n]) > 1]
    features[several] = nn.functional.normalize(features[several], dim=-1)
    return features


def _texts(row: Query | Candidate) -> list[str]:
    texts = row.meta["texts"]
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"{row.id!r}: meta 'texts' must be a list of strings, not {texts!r}")
    return texts


def batch(rows: Sequence[Query | Candidate], images: Images) -> Batch:
    """Queries or candidates as a method takes them."""
    ids = [row.image for row in rows if row.image is not None]
    texts = [row.text for row in rows if row.text is not None]
    return Batch(images(ids) if ids else None, texts or None)
