"""Protocols as data: which metrics, which of them is the headline, how ties are broken.

A protocol is named and versioned ("classification/1"); its name is part of a result's identity
and is printed beside the number. A change of what a protocol computes is a new version.
Metric names: `accuracy` (= recall@1 with one relevant class), `recall@K`, `map@K`,
`recall_subset@K`. All are fractions in [0, 1].
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from data_recipes.core.model import DataError


@dataclass(frozen=True)
class Protocol:
    """What is computed from the rankings. Ties are always broken pessimistically."""

    name: str
    metrics: tuple[str, ...]
    headline: str
    shots_unit: str


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("classification/1", ("accuracy", "recall@5"), "accuracy", "per class"),
        Protocol("image-text/1", ("recall@1", "recall@5", "recall@10"), "recall@1", "per class"),
        Protocol(
            "composed/1",
            ("recall@1", "recall@5", "recall@10", "recall@50", "map@10"),
            "recall@1",
            "per kind of edit",
        ),
    )
}


def protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        DataError: no such protocol; the message suggests the nearest name.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f" Did you mean: {near[0]}?" if near else f" Known: {', '.join(PROTOCOLS)}."
        raise DataError(f"Unknown protocol {name!r}.{hint}")
    return PROTOCOLS[name]
