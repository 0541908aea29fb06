"""Published numbers beside ours, and the gap where the same was measured.

A published number stands beside a row of a board when method, options, dataset, protocol, shots and
metric agree. On the same backbone, split and real images the difference is a reproduction gap. A
study that says `reproduces: [SOURCE]` has the number shown on another backbone or split too, marked
as not comparable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.frames import TABLE, label_of
from results.published import UNSTATED, published

GAP_COLUMNS = (
    *TABLE,
    "label",
    "shots",
    "metric",
    "ours",
    "half_width",
    "published",
    "gap",
    "same_backbone",
    "same_protocol",
    "comparable",
    "source",
    "address",
    "second_hand",
    "note",
    "their_method",
    "their_backbone",
)
SYNTHESISED = "synthesised images"
"""What a record's notes say where the images were drawn by the program, for trials."""

Series = tuple[str, str, str, str, str, str, int]
Options = dict[Series, Mapping[str, Any]]
"""Options of the rows that have a published counterpart, by `series`."""


def series(cell: Mapping[Any, Any]) -> Series:
    """Which row of a board a record's cell, or the board's own row, belongs to."""
    names = ("dataset", "task", "backbone", "method", "variant", "trained_on")
    dataset, task, backbone, method, variant, origin = (str(cell.get(n) or "") for n in names)
    return dataset, task, backbone, method, variant, origin, int(cell["shots"])


def options_of(
    records: Iterable[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]] | None = None
) -> Options:
    """The options of the records whose method and dataset have a published number.

    expected: the study's cells, under whose names a record stands (see `absent.restrict`).
    """
    known = published()
    named = {cell["key"]: cell for cell in expected or ()}
    pairs = set(zip(known["method"], known["dataset"], strict=True))
    found: Options = {}
    for record in records:
        cell, config = record["cell"], record["identity"].get("config")
        if (cell["method"], cell["dataset"]) in pairs and isinstance(config, Mapping):
            found[series({**cell, **named.get(record["key"], {})})] = config
    return found


def declared(expected: Sequence[Mapping[str, Any]] | None) -> frozenset[str]:
    """Codes of the sources that the cells' study reproduces (`reproduces:`), from its plan."""
    return frozenset(code for cell in expected or () for code in cell.get("reproduces", ()))


def gaps(
    board: pd.DataFrame,
    options: Options | None = None,
    reproduces: frozenset[str] = frozenset(),
) -> pd.DataFrame:
    """`GAP_COLUMNS`, one row for each published number beside a row of `tables.leaderboard`.

    All numbers are fractions; `gap` is ours - published. It is a reproduction gap where it is
    `comparable`; elsewhere `note` begins with what stands against that. Rows of another backbone
    or split, or of drawn images, are there only for sources in `reproduces` (`declared`). Ablations
    and cells without a number have none.

    options: `options_of` the records; without them `note` says that options were not compared.
    """
    rows = [
        row
        for pair in _pairs(board).to_dict("records")
        if (row := _row(pair, options, reproduces)) is not None
    ]
    frame = pd.DataFrame(rows, columns=list(GAP_COLUMNS))
    frame = frame.astype(
        dict.fromkeys(("same_backbone", "same_protocol", "comparable", "second_hand"), bool)
    )
    order = [*TABLE, "label", "shots", "metric", "source", "their_method", "their_backbone"]
    return frame.sort_values(order, kind="stable", ignore_index=True)


_SAME = ["method", "dataset", "protocol", "trained_on", "metric"]


def _pairs(board: pd.DataFrame) -> pd.DataFrame:
    """Rows of the board that have a number, with each published one of equal names and shots."""
    ours = board[board["mean"].notna() & (board["ablation_of"] == "")]
    theirs = published().rename(
        columns={
            "backbone": "wanted_backbone",
            "task": "wanted_task",
            "shots": "wanted_shots",
            "value": "published",
            "note": "remark",
        }
    )
    both = ours.merge(theirs[theirs["method"] != ""], on=_SAME)
    wanted = both["wanted_shots"]
    return both[(wanted == UNSTATED) | (wanted == both["shots"])]


def _row(
    pair: dict[Any, Any], options: Options | None, reproduces: frozenset[str]
) -> dict[str, Any] | None:
    """One row of the gaps; None: the two are of other options, or not comparable."""
    same_backbone = pair["backbone"] == pair["wanted_backbone"]
    same_protocol = pair["task"] == pair["wanted_task"]
    against = []
    if not same_backbone:
        against.append("other backbone: not comparable")
    if not same_protocol:
        against.append(f"other split ({pair['their_split']}): not comparable")
    if SYNTHESISED in pair["notes"]:
        against.append(f"{SYNTHESISED}: not comparable")
    if against and pair["source"] not in reproduces:
        return None
    if pair["oracle"]:
        against.append("options chosen on the scored split")
    if pair["options"]:
        ours = None if options is None else options.get(series(pair))
        wanted = json.loads(pair["options"])
        if ours is None:
            against.append("options not compared")
        elif any(name not in ours or ours[name] != value for name, value in wanted.items()):
            return None
    return {
        **{name: pair[name] for name in GAP_COLUMNS if name in pair},
        "label": label_of(pair),
        "ours": pair["mean"],
        "gap": pair["mean"] - pair["published"],
        "same_backbone": same_backbone,
        "same_protocol": same_protocol,
        "comparable": not against,
        "note": "; ".join([*against, *([pair["remark"]] if pair["remark"] else [])]),
    }
