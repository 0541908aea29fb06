"""The command for leaderboards under version control: merge records, rebuild, check."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from data_recipes.core.model import DataError

if TYPE_CHECKING:
    from results.leaderboard import Leaderboard, Source

SHIPPED = Path("results/openmoji")


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="The leaderboard's folder.")] = SHIPPED,
    add: Annotated[
        list[Path] | None,
        typer.Option(help="A run's folder, or a leaderboard's, to merge; may be repeated."),
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="Start of the key of a record to drop.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; stands in history.jsonl.")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail on any difference.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Check also what changed since this git revision.")
    ] = None,
) -> None:
    """Rebuild a leaderboard's tables and plots from its records, or check that they are these.

    With --add, records of one or several runs (clusters) are merged first, in any order. Equal keys
    with different results are refused. A score that jumps, and a record that goes, need --reason.

    Example: `promptgrid leaderboard --check --against HEAD`

    Example: `promptgrid leaderboard --add runs/demo`
    """
    console = Console(soft_wrap=True)
    if check or against is not None:
        if add or remove or reason:
            raise DataError("--check changes nothing: leave --add, --remove and --reason out")
        _check(folder, against, console)
        return
    from results.history import lines_from, said
    from results.leaderboard import added, removed
    from results.leaderboard_check import sound
    from results.leaderboard_files import load, publish

    there = folder.is_dir() and any(folder.iterdir())
    if not there and not add:
        raise DataError(f"{folder}: no leaderboard there; make one with `--add RUN_FOLDER`")
    if there:
        found, _, _ = sound(folder)
        if found.problems:
            _print(found.problems, console)
            console.print(f"{folder}: nothing was written; `git checkout -- {folder}` restores it")
            raise typer.Exit(1)
    before = board = load(folder)
    if remove is not None:
        board = removed(board, remove, reason)
    if add:
        board = added(board, [_source(path) for path in add], reason, str(folder))
    changed = publish(board, folder)
    fresh, _ = lines_from(board.history[len(before.history) :], "")
    for line in fresh:
        console.print(said(line), markup=False, highlight=False)
    records = len(board.entries)
    console.print(f"{folder}: {records} records, {len(changed)} files changed", highlight=False)


def _source(path: Path) -> Source:
    """A run's folder with the labels of the study last run there, or another leaderboard."""
    from results.leaderboard import Source
    from results.planned import planned_cells
    from results.shipped import INDEX, ShippedRecords
    from results.store import RecordStore

    if (path / INDEX).is_file():
        return Source(str(path), ShippedRecords(path))
    if not (path / "records").is_dir():
        raise DataError(f"{path}: no records there; run a study with `--out {path}` first")
    cells = planned_cells(path)
    labels = None if cells is None else {str(cell["key"]): cell for cell in cells}
    return Source(str(path), RecordStore(path), labels)


def _check(folder: Path, against: str | None, console: Console) -> None:
    from results.leaderboard_check import check, since
    from results.leaderboard_files import load

    if not folder.is_dir():
        raise DataError(f"{folder}: no leaderboard there")
    found = check(folder)
    if against is not None:
        old = _at_revision(folder, against)
        if old is None:
            found.remarks.append(f"{against} has no {folder}: nothing to compare with")
        elif not found.problems:
            found.problems += since(old, load(folder))
        else:
            found.remarks.append(f"compared with {against} when this is mended")
    _print(found.problems, console)
    for line in found.remarks:
        console.print(line, markup=False, highlight=False)
    if found.problems:
        console.print(f"{folder}: {len(found.problems)} problem(s)", highlight=False)
        raise typer.Exit(1)
    console.print(f"{folder}: its files are what its records give", highlight=False)


def _print(problems: list[str], console: Console) -> None:
    for line in problems:
        console.print(f"- {line}", markup=False, highlight=False, style="red")


def _at_revision(folder: Path, revision: str) -> Leaderboard | None:
    """The leaderboard as a git revision has it; None where it has no such folder."""
    from results.leaderboard_files import from_texts
    from results.shipped import HISTORY, QUERIES, RECORDS

    _git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    listed = _git(folder, "ls-tree", "-r", "-z", "--name-only", revision, "./")
    names = [
        name
        for name in listed.decode().split("\0")
        if name == HISTORY or name.startswith((f"{RECORDS}/", f"{QUERIES}/"))
    ]
    if not names:
        return None
    return from_texts(
        {name: _git(folder, "show", f"{revision}:./{name}").decode("utf-8") for name in names}
    )


def _git(folder: Path, *words: str) -> bytes:
    ran = subprocess.run(["git", "-C", str(folder), *words], check=False, capture_output=True)
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip() or "no such revision"
        raise DataError(f"git {' '.join(words)} in {folder}: {said}")
    return ran.stdout
