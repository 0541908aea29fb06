"""The commands that list methods and recipes, and how rows are shown."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


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
