"""Protocols as data: which metrics, which of them is the headline, what is averaged over what.

A protocol is named and versioned ("classification/1"); its name is part of a result's identity
and is printed beside the number. A change of what a protocol computes is a new version.
All metrics are fractions in [0, 1] and carry the names that the official code prints; the
exceptions say so (`rsum` is a sum of percentages, `medr` and `meanr` are ranks). Ties are broken
pessimistically; GeneCIS alone leaves a few of them to its official rule.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from data_recipes.core.model import DataError


@dataclass(frozen=True)
class Sum:
    """A metric made of others: `scale` times the sum of `terms`."""

    name: str
    terms: tuple[str, ...]
    scale: float


@dataclass(frozen=True)
class Harmonic:
    """A metric made of two others: their harmonic mean, 0 where one of them is 0."""

    name: str
    terms: tuple[str, str]


@dataclass(frozen=True)
class Slices:
    """The mean of `metric` over the queries that have a value in their `meta[key]`, by value."""

    metric: str
    key: str
    values: tuple[str, ...]

    def name(self, value: str) -> str:
        """The name under which a slice is reported."""
        return f"semantic_{self.metric}/{value}"


@dataclass(frozen=True)
class Protocol:
    """What is computed from the rankings.

    metrics: per query, averaged over the queries.
    statistics: of each query's best rank: "medr" (floor of the median) and "meanr".
    prefixes: (part, prefix): parts that are told apart in the metric's name ("text_R@1").
    sums: computed from the metrics above, with several sets (categories) from their means.
    harmonics: computed as the sums are; their terms may name sets ("base/accuracy").
    fold: images per fold; the result is the mean over consecutive folds. None: one fold.
    extra_queries: added to the denominator (see `cirr-server`).
    missing: what `evaluate` does by default about queries without a prediction. "leave-out" is
        the rule of the CIRR and FashionIQ scorers: the mean is over the queries that have one,
        and `n` and `missing` say so.
    consecutive: queries may only be left out at the end (CIRCO's evaluator checks that the keys
        are 0 to n-1).
    target_first_ties: the share of tied queries up to which ties go to the target, as GeneCIS'
        code does; with more of them, and in all other protocols, they go against it.
    kept: how many ids of each query's ranking, and of its subset's, are stored with a result,
        for the test servers and for error analyses; None: none.
    notes: what a reader of the number should know.
    """

    name: str
    metrics: tuple[str, ...]
    headline: str
    shots_unit: str
    statistics: tuple[str, ...] = ()
    slices: tuple[Slices, ...] = ()
    prefixes: tuple[tuple[str, str], ...] = ()
    sums: tuple[Sum, ...] = ()
    harmonics: tuple[Harmonic, ...] = ()
    fold: int | None = None
    extra_queries: int = 0
    missing: Literal["refuse", "leave-out"] = "refuse"
    consecutive: bool = False
    target_first_ties: float = 0.0
    kept: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


CIRCO_ASPECTS = (
    "cardinality",
    "addition",
    "negation",
    "direct_addressing",
    "compare_change",
    "comparative_statement",
    "statement_with_conjunction",
    "spatial_relations_background",
    "viewpoint",
)
GENECIS_TASKS = ("focus_attribute", "change_attribute", "focus_object", "change_object")
_R1_5_10 = ("R@1", "R@5", "R@10")
_MAP_AND_RECALL = tuple(f"{m}@{k}" for m in ("mAP", "Recall") for k in (5, 10, 25, 50))
_SUBSET = ("Recall_subset@1", "Recall_subset@2", "Recall_subset@3")
_CIRR = ("Recall@1", "Recall@5", "Recall@10", "Recall@50", *_SUBSET)
_CIRR_KEPT = (50, 3)
_CIRR_SUM = (Sum("Avg(R@5,Rs@1)", ("Recall@5", "Recall_subset@1"), 0.5),)
_RMEAN = (Sum("Rmean", ("mean R@10", "mean R@50"), 0.5),)
_ITR_PREFIXES = (("i2t", "text_"), ("t2i", "image_"))
_FDRD_PREFIXES = (("i2t", "i2t_"), ("t2i", "t2i_"))
_RSUM = (Sum("rsum", tuple(f"{p}{m}" for _, p in _ITR_PREFIXES for m in _R1_5_10), 100.0),)
_RANKS = ("medr", "meanr")


def _fashioniq(name: str, *notes: str) -> Protocol:
    return Protocol(
        name,
        ("R@1", "R@5", "R@10", "R@50"),
        "R@10",
        "per category",
        sums=_RMEAN,
        missing="leave-out",
        kept=(50, 0),
        notes=notes,
    )


def _genecis(name: str) -> Protocol:
    return Protocol(
        name,
        ("R@1", "R@2", "R@3"),
        "R@1",
        "per condition",
        missing="leave-out",
        target_first_ties=0.01,
    )


def _karpathy(name: str, fold: int | None, *notes: str) -> Protocol:
    return Protocol(
        name,
        _R1_5_10,
        "R@1",
        "in total",
        statistics=_RANKS,
        prefixes=_ITR_PREFIXES,
        sums=_RSUM,
        fold=fold,
        notes=notes,
    )


def _fdrd(name: str, *notes: str) -> Protocol:
    return Protocol(name, _R1_5_10, "R@1", "per class", prefixes=_FDRD_PREFIXES, notes=notes)


_FIRST_5 = "only the first 5 captions of each image are used, as in VSE++'s code"
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
        Protocol(
            "base-to-new/1",
            ("accuracy",),
            "H",
            "per class",
            harmonics=(Harmonic("H", ("base/accuracy", "new/accuracy")),),
            notes=("trained on the base classes; each part is classified among its own classes",),
        ),
        Protocol(
            "domain-generalisation/1",
            ("accuracy",),
            "accuracy",
            "per class",
            notes=("trained on ImageNet; the mean is over the shifted test sets alone",),
        ),
        Protocol("composed-multi/1", _MAP_AND_RECALL, "mAP@5", "per kind of edit"),
        Protocol("conditional/1", ("R@1", "R@2", "R@3"), "R@1", "per condition"),
        _fashioniq("fashioniq-original/1"),
        _fashioniq("fashioniq-val/1", "gallery: references and targets; the reference is removed"),
        Protocol(
            "cirr/1",
            _CIRR,
            "Recall@5",
            "in total",
            sums=_CIRR_SUM,
            missing="leave-out",
            kept=_CIRR_KEPT,
        ),
        Protocol(
            "cirr-soft/1",
            tuple(f"Recall@{k}" for k in (1, 2, 5, 10, 50, 100)) + _SUBSET,
            "Recall@5",
            "in total",
            missing="leave-out",
            kept=_CIRR_KEPT,
            notes=("credit: the best target_soft value among the first K",),
        ),
        Protocol(
            "cirr-server/1",
            _CIRR,
            "Recall@5",
            "in total",
            sums=_CIRR_SUM,
            extra_queries=2,
            missing="leave-out",
            kept=_CIRR_KEPT,
            notes=("as the test server counts: its keys 'version' and 'metric' are two misses",),
        ),
        Protocol(
            "circo/1",
            _MAP_AND_RECALL,
            "mAP@5",
            "in total",
            slices=(Slices("mAP@10", "semantic_aspects", CIRCO_ASPECTS),),
            consecutive=True,
            kept=(50, 0),
        ),
        _genecis("genecis/1"),
        *(_genecis(f"genecis-{task.replace('_', '-')}/1") for task in GENECIS_TASKS),
        _karpathy("karpathy-5k/1", None),
        _karpathy("karpathy-1k/1", 1000),
        _karpathy("karpathy-5k-first5/1", None, _FIRST_5),
        _karpathy("karpathy-1k-first5/1", 1000, _FIRST_5),
        _fdrd("fdrd/1"),
        _fdrd("fdrd-credit-identical/1", "records with the same caption are credited"),
        _fdrd("fdrd-hard/1", "each image also ranks its own hard negative captions"),
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


def newest(name: str) -> Protocol:
    """The protocol called `name`, which may lack its version: then the newest one.

    Raises:
        DataError: no such protocol; the message suggests the nearest name.
    """
    bare = name.replace("_", "-")
    versions = [p for p in PROTOCOLS if p.split("/")[0] == bare]
    if not versions:
        return protocol(bare)
    return PROTOCOLS[max(versions, key=lambda known: int(known.split("/")[1]))]
