"""Running a study: plan, skip what is recorded, gangs for the rest, report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from bench.ahead import cpu_gangs
from bench.cell import CellResult, run_cell
from bench.cell_spec import Cell
from bench.ending import Ending
from bench.learned import Trained
from bench.plan import Plan
from bench.run_group import needed, of_each_cell, run_group, unit
from bench.study import RunOptions
from bench.together import groups
from bench.train import Engine
from bench.warm_up import to_warm_up, warm_up
from cluster.gang import Finish, RankContext, Summary
from cluster.launch import Gangs, Outcome, run_gangs
from cluster.status import StatusFile
from cluster.work import Work
from data_recipes.core import strict_json
from data_recipes.core.dataset import open_dataset
from data_recipes.core.remote import place
from data_recipes.core.sampler import coop_few_shot, few_shot_order
from results.atomic import write_whole
from results.planned import PLAN
from results.store import WEIGHTS_FILE, RecordStore

if TYPE_CHECKING:
    from results.answers import Answers

A_SOURCE = 64  # shots that a source counts for in the order of cells
STATUS = "status.json"


@dataclass(frozen=True)
class Ran:
    """What `run_plan` did. outcome: None when every cell was recorded already."""

    outcome: Outcome | None
    skipped: int
    failures: Mapping[str, Any]
    answers: Answers
    files: list[Path]


def run_leased(payload: dict[str, Any], context: RankContext) -> Summary | Finish:
    """Run one cell on the ranks of a gang; rank 0 stores the record while the next cell runs.

    payload: `cell` (JSON of a Cell), or `cells` that run together (`bench.run_group`), and `store`
    (folder). A cell that has a record by now (another driver's, or one that its gang could not
    acknowledge any more) is not run again.
    """
    if "cells" in payload:
        return run_group(payload, context, keep, from_record)
    cell = Cell.model_validate_json(payload["cell"])
    store = RecordStore(Path(payload["store"]))
    if _recorded(store, cell.key, context):
        return from_record(store, cell) if context.rank == 0 else None
    engine = Engine(
        rank=context.rank,
        world_size=context.world_size,
        device=context.device,
        zero_stage=cell.zero_stage,
        compile=cell.compile,
    )
    result = run_cell(cell, engine, partial(_trained_by_now, store, context))
    return None if result is None else partial(keep, store, cell, result)


def keep(store: RecordStore, cell: Cell, result: CellResult) -> dict[str, Any]:
    """Store a cell's record and then the pointer to its weights; returns the record's summary."""
    store.write(result.record, result.queries, result.weights, result.lists)
    return _announced(store, cell, result.record)


def from_record(store: RecordStore, cell: Cell) -> dict[str, Any]:
    """The summary of a cell that has a record."""
    return _announced(store, cell, store.read(cell.key))


def _announced(store: RecordStore, cell: Cell, record: Mapping[str, Any]) -> dict[str, Any]:
    if cell.training is not None:
        write_whole(_pointer(store, cell.training_key), cell.key.encode())
    return summary(record)


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the driver is told of a record: headline metric, its value, the cell's seconds."""
    headline = record["headline"]
    return {
        "metric": headline,
        "value": record["metrics"].get(headline),
        "seconds": sum(record["timings"].values()),
    }


def _recorded(store: RecordStore, key: str, context: RankContext) -> bool:
    """Whether rank 0 sees the record: a file system may tell ranks different things."""
    box = [context.rank == 0 and store.has(key)]
    if context.world_size > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def _trained_by_now(store: RecordStore, context: RankContext, training_key: str) -> Trained | None:
    """`trained_in`, asked again once the record of the cell before is stored."""
    known = trained_in(store, training_key)
    if known is None:
        context.flush()
        known = trained_in(store, training_key)
    return known


def trained_in(store: RecordStore, training_key: str) -> Trained | None:
    """Weights that another cell of the run learned in the same training, if one has."""
    pointer = _pointer(store, training_key)
    if not pointer.is_file():
        return None
    key = pointer.read_text(encoding="utf-8")
    path = store.folder(key) / WEIGHTS_FILE
    return Trained(key, load_file(path)) if path.is_file() else None


def _pointer(store: RecordStore, training_key: str) -> Path:
    return store.root / "trained" / training_key


def run_plan(
    planned: Plan,
    options: RunOptions,
    out: Path,
    address: str | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    begun: Gangs | None = None,
) -> Ran:
    """Run the cells that have no record in `out`, then write the report there.

    begun: gangs that were started ahead, on CPUs (`bench.ahead`); else they start here.
    A cell that failed is recorded under `failures/` and tried again by the next call.
    """
    store = RecordStore(out)
    cells = {cell.key: cell for cell in planned.cells}
    todo = [cell for key, cell in cells.items() if not store.has(key)]
    save_splits(planned.cells, out)
    titled = [{**e, "title": cells[e["key"]].title} for e in expected_cells(planned)]
    write_whole(out / PLAN, strict_json.canonical(titled).encode())
    outcome = None
    ending = Ending(store, expected_cells(planned), out)
    if todo:
        gpu = torch.cuda.is_available() if options.gpu is None else options.gpu
        waiting = {cell.key for cell in todo}
        units: dict[str, Work] = {}
        cells_of: dict[str, list[Cell]] = {}
        for group in groups(planned.cells, options.seeds_together, options.ranks_per_cell):
            missing = [cell for cell in group if cell.key in waiting]
            if missing:
                leased = unit([work(cell, out, waiting) for cell in needed(store, group)])
                units[leased.key], cells_of[leased.key] = leased, missing
        gangs = options.gangs or default_gangs(options, gpu)
        ending.expect(len(units), gangs)

        def settle(event: dict[str, Any]) -> None:
            for one in of_each_cell(event, cells_of[event["key"]]):
                record_failure(one)
            ending.settled()

        def record_failure(event: dict[str, Any]) -> None:
            if event["kind"] == "failed":
                cell = cells[event["key"]]
                event = {**event, "error": _named(event["error"], cell)}
                store.write_failure(cell.key, failure(cell, event["error"]))
            if on_event is not None:
                on_event(event)

        first = warm_up, to_warm_up(todo)
        if begun is not None:
            outcome = begun.settle([*units.values()], first, settle, StatusFile(out / STATUS))
        else:
            outcome = run_gangs(
                [*units.values()],
                run_leased,
                gangs=gangs,
                ranks_per_gang=options.ranks_per_cell,
                threads_per_rank=options.threads_per_rank,
                use_gpu=gpu,
                address=address,
                prepare=first,
                on_event=settle,
                status_path=out / STATUS,
            )
    found, files = ending.report()
    failures = {key: value for key, value in store.failures().items() if key in cells}
    return Ran(outcome, len(cells) - len(todo), failures, found, files)


def work(cell: Cell, out: Path, todo: Collection[str] = ()) -> Work:
    """A cell as a unit for the queue. cost: shots (of a source: many) times epochs, or 1.

    todo: keys of the cells that run; a cell waits for its stage where that is one of them.
    """
    cost = 1.0
    if cell.training is not None:
        epochs = cell.training.epochs_at(cell.shots)
        cost = float(cell.training.steps or (cell.shots or A_SOURCE) * epochs)
        if not cell.stage and cell.trained_on is not None and not cell.trained_on.whole:
            cost = 0.5  # its weights come from the cell that is scored at home, which runs first
    return Work(
        key=cell.key,
        payload={"cell": cell.model_dump_json(), "store": str(out.resolve())},
        cost=cost,
        needs=(cell.after.key,) if cell.after is not None and cell.after.key in todo else (),
        warm=(cell.backbone_digest, (cell.trained_on or cell).dataset_digest),
    )


def default_gangs(options: RunOptions, gpu: bool) -> int:
    """As many gangs as this machine has room for, at least one."""
    if gpu:
        return max(1, torch.cuda.device_count() // options.ranks_per_cell)
    return cpu_gangs(options.ranks_per_cell, options.threads_per_rank)


def failure(cell: Cell, error: str | None) -> dict[str, Any]:
    """The content of a failure file: `reason` is the exception's own line."""
    lines = (error or "").strip().splitlines() or ["no reason was given"]
    return {"cell": cell.coordinates, "reason": lines[-1], "traceback": error or ""}


def _named(error: str | None, cell: Cell) -> str | None:
    """The queue knows a cell's stage by its key alone."""
    if error is None or cell.after is None:
        return error
    return error.replace(cell.after.key, cell.after.title)


def expected_cells(planned: Plan) -> list[dict[str, Any]]:
    """The study's cells for the report: what has no record is named there."""
    told = {"reproduces": list(planned.reproduces)} if planned.reproduces else {}
    return [{"key": cell.key, **cell.coordinates, **told} for cell in planned.cells]


def save_splits(cells: list[Cell], out: Path) -> None:
    """Save the shots of each (dataset, task, draw), so that others can use the same sets.

    A draw is that of the cell's `draw`, else of its seed.

    Nested: the order, of which the K-shot set is the first K ids of every group. CoOp's draw: a
    file for each K with the ids of the shots and, where the dataset has a task `val`, of those for
    validation.
    """
    wanted = {
        (c.data_root, c.dataset, c.task, c.dataset_digest, c.draw_seed)
        + (("coop", c.shots) if c.few_shot == "coop" else ("nested", 0))
        for c in cells
        if c.training is not None and c.trained_on is None  # a stage takes all of its source
    }
    for root, dataset, task, digest, seed, draw, shots in sorted(wanted):
        drawn = f"-coop-{shots}shots" if draw == "coop" else ""
        path = out / "splits" / f"{dataset}-{task}-{digest[:12]}-seed{seed}{drawn}.json"
        if path.is_file():
            continue
        opened = open_dataset(place(root) / dataset)
        queries = opened.task(task).training().queries
        content = {"dataset": dataset, "task": task, "digest": digest, "seed": seed}
        if draw == "nested":
            content["order"] = few_shot_order(queries, seed, digest)
        else:
            has_val = "val" in (known.name for known in opened.manifest.tasks)
            validation = opened.task("val").evaluate[0].queries if has_val else ()
            train, val = coop_few_shot(queries, shots, seed, validation)
            content |= {"shots": shots, "train": [q.id for q in train], "val": [q.id for q in val]}
        write_whole(path, strict_json.canonical(content).encode())
