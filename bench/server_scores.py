"""The numbers that a test server sends back, read from `NAME=VALUE` and checked for plausibility.

CIRR's server divides by 4150, not by the 4148 queries of test1: its file has two keys more,
"version" and "metric" (inferred: every number published from it is a multiple of 1/4150).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from data_recipes.core.model import DataError
from data_recipes.core.protocol import protocol

_RECALL = re.compile(r"(recall|r)(_?(subset|s))?@\d+", re.IGNORECASE)
QUERIES = 4148


def read_scores(texts: Sequence[str]) -> dict[str, Decimal]:
    """`Recall@1=35.28` as name -> value, as printed; a sign of percent is dropped.

    Raises:
        DataError: no such form, a name twice, or a value outside 0 to 100.
    """
    scores: dict[str, Decimal] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise DataError(f"--score {text!r}: expected NAME=VALUE, for instance Recall@1=35.28")
        if name in scores:
            raise DataError(f"--score: {name!r} is given twice")
        try:
            scores[name] = Decimal(value.removesuffix("%"))
        except InvalidOperation:
            raise DataError(f"--score {text!r}: {value!r} is no number") from None
        if not (scores[name].is_finite() and 0 <= scores[name] <= 100):
            raise DataError(f"--score {text!r}: expected a value from 0 to 100")
    return scores


def implausible(protocol_name: str, split: str, scores: dict[str, Decimal]) -> list[str]:
    """A warning for each score that CIRR's server cannot have printed; none for other servers.

    A value of at most 1 is taken for a fraction, one above for percent.
    """
    if not protocol_name.startswith("cirr") or split != "test1":
        return []
    keys = QUERIES + protocol("cirr-server/1").extra_queries
    return [
        f"{name}={value} is no multiple of 1/{keys}, as all numbers of CIRR's test server are; is "
        "it copied right, and from test1?"
        for name, value in scores.items()
        if _RECALL.fullmatch(name) and not _multiple(value, keys)
    ]


def _multiple(value: Decimal, keys: int) -> bool:
    """Whether some whole number of hits over `keys`, rounded as `value` is, gives `value`."""
    scale = 1 if value <= 1 else 100
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # `read_scores` lets finite numbers through only
    half = Decimal(10) ** exponent / 2 + Decimal("1e-9")
    hits = min(QUERIES, int((value * keys / scale).to_integral_value()))
    return abs(Decimal(scale * hits) / keys - value) <= half
