"""Building a dataset's folder from a recipe: whole or not at all, and continued after a stop.

All work is done in `.NAME.building` beside the folder NAME:

    claim-HOST-PID   who builds here now (claim.py)
    records/         what each finished shard holds, and of what input it was made (write.py)
    dataset/         the folder to be; it is renamed to NAME when it is whole
    replaced/        the dataset that was there before, for the moment between two renames
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import PIL

from data_recipes.core import strict_json
from data_recipes.core.claim import claimed
from data_recipes.core.descriptions import DESCRIPTIONS, strangers, write_descriptions, wrong
from data_recipes.core.failures import describe, failures_file, write_failures
from data_recipes.core.images import ImageSource
from data_recipes.core.manifest import (
    INDEX,
    MANIFEST,
    SCHEMA,
    Manifest,
    Missing,
    Shard,
    dataset_digest,
)
from data_recipes.core.model import DataError, Task
from data_recipes.core.protocol import protocol
from data_recipes.core.recipe import Recipe
from data_recipes.core.task_files import write_task
from data_recipes.core.workers import make_shards
from data_recipes.core.write import (
    COLUMNS,
    IMAGES_PER_SHARD,
    Failure,
    Job,
    Written,
    cut,
    file_sha256,
    naming,
    readable,
    sync_folder,
    write_whole,
)

PROBLEMS_SHOWN = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLAIN = "use letters, digits, '.', '_' and '-' (it names a file)"

Progress = Callable[[int, int | None], None]
"""Called with the number of images tried and, where it is known, the number of all."""


def build_dataset(
    recipe: Recipe,
    folder: Path,
    *,
    name: str | None = None,
    allow_missing: bool = False,
    workers: int = 1,
    per_shard: int = IMAGES_PER_SHARD,
    progress: Progress | None = None,
) -> Manifest:
    """Build `recipe` into `folder`, whole or not at all; an earlier dataset there is replaced.

    Every image is read and decoded once, and all failures come in one report. What was finished
    before a stop or a failure is used again, as long as its input is the same. Equal input gives
    equal files with any number of workers.

    name: of the dataset; default: the recipe's.
    allow_missing: build without the images that cannot be read; the manifest lists them.
    workers: processes that read images (few images are read in this one).

    Raises:
        DataError: unreadable images, duplicate ids, tasks that do not fit together, a folder that
            is not empty and no built dataset, or another build of the same folder under way.
        OSError: the folder cannot be written (a full disk).
    """
    tasks = recipe.tasks()
    _check_names(recipe, tasks)
    _refuse_foreign(folder)
    sources = recipe.images()
    total = None
    if isinstance(sources, Sequence):  # known before any image is read, so checked before
        ids = {image_id for source in sources for image_id in source.ids}
        total = sum(len(source.ids) for source in sources)
        _check_tasks(recipe, tasks, ids)
    with _building(folder) as building:
        made = building / "dataset"
        shards = _shards(
            recipe,
            sources,
            building,
            per_shard,
            workers,
            lambda tried: progress(tried, total) if progress else None,
        )
        failures = [failure for shard in shards for failure in shard.failures]
        read = {row["id"] for shard in shards for row in shard.rows}
        write_failures(failures_file(folder), failures)
        _refuse_failures(recipe, folder, failures, len(read), allow_missing)
        if total is None:
            _check_tasks(recipe, tasks, read | {failure.id for failure in failures})
        manifest = _write_rest(recipe, name or recipe.name, tasks, shards, made)
        _put_in_place(made, folder, building / "replaced", manifest)
        return manifest


def _shards(
    recipe: Recipe,
    sources: Iterable[ImageSource],
    building: Path,
    per_shard: int,
    workers: int,
    report: Callable[[int], None],
) -> list[Written]:
    identity = {
        "recipe": recipe.name,
        "version": recipe.version,
        "config": recipe.config.model_dump(mode="json"),
        "pillow": PIL.__version__,  # another version may make smaller images differently
    }
    job = Job(
        shards=building / "dataset",
        records=building / "records",
        settings=strict_json.digest(identity),
        image_size=getattr(recipe.config, "image_size", None),
    )
    for place in (job.shards, job.records):
        place.mkdir(exist_ok=True)
    return make_shards(cut(sources, per_shard), job, workers, report)


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """The folder to build in, claimed; it is kept while it holds a finished shard."""
    building = folder.with_name(f".{folder.name}.building")
    try:
        with claimed(building):
            replaced = building / "replaced"
            if replaced.exists() and not folder.exists():  # killed between the two renames
                replaced.rename(folder)
            try:
                yield building
            finally:
                if not any(building.glob("dataset/images-*.tar")):
                    for name in ("dataset", "records", "replaced"):
                        shutil.rmtree(building / name, ignore_errors=True)
    finally:
        with suppress(OSError):  # not empty
            building.rmdir()


def _write_rest(
    recipe: Recipe, name: str, tasks: Sequence[Task], shards: Sequence[Written], made: Path
) -> Manifest:
    """Write index, tasks and manifest beside the shards."""
    shutil.rmtree(made / "tasks", ignore_errors=True)
    with naming(made):
        rows = [row for shard in shards for row in shard.rows]
        index = pd.DataFrame(rows, columns=list(COLUMNS))
        index.to_parquet(made / INDEX, index=False)
        entries = [write_task(task, made) for task in tasks]
        descriptions_sha256 = write_descriptions(recipe.descriptions(), made)
    manifest = Manifest(
        schema_version=SCHEMA,
        name=name,
        recipe=recipe.name,
        recipe_version=recipe.version,
        config=recipe.config.model_dump(mode="json"),
        licence=recipe.licence,
        attribution=recipe.attribution,
        source=recipe.source,
        images=len(index),
        digest="",
        tasks=entries,
        shards=[_entry(shard) for shard in shards if shard.rows],
        index_sha256=file_sha256(made / INDEX),
        descriptions_sha256=descriptions_sha256,
        warnings=recipe.warnings(),
        missing=[_missing(failure, recipe) for shard in shards for failure in shard.failures],
    )
    digest = dataset_digest(manifest, zip(index["id"], index["sha256"], strict=True), made)
    manifest = manifest.model_copy(update={"digest": digest})
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True)
    write_whole(made / MANIFEST, f"{text}\n".encode())
    return manifest


def _put_in_place(made: Path, folder: Path, replaced: Path, manifest: Manifest) -> None:
    """Rename the finished folder to its name; the old one is there until the new one is whole."""
    wanted = {INDEX, MANIFEST, "tasks", *(shard.name for shard in manifest.shards)}
    if manifest.descriptions_sha256 is not None:
        wanted.add(DESCRIPTIONS)
    for path in made.iterdir():
        if path.name not in wanted:  # of an earlier build with other images, or cut off
            path.unlink()
    for path in (made / INDEX, *made.glob("tasks/*/*")):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(made)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    try:
        made.rename(folder)
    except OSError:
        if replaced.exists():
            replaced.rename(folder)
        raise
    sync_folder(folder.parent)


def _entry(shard: Written) -> Shard:
    return Shard(name=shard.name, samples=len(shard.rows), bytes=shard.bytes, sha256=shard.sha256)


def _missing(failure: Failure, recipe: Recipe) -> Missing:
    """Its file is named from the user's image folder on: equal on every machine."""
    path = failure.path
    if path is not None and recipe.folders.images is not None:
        path = path.removeprefix(f"{readable(recipe.folders.images)}/")
    return Missing(id=failure.id, path=path, reason=failure.reason)


def _refuse_failures(
    recipe: Recipe, folder: Path, failures: Sequence[Failure], read: int, allow_missing: bool
) -> None:
    head = f"dataset {recipe.name!r} was not built: "
    images = recipe.folders.images
    ask = f"; is {images} the right folder (--images)?" if images is not None else ""
    if not read and not failures:
        raise DataError(f"{head}it has no image{ask}")
    table = failures_file(folder)
    if not read:
        raise DataError(
            f"{head}none of its {len(failures)} images could be read{ask}\n{describe(failures)}\n"
            f"all of them: {table}"
        )
    if failures and not allow_missing:
        raise DataError(
            f"{head}{len(failures)} of {read + len(failures)} images cannot be read:\n"
            f"{describe(failures)}\nall of them: {table}\n"
            "mend them and give the same command again (what is done stays done), or add "
            f"--allow-missing to build without them{_fewer_splits(recipe)}"
        )


def _fewer_splits(recipe: Recipe) -> str:
    """The third way out, where the recipe took every split whose annotations it found."""
    everything = getattr(recipe.config, "splits", ()) is None
    return "; --split NAME builds one split alone" if everything else ""


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; give another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder}: not empty, and is no built dataset, so it is not replaced; give another "
            "folder"
        )


def _check_names(recipe: Recipe, tasks: Sequence[Task]) -> None:
    """Protocols are known; names of tasks and parts become file names: plain, and each once."""
    for task in tasks:
        protocol(task.protocol)
    found = [] if tasks else ["there is no task"]
    for name, count in Counter(task.name for task in tasks).items():
        if count > 1:
            found.append(f"two tasks are called {name!r}")
        if not plain_name(name):
            found.append(f"task {name!r}: {_PLAIN}")
    for task in tasks:
        if not task.evaluate:
            found.append(f"task {task.name}: no part to evaluate")
        for name, count in Counter(part.name for part in task.parts()).items():
            if count > 1:
                found.append(f"task {task.name}: two parts are called {name!r}")
            if not plain_name(name):
                found.append(f"part {name!r} of task {task.name}: {_PLAIN}")
    _refuse_problems(recipe, found)


def plain_name(name: str) -> bool:
    """Whether a name can be a file's on every system."""
    return _NAME.fullmatch(name) is not None


def _check_tasks(recipe: Recipe, tasks: Sequence[Task], ids: set[str]) -> None:
    """ids: of all images, those that cannot be read included."""
    found = [
        f"task {task.name}/{part.name}: {line}"
        for task in tasks
        for part in task.parts()
        for line in part.problems(ids)
    ]
    told = recipe.descriptions()
    _refuse_problems(recipe, [*found, *wrong(told), *strangers(told, tasks, ids)])


def _refuse_problems(recipe: Recipe, lines: Sequence[str]) -> None:
    if not lines:
        return
    shown = "\n  ".join(lines[:PROBLEMS_SHOWN])
    rest = len(lines) - PROBLEMS_SHOWN
    more = f"\n  ... and {rest} more" if rest > 0 else ""
    raise DataError(
        f"dataset {recipe.name!r} was not built: {len(lines)} problem(s) in the tasks:\n"
        f"  {shown}{more}"
    )
