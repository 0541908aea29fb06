"""What belongs to a whole study and to no single table: flags, costs, what has no number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from results.absent import UNKNOWN
from results.document import Block, Bullets, Code, Details, Heading, Paragraph, Text, plain_table
from results.frames import label_of
from results.stages import ABOUT, HEADER, stage_lines
from results.withheld import HOW_TO_SUBMIT
from results.wording import EMPTY, counted, decimal, known, replicate_text, shots_text


def stage_blocks(stages: pd.DataFrame) -> list[Block]:
    """From `stages.stage_cells`."""
    if stages.empty:
        return []
    table = plain_table("Stages", ABOUT, HEADER, stage_lines(stages))
    return [Heading("Stages"), table]


def flag_blocks(flags: pd.DataFrame) -> list[Block]:
    """From `collapse.flags`: runs to look at, which stay in every mean."""
    if flags.empty:
        return []
    body = [
        [
            *_coordinates(row),
            row["flag"],
            row["detail"],
            row["key"],
        ]
        for row in flags.to_dict("records")
    ]
    header = ["dataset", "method", "shots", "seed", "protocol", "backbone", "flag", "why", "key"]
    about = (
        "Runs that look collapsed (†). A run with a number is part of every mean and comparison; "
        "none is removed."
    )
    return [
        Heading("Flagged runs"),
        plain_table("Flagged runs", about, header, body, "llrrlllll"),
    ]


def absent_blocks(absent: pd.DataFrame) -> list[Block]:
    """From `absent.absent_cells`."""
    if absent.empty:
        return []
    body = [
        [
            *_coordinates(row, " (stage)" if row["stage"] else ""),
            row["status"] + (f": {row['reason']}" if row["reason"] else ""),
            row["key"],
        ]
        for row in absent.to_dict("records")
    ]
    header = ["dataset", "method", "shots", "seed", "protocol", "backbone", "state", "key"]
    failed = int((absent["status"] == "failed").sum())
    name = "Missing and failed cells"
    about = f"{len(absent) - failed} missing, {failed} failed."
    return [Heading(name), plain_table(name, about, header, body, "l" * 8)]


def withheld_blocks(withheld: pd.DataFrame) -> list[Block]:
    """From `withheld.withheld_cells`: they have no number here."""
    if withheld.empty:
        return []
    body = [
        [
            *_coordinates(row),
            str(row["n_queries"]),
            row["key"],
        ]
        for row in withheld.to_dict("records")
    ]
    header = ["dataset", "method", "shots", "seed", "protocol", "backbone", "queries", "key"]
    about: Text = (
        "The targets of these splits are not public, so no metric can be computed here. Write and "
        "check the files for the test server with ",
        Code(HOW_TO_SUBMIT),
        ", and note its answer with ",
        Code("promptgrid submit RUN_FOLDER --sent ID --score NAME=VALUE"),
        ".",
    )
    name = "Withheld targets"
    return [Heading(name), plain_table(name, about, header, body, "l" * 8)]


def variance_blocks(variance: pd.DataFrame) -> list[Block]:
    """From `variance.variance_split`, in percentage points."""
    if variance.empty:
        return []
    body = [
        [
            f"{row['dataset']}/{row['task']}",
            label_of(row),
            known(row["shots"]),
            row["metric"],
            *(decimal(100 * row[name]) for name in ("sd_draw", "sd_seed", "sd_rest")),
            str(row["draws"]),
            str(row["seeds"]),
        ]
        for row in variance.to_dict("records")
    ]
    header = [
        "dataset",
        "method",
        "shots",
        "metric",
        "SD of draws",
        "SD of seeds",
        "SD of the rest",
        "draws",
        "seeds",
    ]
    about = (
        "Standard deviations in percentage points, where a study crosses the draw of the shots "
        "with the seed of the training."
    )
    name = "Where the spread comes from"
    return [
        Heading(name),
        Details(counted(len(body), "row"), (plain_table(name, about, header, body, "llrlrrrrr"),)),
    ]


def ledger_blocks(ledger: pd.DataFrame) -> list[Block]:
    """From `tuning.tuning_ledger`: what each method was given before its numbers."""
    if ledger.empty:
        return []
    body = [
        [
            f"{row['dataset']}/{row['task']}",
            row["backbone"],
            row["method"],
            str(row["tries"]),
            str(row["records"]),
            f"{row['gpu_seconds']:,.1f}",
            f"{row['core_seconds']:,.1f}",
            row["selection"],
            row["selection_split"] or EMPTY,
        ]
        for row in ledger.to_dict("records")
    ]
    header = [
        "dataset",
        "backbone",
        "method",
        "tries",
        "records",
        "GPU seconds",
        "core seconds",
        "selection",
        "on split",
    ]
    about = (
        "Tries: different configurations and recipes of the method on this data among all stored "
        "records, ablations included; seconds: of all its records."
    )
    return [plain_table("Tuning ledger", about, header, body, "lllrrrrll")]


def overview_blocks(overview: pd.DataFrame) -> list[Block]:
    """From `overview.average_ranks`: a list, because it is no result to cite."""
    if overview.empty:
        return []
    lines: list[Text] = []
    for group, rows in overview.groupby(["backbone", "shots"], sort=True):
        backbone, shots = str(group[0]), int(str(group[1]))
        ordered = rows.sort_values(["average_rank", "label"]).to_dict("records")
        ranks = ", ".join(f"{row['label']} {row['average_rank']:.2f}" for row in ordered)
        first = ordered[0]
        critical = decimal(first["critical_difference"])
        lines.append(
            (
                f"{backbone}, {shots_text(shots)}, {counted(int(first['datasets']), 'dataset')}: "
                f"{ranks} (critical difference {critical})",
            )
        )
    return [
        Heading("Average ranks"),
        Paragraph(
            (
                "An overview only: averages hide where a method is good. Use the tables above for "
                "claims. Methods nearer than the critical difference cannot be told apart.",
            )
        ),
        Bullets(tuple(lines)),
    ]


def left_out_blocks(left_out: int) -> list[Block]:
    """How many stored records are not the study's."""
    if not left_out:
        return []
    records = counted(left_out, "stored record")
    return [Paragraph((f"{records} of other studies or older configurations left out.",))]


def is_placed(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.Series[bool]:
    """Rows that state all of `columns`; a failure may lack some, and is named in the list."""
    return (frame[list(columns)] != UNKNOWN).all(axis="columns")


def _coordinates(row: Mapping[Any, Any], suffix: str = "") -> list[str]:
    """What the rows of runs begin with: dataset, method, shots, seed, protocol, backbone."""
    return [
        f"{row['dataset']}/{row['task']}",
        label_of(row) + suffix,
        known(row["shots"]),
        replicate_text(row["draw"], row["seed"]),
        row["protocol"],
        row["backbone"],
    ]
