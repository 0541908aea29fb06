"""The command that scores prediction files of any system."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from data_recipes.core.model import DataError


class Absent(StrEnum):
    """What becomes of queries without a prediction."""

    REFUSE = "refuse"
    LEAVE_OUT = "leave-out"
    MISS = "miss"


class Reference(StrEnum):
    """What becomes of each query's reference image, against the protocol's rule."""

    KEEP = "keep"
    REMOVE = "remove"


def evaluate(
    protocol: Annotated[str, typer.Option(help="For instance circo, cirr-soft or cirr/1.")],
    annotations: Annotated[list[Path], typer.Option(help="Official annotation file.")],
    predictions: Annotated[
        list[Path], typer.Option(help="Ranked ids (.json) or similarities (.npy, .safetensors).")
    ],
    gallery: Annotated[
        list[Path] | None, typer.Option(help="Split file, or list of all images.")
    ] = None,
    subset: Annotated[Path | None, typer.Option(help="CIRR's recall_subset file.")] = None,
    missing: Annotated[
        Absent | None,
        typer.Option(help="Queries without a prediction; default: the protocol's own rule."),
    ] = None,
    reference: Annotated[
        Reference | None,
        typer.Option(help="Keep or remove each query's reference, against the protocol's rule."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result here (JSON).")] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Run folder that gets a record, so that the leaderboard shows it."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="With --record: the system's name.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="With --record: its backbone, as tables call it.")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, help="With --record.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="With --record.")] = 0,
    origin: Annotated[str, typer.Option(help="With --record: where it is from, for a note.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Metrics by name, as fractions.")] = False,
) -> None:
    """Score predictions by an official protocol.

    Several sets (FashionIQ's categories, GeneCIS' tasks) are given by repeating the options in the
    same order; their mean is printed too.

    With --record the result enters a run's leaderboard, as a row of its own.

    Example: `promptgrid evaluate --protocol circo --annotations val.json --predictions mine.json`
    """
    from bench.evaluate import Files
    from bench.evaluate import evaluate as score
    from bench.external import System, record_of
    from results.atomic import write_whole
    from results.store import RecordStore

    if record is not None and reference is not None:
        raise DataError("--record takes official results only; leave --reference out")
    if record is not None and (method is None or backbone is None):
        raise DataError("--record needs --method NAME and --backbone NAME, the row's labels")
    galleries: list[Path] | list[None] = gallery or [None] * len(annotations)
    if len({len(annotations), len(predictions), len(galleries)}) > 1:
        raise DataError(
            f"{len(annotations)} --annotations, {len(predictions)} --predictions and "
            f"{len(galleries)} --gallery; give one of each for every set"
        )
    files = [
        Files(a, p, g, subset) for a, p, g in zip(annotations, predictions, galleries, strict=True)
    ]
    found = score(
        protocol,
        files,
        missing.value if missing is not None else None,
        reference=reference.value if reference is not None else None,
    )
    text = json.dumps(found.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    if out is not None:
        write_whole(out, f"{text}\n".encode())
    if record is not None and method is not None and backbone is not None:
        system = System(method, backbone, shots, seed, origin)
        made = record_of(found, system, predictions)
        stored = RecordStore(record).write(made, found.queries)
        if not as_json:
            what = "recorded" if stored else "recorded already"
            typer.echo(f"{what} in {record}; see it with `promptgrid report {record}`")
    if as_json:
        typer.echo(text)
        return
    table = Table("metric", "value", title=found.protocol)
    for name, value in found.metrics.items():
        table.add_row(name, "no query" if value is None else f"{value:.6f}")
    console = Console(soft_wrap=True)
    console.print(table)
    ties = "" if found.tie_rate is None else f", tie rate {found.tie_rate:.4f}"
    for name, value in (found.pessimistic or {}).items():
        if value != found.metrics[name]:
            console.print(f"pessimistic: {name} {value:.6f}")
    console.print(f"{found.n} queries scored, {found.missing} without a prediction{ties}")
    for note in found.notes:
        console.print(f"note: {note}", markup=False)
