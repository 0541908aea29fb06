"""The command that says where a cell's time goes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bench.cli_data import SHARDS
from bench.cli_options import FEATURES, Cache, DataRoot


def profile(
    study: Annotated[Path, typer.Argument(help="Study file (YAML).")],
    cell: Annotated[
        str, typer.Option(help="Which cell: its key's beginning, or (a part of) its title.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the trace and the page; default profiles/KEY.")
    ] = None,
    data: DataRoot = SHARDS,
    cache: Cache = FEATURES,
) -> None:
    """Run one cell of a study under torch's profiler; no record is kept.

    Example: `promptgrid profile studies/ablations/coop.yaml --cell 5925a26c`
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own messages; read on import
    import torch

    from bench.plan import plan
    from bench.profile import PAGE, TRACE, page, profile_cell, select
    from bench.study import load_study
    from bench.train import Engine
    from data_recipes.core.remote import place

    root = place(data)
    loaded = load_study(study, root)
    chosen = select(plan(loaded, root, cache).cells, cell)
    options = loaded.run
    cuda = torch.cuda.is_available() if options.gpu is None else options.gpu
    torch.set_num_threads(options.threads_per_rank)
    engine = Engine(device="cuda" if cuda else "cpu", zero_stage=options.zero_stage)
    folder = out or Path("profiles") / chosen.key[:12]
    typer.echo(f"running {chosen.title}, twice")
    text = page(profile_cell(chosen, engine, folder))
    (folder / PAGE).write_text(text)
    typer.echo(f"\n{text}\nwritten: {folder / TRACE}  {folder / PAGE}")
