"""Ablations and published numbers as blocks: differences from a base, gaps to a paper."""

from __future__ import annotations

from typing import Any

import pandas as pd

from results.document import Block, Cell, Heading, Paragraph, plain_table
from results.frames import TABLE
from results.wording import (
    EMPTY,
    decimal,
    interval,
    known,
    percent,
    points,
    probability,
    with_half_width,
)

_EFFECT = (
    "Variant minus base in percentage points, paired by query and seed; p after Holm over the "
    "variants of one base, dataset and shot count. Bold: significant at 5 %."
)
_GAP = (
    "Ours minus published, in percentage points; in brackets where the two are not comparable, for "
    "the reason in the note. Published numbers mostly come without an interval; second-hand: read "
    "in a copy."
)


def ablation_blocks(effects: pd.DataFrame, names: dict[tuple[str, ...], str]) -> list[Block]:
    """From `ablations.ablation_effects`, one table per base; names: `tables.titles` by table."""
    if effects.empty:
        return [Paragraph(("No ablations among these records.",))]
    blocks: list[Block] = []
    for group, rows in effects.groupby([*TABLE, "base"], sort=True):
        *table, base = (str(value) for value in group)
        title = f"{_name(tuple(table), names)} · ablations of {base}"
        body = [_effect_line(row) for row in rows.to_dict("records")]
        header = [
            "option",
            "shots",
            "base",
            "variant",
            "difference",
            "95 % interval",
            "Holm p",
            "effect",
            "runs",
            "note",
        ]
        blocks += [Heading(title), plain_table(title, _EFFECT, header, body, "lrrrrrrrrl")]
    return blocks


def _effect_line(row: dict[Any, Any]) -> list[str | Cell]:
    return [
        row["option"],
        known(int(row["shots"])),
        percent(row["base_mean"]),
        percent(row["mean"]),
        Cell(points(row["difference"]), strong=bool(row["p_holm"] < 0.05)),
        interval(row["low"], row["high"]),
        probability(row["p_holm"]),
        decimal(row["effect"]),
        known(int(row["replicates"])),
        row["note"],
    ]


def published_blocks(
    gaps: pd.DataFrame, names: dict[tuple[str, ...], str], level: int = 2
) -> list[Block]:
    """From `gap.gaps`, one table for each table of the leaderboard that has published numbers."""
    if gaps.empty:
        return [Paragraph(("No published numbers for what these records measure.",))]
    blocks: list[Block] = []
    for group, rows in gaps.groupby(list(TABLE), sort=True):
        title = f"{_name(tuple(str(value) for value in group), names)} · published"
        body = [_gap_line(row) for row in rows.to_dict("records")]
        header = [
            "method",
            "shots",
            "metric",
            "ours",
            "published",
            "gap",
            "published as",
            "same backbone",
            "same protocol",
            "source",
            "note",
        ]
        table = plain_table(title, _GAP, header, body, "lrlrrrlllll")
        blocks += [Heading(title, level), table]
    return blocks


def _gap_line(row: dict[Any, Any]) -> list[str | Cell]:
    source = row["source"] + (" (second-hand)" if row["second_hand"] else "")
    return [
        row["label"],
        known(int(row["shots"])),
        row["metric"],
        with_half_width(row["ours"], row["half_width"]),
        percent(row["published"]),
        points(row["gap"]) if row["comparable"] else f"({points(row['gap'])})",
        f"{row['their_method']}, {row['their_backbone']}",
        _yes(row["same_backbone"]),
        _yes(row["same_protocol"]),
        Cell(source, address=row["address"]),
        row["note"] or EMPTY,
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _name(table: tuple[str, ...], names: dict[tuple[str, ...], str]) -> str:
    """The leaderboard's title; made up where it has no such table (an ablation without base)."""
    parts = (f"{table[0]}/{table[1]}", *table[2:])
    return names.get(table, " · ".join(part for part in parts if part))
