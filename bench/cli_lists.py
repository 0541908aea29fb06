"""The commands about datasets and methods: build, check and list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_recipes.core.model import DataError

SHARDS = Path("shards")
data_app = typer.Typer(no_args_is_help=True, help="Build, check and list datasets.")


@data_app.command("build")
def data_build(
    names: Annotated[list[str], typer.Argument(help="Datasets, for instance openmoji-roles.")],
    out: Annotated[Path, typer.Option(help="Folder that gets one folder a dataset.")] = SHARDS,
    force: Annotated[bool, typer.Option("--force", help="Build again what is there.")] = False,
) -> None:
    """Build datasets into webdataset shards.

    Example: `promptgrid data build openmoji-roles openmoji-composed`
    """
    from data_recipes.core.manifest import MANIFEST
    from data_recipes.core.registry import recipe

    console = Console(soft_wrap=True)
    for name in names:
        recipe(name)
    for name in names:
        if (out / name / MANIFEST).is_file() and not force:
            console.print(f"{out / name}: built already (--force builds it again)")
        else:
            build(name, out, console)


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="A built dataset's folder.")],
) -> None:
    """Check a built dataset: shards, digests, every image, every task.

    Example: `promptgrid data check shards/openmoji-roles`
    """
    from data_recipes.core.dataset import check_dataset

    found = check_dataset(folder)
    if found:
        raise DataError(f"{folder}: {len(found)} problem(s)\n  " + "\n  ".join(found[:50]))
    typer.echo(f"{folder}: sound")


@data_app.command("list")
def data_list(
    out: Annotated[Path, typer.Option(help="Folder of the built datasets.")] = SHARDS,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List the built datasets.

    Example: `promptgrid data list`
    """
    from data_recipes.core.manifest import MANIFEST, read_manifest

    rows = []
    for path in sorted(out.glob(f"*/{MANIFEST}")):
        manifest = read_manifest(path.parent)
        rows.append(
            {
                "dataset": manifest.name,
                "images": manifest.images,
                "tasks": [f"{t.name} ({t.protocol})" for t in manifest.tasks],
                "licence": manifest.licence,
                "digest": manifest.digest[:12],
            }
        )
    if not rows and not as_json:
        typer.echo(f"{out}: nothing is built there; see `promptgrid data build --help`")
        return
    show(rows, as_json)


def methods(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the methods.

    Example: `promptgrid methods --json`
    """
    from methods.core.registry import registered

    rows = [
        {
            "method": name,
            "paper": kind.paper,
            "tasks": sorted(kind.tasks),
            "trains": kind.trains,
            "touches_vision": kind.touches_vision,
            "inferred": list(kind.inferred),
        }
        for name, kind in registered().items()
    ]
    show(rows, as_json)


def datasets(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the datasets that have a recipe.

    Example: `promptgrid datasets`
    """
    from data_recipes.core.registry import recipes

    rows = [
        {"dataset": name, "about": r.summary, "licence": r.licence, "source": r.source}
        for name, r in recipes().items()
    ]
    show(rows, as_json)


def build(name: str, out: Path, console: Console) -> None:
    from data_recipes.core.build import build_dataset
    from data_recipes.core.registry import recipe

    kind = recipe(name)
    with console.status(f"building {name}"):
        manifest = build_dataset(kind(), out / name)
    console.print(f"built {out / name}: {manifest.images} images, digest {manifest.digest[:12]}")
    if manifest.attribution:
        console.print(f"  {manifest.attribution}")


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table()
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*[Text(_text(value)) for value in row.values()])
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
