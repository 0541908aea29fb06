"""The commands that list methods and recipes, and how rows are shown."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One method, with its options and recipe.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List the methods, or show one whole.

    Trainable parameters are counted over the embedded backbone, with the default options, for the
    first kind of task that the method does (four classes where it classifies).

    Example: `promptgrid methods`

    Example: `promptgrid methods coop --json`
    """
    from bench.method_facts import facts
    from methods.core.registry import registered

    rows = [facts(known) for known in ([name] if name is not None else registered())]
    if as_json:
        show(rows, as_json)
    elif name is None:
        show([_short(row) for row in rows], as_json)
    else:
        _whole(rows[0])


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A method in the columns of a table."""
    return {
        "method": row["method"],
        "tasks": row["tasks"],
        "trainable parameters": _parameters(row),
        "images": _images(row),
        "stage before": row["stage"]["kind"] if row["stage"] else "no",
        "paper": row["paper"],
        "inferred": row["inferred"],
    }


def _parameters(row: dict[str, Any]) -> str:
    if not row["trains"]:
        return "trains nothing"
    count = row["trainable_parameters"]
    return f"not counted: {row['not_counted']}" if count is None else f"{count:,}"


def _images(row: dict[str, Any]) -> str:
    if not row["pixels"]:
        return "cached features"
    return "pixels, changes the vision tower" if row["touches_vision"] else "pixels"


def _whole(row: dict[str, Any]) -> None:
    """A method on one page."""
    counted = f" (for {row['counted_on']})" if row["trains"] and row["counted_on"] else ""
    stage = row["stage"]
    lines = [
        *(row["method"], "", row["about"], ""),
        f"paper: {row['paper']}",
        f"tasks: {', '.join(row['tasks'])}",
        f"trainable parameters: {_parameters(row)}{counted}",
        f"images: {_images(row)}",
        *([f"stage before: on a source of kind {stage['kind']}"] if stage else []),
        *(f"inferred: {choice}" for choice in row["inferred"]),
    ]
    console = Console()
    console.print(Text("\n".join(lines)))
    if row["options"]:
        entries = [
            {
                "option": entry["option"],
                "type": entry["type"],
                "default": "must be given" if entry["required"] else _yaml(entry["default"]),
                "about": entry["about"] or "",
            }
            for entry in row["options"]
        ]
        console.print(Text("\noptions (config:)"))
        show(entries, as_json=False)
    for title, recipe in (("recipe (training:)", row["recipe"]), ("recipe of the stage", stage)):
        if recipe is not None:
            values = [f"{key}: {_yaml(value)}" for key, value in recipe.items() if key != "kind"]
            console.print(Text(f"\n{title}\n" + "\n".join(f"  {line}" for line in values)))


def _yaml(value: Any) -> str:
    """A value as it stands in a study file."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000)
    return text.removesuffix("...\n").strip()


def datasets(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the datasets that have a recipe.

    Example: `promptgrid datasets`
    """
    from data_recipes.core.registry import recipes

    rows = [
        {
            "dataset": name,
            "about": r.summary,
            "options": [*r.inputs, *r.Config.model_fields],
            "licence": r.licence,
            "source": r.source,
        }
        for name, r in recipes().items()
    ]
    show(rows, as_json)


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
