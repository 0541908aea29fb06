"""The commands about what is cached: frozen features, and mirrors of remote datasets."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from bench.cli_lists import show
from bench.cli_options import FEATURES, Cache
from data_recipes.core.model import DataError

if TYPE_CHECKING:
    from bench.cache_entries import Entry

cache_app = typer.Typer(no_args_is_help=True, help="List and evict what is cached.")

DAY_S = 24 * 3600


@cache_app.command("list")
def cache_list(
    cache: Cache = FEATURES,
    as_json: Annotated[bool, typer.Option("--json", help="Every file, with its place.")] = False,
) -> None:
    """Show what is cached: features of images and texts, and mirrors of remote datasets.

    Lists of texts are one line a backbone; --json names each.

    Example: `promptgrid cache list`
    """
    from bench.cache_entries import entries
    from data_recipes.core.remote import mirrors

    found = entries(cache)
    if as_json:
        typer.echo(json.dumps([_facts(entry) for entry in found], indent=1, ensure_ascii=False))
        return
    console = Console(soft_wrap=True)
    if found:
        show(_rows(found), as_json=False)
    else:
        console.print("nothing is cached")
    console.print(Text(f"features: {cache.resolve()}\nremote datasets: {mirrors()}"))


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "what": entry.kind,
        "dataset": entry.dataset,
        "backbone": entry.backbone,
        "rows": entry.rows,
        "bytes": entry.bytes,
        "last_used": datetime.fromtimestamp(entry.used).astimezone().isoformat(timespec="seconds"),
        "location": str(entry.paths[0].resolve()) if entry.paths else None,
    }


def _rows(found: list[Entry]) -> list[dict[str, Any]]:
    """The table's rows, lists of texts together."""
    lines: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for entry in found:
        together = entry.kind == "texts" and entry.backbone
        lines[("texts", entry.backbone or "") if together else (entry.key, entry.kind)].append(
            entry
        )
    return [
        {
            "key": group[0].key[:12] if len(group) == 1 else f"{len(group)} lists",
            "what": group[0].kind,
            "dataset": group[0].dataset or "",
            "backbone": group[0].backbone or "",
            "rows": "" if group[0].rows is None else f"{sum(e.rows or 0 for e in group):,}",
            "MB": f"{sum(e.bytes for e in group) / 1e6:.1f}",
            "last used": f"{datetime.fromtimestamp(max(e.used for e in group)):%Y-%m-%d %H:%M}",
        }
        for group in lines.values()
    ]


@cache_app.command("evict")
def cache_evict(
    keys: Annotated[
        list[str] | None, typer.Argument(help="Keys, or their beginnings, as `cache list` shows.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is cached.")] = False,
    dataset: Annotated[str | None, typer.Option(help="What is of this dataset.")] = None,
    backbone: Annotated[str | None, typer.Option(help="What is by this backbone (label).")] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="What was not used for so many days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, remove nothing.")] = False,
    cache: Cache = FEATURES,
) -> None:
    """Remove cached features and mirrors; they are made again when they are needed.

    --dataset, --backbone and --older-than may be given together: all must hold. What a living
    process computes is kept, and the exit code is 1 then.

    Example: `promptgrid cache evict --older-than 30 --dry-run`

    Example: `promptgrid cache evict --dataset openmoji-roles`
    """
    from bench.cache_entries import entries, of_keys, remove

    narrowed = dataset is not None or backbone is not None or older_than is not None
    if sum((bool(keys), everything, narrowed)) != 1:
        raise DataError(
            "say what to evict: KEY..., --all, or any of --dataset, --backbone and --older-than"
        )
    found = entries(cache)
    chosen = of_keys(found, keys) if keys else found
    if narrowed:
        chosen = _narrowed(found, dataset, backbone, older_than)
    console = Console(soft_wrap=True)
    freed = count = 0
    kept = False
    for entry in chosen:
        why = None if dry_run else remove(entry, cache)
        if why is None:
            freed, count = freed + entry.bytes, count + 1
            console.print(Text(f"{'would remove' if dry_run else 'removed'} {entry.words}"))
        else:
            kept = True
            console.print(Text(f"kept {entry.words}: {why}", style="red"))
    done = "would be removed" if dry_run else "removed"
    console.print(f"{count} of {len(found)} {done}, {freed / 1e6:.1f} MB")
    if kept:
        raise typer.Exit(1)


def _narrowed(
    found: list[Entry], dataset: str | None, backbone: str | None, older_than: float | None
) -> list[Entry]:
    """The entries for which all that is given holds. Raises DataError for unknown names."""
    for what, name, known in (
        ("dataset", dataset, {entry.dataset for entry in found}),
        ("backbone", backbone, {entry.backbone for entry in found}),
    ):
        if name is not None and name not in known:
            named = ", ".join(sorted(one for one in known if one)) or "nothing with one"
            raise DataError(f"nothing cached is of {what} {name!r}; there is: {named}")
    before = time.time() - DAY_S * (older_than or 0.0)
    return [
        entry
        for entry in found
        if (dataset is None or entry.dataset == dataset)
        and (backbone is None or entry.backbone == backbone)
        and (older_than is None or entry.used <= before)
    ]
