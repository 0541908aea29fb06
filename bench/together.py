"""Several cells in one pass: those that differ in the seed train as one batched computation.

What does not depend on the seed (the frozen tower's passes over equal texts, an engine's set-up)
is paid once. Each cell keeps its own shots, batches, loss, record and key; its numbers are those of
a separate run up to rounding, which is why a study has to ask for it (`run: {seeds_together: N}`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from bench.cell import CellResult, run_cell, scored_cell
from bench.cell_spec import Cell
from bench.clock import Clock
from bench.learn import Course, prepare
from bench.learned import Learned, build_method, home_of
from bench.loaded import Inputs
from bench.train import Engine, ensure_process_group
from bench.train_together import dealt_out, schedule, train_together
from bench.workers import Inline, Workers
from data_recipes.core import strict_json
from data_recipes.core.model import TaskKind
from methods.core.contract import Method, text_given
from methods.core.registry import method as registered_method


def apart(cell: Cell) -> str | None:
    """Why a cell does not train with others in one pass; None where it does."""
    if cell.training is None or cell.trained_on is not None or cell.after is not None:
        return "does not learn its task from the start"
    if cell.zero_stage:
        return f"is sharded (ZeRO stage {cell.zero_stage})"
    kind = registered_method(cell.method)
    return kind.apart(kind.Config.model_validate(cell.config), cast(TaskKind, cell.kind))


def groups(cells: Sequence[Cell], most: int | None, ranks: int = 1) -> list[list[Cell]]:
    """Cells in the order of their groups' first ones; every cell in one group of at most `most`.

    Those of a group differ in the seed and draw alone, and in the shots where the recipe counts
    steps. None: as many as there are. Cells on several ranks stand alone.
    """
    found: list[list[Cell]] = []
    open_: dict[str, list[Cell]] = {}
    for cell in cells:
        if most == 1 or ranks > 1 or apart(cell) is not None:
            found.append([cell])
            continue
        assert cell.training is not None
        free = {"seed", "draw"} | ({"shots"} if cell.training.steps is not None else set())
        like = strict_json.digest({k: v for k, v in cell.identity.items() if k not in free})
        group = open_.get(like)
        if group is None or len(group) == most:
            found.append(group := [])
            open_[like] = group
        group.append(cell)
    return found


def run_together(cells: Sequence[Cell], engine: Engine | None = None) -> list[CellResult | None]:
    """Train and score a group of cells in one pass, on one rank; None where a cell must run alone.

    That is where no other has the same schedule, and where a loss or a score is not finite: one
    seed's failure is its own. `timings` are the pass's, divided by the cells in it.

    Raises:
        DataError: dataset or backbone differ from what the cells were planned with.
    """
    engine = engine or Engine()
    ensure_process_group(engine)
    clock = Clock()
    first = cells[0]
    inputs = Inputs(first.backbone, first.backbone_digest, first.data_root, first.cache, engine)
    inputs.backbone()
    home_of(first, inputs)
    clock.lap("load")
    pupils = [_pupil(cell, inputs) for cell in cells]
    assert first.training is not None
    like: dict[tuple[float, ...], list[int]] = {}
    for number, (_, course) in enumerate(pupils):
        like.setdefault(schedule(first.training, course), []).append(number)
    results: list[CellResult | None] = [None] * len(cells)
    with nullcontext(Inline()) if engine.device.startswith("cuda") else Workers() as workers:
        for numbers in like.values():
            if len(numbers) > 1:
                own = [cells[n] for n in numbers]
                done = _pass(own, [pupils[n] for n in numbers], inputs, clock, workers)
                for number, result in zip(numbers, done, strict=True):
                    results[number] = result
            clock = Clock()
    return results


def run_cells(
    cells: Sequence[Cell], engine: Engine | None = None
) -> Iterator[CellResult | Exception]:
    """What comes of each cell of a group, in order: in one pass, or alone where that must be."""
    found: list[CellResult | None] = [None] * len(cells)
    why = "no result in one pass"
    if len(cells) > 1:
        try:
            found = run_together(cells, engine)
        except torch.AcceleratorError:
            raise  # the device may be lost: for the gang to find out
        except Exception as error:  # each cell's own run shows whose it was
            why = f"in one pass: {type(error).__name__}: {error}"
    for cell, result in zip(cells, found, strict=True):
        yield result or _alone(cell, engine, why if len(cells) > 1 else None)


def _alone(cell: Cell, engine: Engine | None, why: str | None) -> CellResult | Exception:
    try:
        result = run_cell(cell, engine)
    except torch.AcceleratorError:
        raise
    except Exception as error:
        return error
    assert result is not None, "one rank has the result"
    if why is not None:
        result.record["engine"]["alone"] = why
    return result


def _pupil(cell: Cell, inputs: Inputs) -> tuple[Method, Course]:
    """A cell's method before its first step, as in a run of its own."""
    assert cell.training is not None
    home = home_of(cell, inputs)
    torch.manual_seed(cell.seed)
    method = build_method(cell, inputs.backbone(), home.task).to(inputs.engine.device)
    course = prepare(
        method, cell.training, home, cell.shots, cell.seed, inputs.engine, cell.few_shot, cell.draw
    )
    return method, course


def _pass(
    cells: Sequence[Cell],
    pupils: Sequence[tuple[Method, Course]],
    inputs: Inputs,
    clock: Clock,
    workers: Inline,
) -> list[CellResult | None]:
    """The results of cells with equal schedules."""
    training = cells[0].training
    assert training is not None
    methods = [method for method, _ in pupils]
    courses = [course for _, course in pupils]
    seeds = [cell.seed for cell in cells]
    curves = train_together(methods, training, courses, seeds, inputs.engine, clock, workers)
    said = f"trained with {len(cells) - 1} other seed(s) in one pass: equal up to rounding"
    found = []
    for method, course, curve in zip(methods, courses, curves, strict=True):
        method.end_training()
        facts = {"together": [cell.key for cell in cells]}
        found.append(Learned(method, curve, [*course.notes, said], facts))
    results: list[CellResult | None] = []
    sound = [bool(np.isfinite(curve).all()) for curve in curves]
    scored = [one.method for one, fine in zip(found, sound, strict=True) if fine]
    with _texts_shared(scored, workers):
        for cell, one, fine in zip(cells, found, sound, strict=True):
            results.append(_scored(cell, one, inputs, clock) if fine else None)
    seconds = {phase: total / len(cells) for phase, total in clock.seconds.items()}
    for result in results:
        if result is not None:
            result.record["timings"] = seconds
    return results


def _scored(cell: Cell, found: Learned, inputs: Inputs, clock: Clock) -> CellResult | None:
    try:
        return scored_cell(cell, found, inputs, clock)
    except (ArithmeticError, ValueError):
        return None


@contextmanager
def _texts_shared(methods: Sequence[Method], workers: Inline) -> Iterator[None]:
    """Within, what one of the methods is asked to encode is encoded for all at once, and once.

    A class list is one thing (a class-specific context takes it whole); other texts are encoded one
    by one, whatever batch they come in.
    """
    known: dict[tuple[str, ...], Tensor | None] = {}
    rows: dict[str, Tensor] = {}  # (S, D) of each text
    kind = type(methods[0]) if methods else Method

    def encoded(texts: tuple[str, ...]) -> Tensor | None:
        """Features (S, N, D)."""

        def part(own: slice) -> list[Tensor] | None:
            return kind.texts_together(methods[own], [texts] * len(methods[own]))

        parts = dealt_out(part, len(methods), workers)
        found = [features for part in parts for features in part or ()]
        return torch.stack(found) if found else None

    def all_of(texts: tuple[str, ...]) -> Tensor | None:
        if methods[0].task.kind == "classification":
            return encoded(texts)
        new = tuple(text for text in dict.fromkeys(texts) if text not in rows)
        if new:
            found = encoded(new)
            if found is None:
                return None
            rows.update(zip(new, found.unbind(1), strict=True))
        return torch.stack([rows[text] for text in texts], dim=1)

    def of(number: int, texts: tuple[str, ...]) -> Tensor | None:
        if texts not in known:
            known[texts] = all_of(texts)
        found = known[texts]
        return None if found is None else found[number]

    with ExitStack() as stack:
        for number, method in enumerate(methods):
            stack.enter_context(text_given(method, partial(of, number)))
        yield
