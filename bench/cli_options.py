"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FEATURES = Path("shards/.features")
DataRoot = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="PROMPTGRID_DATA",
        help="Folder of the built datasets; s3:// and https:// too.",
    ),
]
Cache = Annotated[
    Path,
    typer.Option("--cache", envvar="PROMPTGRID_CACHE", help="Folder of the frozen features."),
]
