"""The command line: `promptgrid`. Commands import what they need, so that `--help` is quick."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from bench.cli_cache import cache_app
from bench.cli_data import SHARDS, build, data_app
from bench.cli_evaluate import evaluate
from bench.cli_leaderboard import leaderboard
from bench.cli_lists import datasets, methods
from bench.cli_options import FEATURES, Cache, DataRoot
from bench.cli_profile import profile
from bench.cli_submit import submit
from data_recipes.core.model import DataError

if TYPE_CHECKING:
    from bench.cell_spec import Cell
    from cluster.launch import Gangs
    from results.answers import Answers

app = typer.Typer(
    name="promptgrid",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    help="A benchmark harness for prompt learning and composed image retrieval.\n\n"
    "    promptgrid demo\n\n    promptgrid run studies/ablations/coop.yaml --dry-run",
)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
app.command()(methods)
app.command()(datasets)
app.command()(evaluate)
app.command()(submit)
app.command()(profile)
app.command()(leaderboard)

DEMO = Path(__file__).with_name("demo.yaml")


def main() -> None:
    """Entry point: known errors become one message and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except Exception as error:
        if _known(error) is None:
            raise
        sys.exit(tell(error))


KNOWN_ERRORS = {
    "StudyError",
    "UnknownMethodError",
    "BackboneError",
    "RecordError",
    "NotEnoughResourcesError",
}


def _known(error: BaseException) -> str | None:
    """What to tell the user; None: an error of the program."""
    if isinstance(error, DataError) or type(error).__name__ in KNOWN_ERRORS:
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; give another path or mend this one"
    return None


def tell(error: BaseException) -> int:
    """Print what ends the process: a message or a traceback. Returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    message = _known(error)
    if message is None:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {message}", style="red"))
    return 2


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the records and the report.")] = Path(
        "runs/demo"
    ),
    data: DataRoot = SHARDS,
    cache: Cache = FEATURES,
) -> None:
    """Run the embedded study on OpenMoji drawings: the whole path, without any download.

    Example: `promptgrid demo --out runs/demo`
    """
    from bench.ahead import gangs_ahead
    from bench.study_file import study_datasets
    from data_recipes.core.manifest import MANIFEST
    from data_recipes.core.registry import recipe

    console = Console(soft_wrap=True)
    for name in study_datasets(DEMO):
        if not (data / name / MANIFEST).is_file():
            build(recipe(name)(), data / name, console)
    with gangs_ahead(DEMO, out, {}, tell) as begun:
        _run(DEMO, out, data, cache, console, begun=begun)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="Study file (YAML).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the records; default runs/<study name>.")
    ] = None,
    data: DataRoot = SHARDS,
    cache: Cache = FEATURES,
    gangs: Annotated[int | None, typer.Option(min=1, help="Gangs side by side.")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="DeepSpeed ranks per cell.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join: 'auto' or host:port.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Instead of the study's: openmoji-vit, or MODEL/TAG of open_clip."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list the cells, run nothing.")
    ] = False,
) -> None:
    """Run a study, or continue it: cells with a record are never computed again.

    Example: `promptgrid run studies/ablations/coop.yaml --dry-run`
    """
    from bench.ahead import gangs_ahead

    overrides = {"gangs": gangs, "ranks_per_cell": ranks}
    console = Console(soft_wrap=True)
    alone = not dry_run and address is None
    with gangs_ahead(study, out, overrides, tell) if alone else nullcontext() as begun:
        _run(study, out, data, cache, console, overrides, address, dry_run, backbone, begun)


def _run(
    path: Path,
    out: Path | None,
    data: Path,
    cache: Path,
    console: Console,
    overrides: dict[str, Any] | None = None,
    address: str | None = None,
    dry_run: bool = False,
    backbone: str | None = None,
    begun: Gangs | None = None,
) -> None:
    from bench.live import Progression
    from bench.outline import outline, outlined
    from bench.plan import plan
    from bench.run import STATUS, run_plan
    from bench.study import backbone_of, load_study
    from data_recipes.core.remote import place
    from results.store import RecordStore

    root = place(data)
    study = load_study(path, root, built=not dry_run)
    if backbone is not None:
        study = study.model_copy(update={"backbone": backbone_of(backbone)})
    if dry_run and (found := outline(study, root)) is not None:
        console.print(Text("\n".join(outlined(study.name, found))))
        return
    options = study.run.model_copy(
        update={k: v for k, v in (overrides or {}).items() if v is not None}
    )
    out = out or Path("runs") / study.name
    planned = plan(study, root, cache)
    store = RecordStore(out)
    todo = {cell.key: cell for cell in planned.cells if not store.has(cell.key)}
    console.print(
        f"study {study.name}: {len(planned.cells)} cells, {len(planned.cells) - len(todo)} "
        f"recorded in {out}, {len(todo)} to run"
    )
    _verify_features(cache, todo.values())
    for line in planned.left_out:
        console.print(f"  left out: {line}", markup=False)
    if dry_run:
        for cell in planned.cells:
            mark = "to run  " if cell.key in todo else "recorded"
            console.print(f"  {mark} {cell.key[:12]} {cell.title}", markup=False)
        return
    titles = {key: cell.title for key, cell in todo.items()}
    progression = Progression(console, titles, out / STATUS)
    try:
        with progression.shown():
            ran = run_plan(planned, options, out, address, progression.event, begun)
    except KeyboardInterrupt:
        console.print(f"interrupted; finished cells are in {out}, the same command continues")
        sys.stdout.flush()
        os._exit(130)  # Ray's threads would hold up, or spoil, an orderly exit
    show_report(ran.answers, out, ran.files, console)
    if ran.outcome is not None and ran.outcome.gang_errors:
        for gang, error in ran.outcome.gang_errors.items():
            console.print(Text(f"{gang} was lost: {error}", style="red"))
    if ran.failures or (ran.outcome is not None and not ran.outcome.ok):
        console.print(
            Text(
                f"{len(ran.failures)} cell(s) failed; see {out}/failures. The same command tries "
                "them again.",
                style="red",
            )
        )
        raise typer.Exit(1)


def _verify_features(cache: Path, todo: Iterable[Cell]) -> None:
    """Stop here, before any training, where stored features of these cells are damaged."""
    from bench.feature_store import verify

    cells = [*todo]
    datasets = {cell.dataset_digest for cell in cells}
    datasets |= {cell.trained_on.dataset_digest for cell in cells if cell.trained_on is not None}
    for encoder in {cell.backbone_digest for cell in cells}:
        verify(cache, datasets, encoder)


def show_report(found: Answers, out: Path, files: list[Path], console: Console) -> None:
    """Print the leaderboard and where the files are."""
    from results.console import console_leaderboard, console_stages, next_lines
    from results.withheld import withheld_lines

    shown = console_leaderboard(found.board, found.standings, found.flags)
    for table in [*shown, *console_stages(found.stages)]:
        console.print()
        console.print(table)
    console.print()
    for line in withheld_lines(found.withheld):
        console.print(line, markup=False)
    for what, endings in (("tables", (".md", ".csv")), ("plots ", (".png", ".svg"))):
        folders = sorted({path.parent for path in files if path.suffix in endings})
        if folders:
            console.print(f"{what}: {'  '.join(map(str, folders))}")
    console.print(f"records: {out / 'records'}")
    for line in next_lines(out, not found.comparisons.empty):
        console.print(line, markup=False)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")] = Path("runs/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="The status file itself.")] = False,
) -> None:
    """Show how a run stands: cells done, and what each gang does now.

    Example: `promptgrid status runs/demo`
    """
    from bench.live import gang_table, phase, read_status
    from bench.run import STATUS
    from results.planned import planned_cells

    state = read_status(folder / STATUS)
    if state is None:
        raise DataError(f"{folder / STATUS}: no run was started there; see `promptgrid run --help`")
    if as_json:
        typer.echo(json.dumps(state, indent=1, sort_keys=True))
        return
    console = Console(soft_wrap=True)
    console.print(f"{folder}: {phase(state)}")
    counts = state.get("counts")
    if counts:
        console.print(", ".join(f"{number} {name}" for name, number in counts.items()))
        titles = {cell["key"]: cell["title"] for cell in planned_cells(folder) or []}
        console.print(gang_table(state, titles))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the folder.")] = None,
) -> None:
    """Rebuild tables and plots from the records of a folder; missing cells are named.

    Example: `promptgrid report runs/demo`
    """
    from results.drawing import get_ready
    from results.planned import planned_cells

    if not (folder / "records").is_dir():
        raise DataError(f"{folder}: no records there; run a study with `--out {folder}` first")
    expected, processes = planned_cells(folder), len(os.sched_getaffinity(0))
    get_ready(expected, processes)
    from results.answers import answers  # while the processes get ready
    from results.report import write_answers
    from results.store import RecordStore

    found = answers(RecordStore(folder), expected)
    files = write_answers(found, out or folder, processes)
    show_report(found, folder, files, Console(soft_wrap=True))


if __name__ == "__main__":
    main()
