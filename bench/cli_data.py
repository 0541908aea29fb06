"""The commands about datasets: build, check, list and show."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from bench.cli_lists import show
from data_recipes.core.manifest import MANIFEST, Manifest, read_manifest
from data_recipes.core.model import DataError
from data_recipes.core.recipe import Recipe

SHARDS = Path("shards")
data_app = typer.Typer(no_args_is_help=True, help="Build, check and list datasets.")

Out = Annotated[Path, typer.Option(help="Folder of the built datasets, one folder each.")]
AsJson = Annotated[bool, typer.Option("--json")]


@data_app.command("build")
def data_build(
    names: Annotated[list[str], typer.Argument(help="Datasets; `promptgrid datasets` lists them.")],
    annotations: Annotated[
        Path | None, typer.Option(help="Your folder of the official annotation files.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Your folder of the images.")] = None,
    out: Out = SHARDS,
    image_size: Annotated[
        int | None, typer.Option(help="Store images smaller: the shorter side in pixels.")
    ] = None,
    pad: Annotated[
        str | None, typer.Option(help="Padding when read: none, square or target-1.25.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split; may be given again.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the dataset: key=value.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Another name for what is built.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Build without images that cannot be read.")
    ] = False,
    synthesise: Annotated[
        bool,
        typer.Option("--synthesise", help="Draw pictures in place of your images, for a trial."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read images; default: all cores.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again what is there.")] = False,
) -> None:
    """Build datasets into webdataset shards; the same command continues an interrupted build.

    Example: `promptgrid data build openmoji-roles --out shards --set size=128 --name roles-128`

    From files of yours: `promptgrid data build circo --annotations DIR --images DIR`
    """
    from bench.data_options import BuildFlags, configured
    from data_recipes.core.build import plain_name
    from data_recipes.core.registry import recipes

    flags = BuildFlags(annotations, images, image_size, pad, split or (), setting or (), synthesise)
    if name is not None:
        if len(names) > 1:
            raise DataError("--name names one dataset; build the others by commands of their own")
        if not plain_name(name):
            raise DataError(f"--name {name}: use letters, digits, '.', '_' and '-'")
        if name != names[0] and name in recipes():
            raise DataError(f"--name {name}: is the name of another dataset; choose a new one")
    todo: list[tuple[Path, Recipe]] = []
    there, errors = [], []
    for each in names:
        try:
            recipe = configured(each, flags)
            folder = out / (name or recipe.name)
            if (folder / MANIFEST).is_file() and not force:
                there.append(_built_already(folder, recipe))
            else:
                todo.append((folder, recipe))
        except DataError as error:
            errors.append(str(error))
    if errors:
        raise DataError("\n".join(errors))
    console = Console(soft_wrap=True)
    for line in there:
        console.print(Text(line))
    for folder, recipe in todo:
        build(recipe, folder, console, allow_missing, workers)


def build(
    recipe: Recipe,
    folder: Path,
    console: Console,
    allow_missing: bool = False,
    workers: int | None = None,
) -> None:
    """Build one dataset, show how it goes, and say what came of it."""
    from bench.build_progress import shown
    from data_recipes.core.build import build_dataset

    try:
        with shown(console, folder.name) as progress:
            manifest = build_dataset(
                recipe,
                folder,
                name=folder.name,
                allow_missing=allow_missing,
                workers=workers or len(os.sched_getaffinity(0)),
                progress=progress,
            )
    except KeyboardInterrupt:
        console.print(
            f"interrupted; what is finished of {folder} is kept, the same command continues"
        )
        raise typer.Exit(130) from None
    lines = [f"built {folder}: {_counts(manifest)}, digest {manifest.digest[:12]}"]
    lines += [f"  warning: {line}" for line in manifest.warnings]
    lines += [f"  {manifest.attribution}"] if manifest.attribution else []
    console.print(Text("\n".join(lines)))


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
def data_list(out: Out = SHARDS, as_json: AsJson = False) -> None:
    """List the built datasets.

    Example: `promptgrid data list`
    """
    rows: list[dict[str, Any]] = []
    warnings = []
    for path in sorted(out.glob(f"*/{MANIFEST}")):
        manifest = read_manifest(path.parent)
        warnings += [f"{manifest.name}: warning: {line}" for line in manifest.warnings]
        rows.append(
            {
                "dataset": manifest.name,
                "images": manifest.images,
                "missing": len(manifest.missing),
                "tasks": [f"{t.name} ({t.protocol})" for t in manifest.tasks],
                "licence": manifest.licence,
                "digest": manifest.digest[:12],
                **({"warnings": manifest.warnings} if as_json else {}),
            }
        )
    if not rows and not as_json:
        typer.echo(f"{out}: nothing is built there; see `promptgrid data build --help`")
        return
    show(rows, as_json)
    if warnings and not as_json:
        Console(soft_wrap=True).print(Text("\n".join(warnings)))


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="A built dataset.")],
    out: Out = SHARDS,
    as_json: AsJson = False,
) -> None:
    """Show one built dataset: tasks, parts, counts, licence, options, what is missing.

    Example: `promptgrid data show openmoji-roles`
    """
    manifest = read_manifest(out / name)
    if as_json:
        typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False))
        return
    origin = "" if manifest.recipe == manifest.name else f", made by {manifest.recipe}"
    options = ", ".join(f"{k}={v}" for k, v in sorted(manifest.config.items())) or "none"
    lines = [
        f"{manifest.name} (recipe version {manifest.recipe_version}{origin})",
        f"images: {_counts(manifest)}, {len(manifest.shards)} shard(s)",
        f"digest: {manifest.digest}",
        f"options: {options}",
        f"licence: {manifest.licence}",
        f"attribution: {manifest.attribution or 'none'}",
        f"source: {manifest.source or 'unknown'}",
        *(f"warning: {line}" for line in manifest.warnings),
        *(f"missing: {m.id}: {m.path or 'no file'}: {m.reason}" for m in manifest.missing[:20]),
    ]
    if len(manifest.missing) > 20:
        lines.append(f"missing: ... and {len(manifest.missing) - 20} more (--json has them all)")
    Console(soft_wrap=True).print(Text("\n".join(lines)))
    show(
        [
            {
                "task": task.name,
                "protocol": task.protocol,
                "part": part.name,
                "use": "train" if task.trains and number == 0 else "evaluate",
                "queries": part.queries,
                "candidates": part.candidates,
                "groups": part.groups,
            }
            for task in manifest.tasks
            for number, part in enumerate(task.parts)
        ],
        as_json=False,
    )


def _counts(manifest: Manifest) -> str:
    """ "24 images", or "21 images of 24; 3 missing"."""
    missing = len(manifest.missing)
    if not missing:
        return f"{manifest.images} images"
    return f"{manifest.images} images of {manifest.images + missing}; {missing} missing"


def _built_already(folder: Path, recipe: Recipe) -> str:
    """What to say of a dataset that is there. Raises DataError where it is another one."""
    manifest = read_manifest(folder)
    wanted = {
        "recipe": recipe.name,
        "recipe version": recipe.version,
        **recipe.config.model_dump(mode="json"),
    }
    there = {
        "recipe": manifest.recipe,
        "recipe version": manifest.recipe_version,
        **manifest.config,
    }
    other = [
        f"{key} {there.get(key)!r}, not {wanted.get(key)!r}"
        for key in sorted({*wanted, *there})
        if there.get(key) != wanted.get(key)
    ]
    if other:
        raise DataError(
            f"{folder}: built already, but otherwise: {'; '.join(other)}; --force replaces it, "
            "--name builds beside it"
        )
    return f"{folder}: built already, {_counts(manifest)} (--force builds it again)"
