"""A run's gangs, started while its study is read and planned, where that can disturb nobody."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from bench.study_file import StudyError, read_yaml
from cluster.launch import Gangs, gangs_of
from results.planned import planned_cells
from results.schema import RecordError

# What the driver imports while Ray's processes start: what gangs need first.
IMPORTS = ("cluster.ray_run", "bench.outline", "bench.plan", "bench.run")
AHEAD = True  # False where a command runs in a process that must outlive it
GPUS = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@contextmanager
def gangs_ahead(
    study: Path,
    out: Path | None,
    overrides: Mapping[str, Any],
    tell: Callable[[BaseException], int],
) -> Iterator[Gangs | None]:
    """Gangs on a Ray of our own for `run_plan`, if the study will run on CPUs; else None.

    Nothing is checked here, and nothing refused: what is wrong in the file is said by those who
    read it next. All cells of the last run into `out` have records: nothing starts.

    tell: prints an exception and returns the exit code. What is raised in the block while the gangs
    are at work, or wait for it, ends the process at once, and Ray's with it: an orderly end would
    have to wait for ranks that are still starting.
    """
    sizes = sizes_ahead(study, out, overrides) if AHEAD else None
    if sizes is None:
        yield None
        return
    gangs, ranks, threads = sizes
    importing = threading.Thread(target=_import, args=(IMPORTS,), daemon=True)
    importing.start()
    with gangs_of(  # in this thread: Ray's processes die with the one that started them
        "bench.run:run_leased",
        gangs=gangs,
        ranks_per_gang=ranks,
        threads_per_rank=threads,
        imports=("deepspeed",),  # nearly every study trains
    ) as begun:
        try:
            importing.join()
            yield begun
        except BaseException as error:
            if begun.settled:
                raise
            code = tell(error)
            sys.stdout.flush()
            sys.stderr.flush()
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    process.kill()
            os._exit(code)


def sizes_ahead(
    study: Path, out: Path | None, overrides: Mapping[str, Any]
) -> tuple[int, int, int] | None:
    """Gangs, ranks of each, threads of each; None: start nothing before the study is planned."""
    try:
        raw = read_yaml(study)
        name, options = raw.get("name"), raw.get("run") or {}
        if not isinstance(name, str) or not isinstance(options, dict):
            return None
        options = options | {key: value for key, value in overrides.items() if value is not None}
        if options.get("gpu", any(map(os.path.exists, GPUS))) is not False or _recorded(
            out or Path("runs") / name
        ):
            return None
    except (StudyError, RecordError, OSError):
        return None
    ranks, threads = options.get("ranks_per_cell", 1), options.get("threads_per_rank", 1)
    gangs = options.get("gangs")
    if not all(
        type(size) is int and size > 0 for size in (1 if gangs is None else gangs, ranks, threads)
    ):
        return None
    return gangs or cpu_gangs(ranks, threads), ranks, threads


def cpu_gangs(ranks: int, threads: int) -> int:
    """As many gangs as this machine has cores for, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // (ranks * threads))


def _recorded(out: Path) -> bool:
    """Whether all cells of the last run into the folder have records."""
    cells = planned_cells(out) or ()
    return bool(cells) and all((out / "records" / cell["key"]).is_dir() for cell in cells)


def _import(modules: tuple[str, ...]) -> None:
    with suppress(Exception):  # told where they are needed
        for module in modules:
            importlib.import_module(module)
