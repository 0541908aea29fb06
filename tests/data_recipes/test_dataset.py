"""Building and opening: whole or not at all, every failure in one report, every damage found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import Dataset, check_dataset, open_dataset
from data_recipes.core.images import RawImage
from data_recipes.core.model import DataError, Query, Task
from tests.tiny import (
    TinyConfig,
    TinyRecipe,
    classification,
    composed,
    image_text,
    png,
)


class Changed(TinyRecipe):
    """The tiny recipe with its pictures or tasks changed."""

    def __init__(
        self,
        change: Callable[[list[RawImage]], Iterable[RawImage]] = list,
        tasks: list[Task] | None = None,
    ) -> None:
        super().__init__()
        self._change = change
        self._tasks = tasks

    def images(self) -> Iterator[RawImage]:
        yield from self._change(list(super().images()))

    def tasks(self) -> list[Task]:
        return super().tasks() if self._tasks is None else self._tasks


def with_query(task: Task, number: int, **changes: object) -> Task:
    """`task` with one query of its first evaluated part changed."""
    part = task.evaluate[0]
    queries = list(part.queries)
    queries[number] = replace(queries[number], **changes)  # type: ignore[arg-type]
    return replace(task, evaluate=(replace(part, queries=tuple(queries)), *task.evaluate[1:]))


def refusal(recipe: TinyRecipe, folder: Path) -> str:
    """The error of a build that must fail, after which nothing may be left beside `folder`."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(DataError) as caught:
        build_dataset(recipe, folder)
    assert sorted(folder.parent.iterdir()) == before
    return str(caught.value)


@pytest.fixture
def copy(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the built dataset that a test may damage."""
    return Path(shutil.copytree(tiny_data / "tiny", tmp_path / "tiny"))


def test_tasks_and_images_are_read_back_as_they_were_built(tiny_dataset: Dataset) -> None:
    assert tiny_dataset.task() == classification()
    assert tiny_dataset.task("image-text") == image_text()
    assert tiny_dataset.task("composed") == composed()
    expected = [(image.id, image.data) for image in TinyRecipe().images()]
    assert list(tiny_dataset.reader.stream()) == expected


def test_every_field_of_a_query_survives(tmp_path: Path) -> None:
    full = Query(
        id="é/1",
        image="test/red.0",
        text="line\nbreak",
        relevant=("test/blue.0", "test/red.1"),
        excluded=("test/red.0",),
        subset=("test/blue.0", "test/grey.1"),
        gallery=("test/blue.0", "test/red.1", "test/grey.1"),
        group="g",
        cluster="c",
        meta={"nested": {"a": [1, None]}},
    )
    part = composed().evaluate[0]
    empty = replace(full, id="2", subset=(), gallery=("test/blue.0", "test/red.1"))
    task = replace(composed(), evaluate=(replace(part, queries=(full, empty)),))
    build_dataset(Changed(tasks=[task]), tmp_path / "tiny")
    assert open_dataset(tmp_path / "tiny").task() == task


def test_a_sound_dataset_has_no_problem(tiny_dataset: Dataset) -> None:
    assert check_dataset(tiny_dataset.folder) == []


def test_equal_input_gives_equal_files_and_digest(tiny_dataset: Dataset, tmp_path: Path) -> None:
    again = build_dataset(TinyRecipe(), tmp_path / "tiny", per_shard=5)
    assert again == tiny_dataset.manifest
    files = [p.relative_to(tmp_path / "tiny") for p in (tmp_path / "tiny").rglob("*.*")]
    assert len(files) > 15
    for name in files:
        assert (tmp_path / "tiny" / name).read_bytes() == (tiny_dataset.folder / name).read_bytes()


def test_the_digest_does_not_depend_on_shards_or_order(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    one = build_dataset(TinyRecipe(), tmp_path / "one", per_shard=1)
    all_in_one = build_dataset(TinyRecipe(), tmp_path / "all", per_shard=1000)
    backwards = build_dataset(Changed(lambda images: images[::-1]), tmp_path / "backwards")
    assert (len(one.shards), len(all_in_one.shards)) == (24, 1)
    assert {m.digest for m in (one, all_in_one, backwards)} == {tiny_dataset.manifest.digest}


def test_the_digest_depends_on_every_image_task_config_and_version(tmp_path: Path) -> None:
    def other_bytes(images: list[RawImage]) -> list[RawImage]:
        return [*images[:-1], replace(images[-1], data=png((1, 2, 3), 0))]

    class Newer(TinyRecipe):
        version = 2

    class NotedConfig(TinyConfig):
        note: str = ""

    class Noted(TinyRecipe):
        Config = NotedConfig

    tasks = TinyRecipe().tasks()
    recipes = [
        TinyRecipe(),
        TinyRecipe(TinyConfig(size=17)),
        Newer(),
        Noted(NotedConfig(note="x")),
        Changed(other_bytes),
        Changed(tasks=[with_query(tasks[0], 0, relevant=("grey",)), *tasks[1:]]),
        Changed(tasks=[replace(tasks[0], templates=("{}",)), *tasks[1:]]),
        Changed(tasks=[tasks[1], tasks[0], tasks[2]]),
    ]
    digests = [build_dataset(r, tmp_path / str(n)).digest for n, r in enumerate(recipes)]
    assert len(set(digests)) == len(recipes)


def test_all_unreadable_images_are_in_one_report(tmp_path: Path) -> None:
    def damage(images: list[RawImage]) -> list[RawImage]:
        bad = [b"", b"<html>404</html>", images[2].data[:40]]
        return [replace(i, data=d) for i, d in zip(images, bad, strict=False)] + images[3:]

    message = refusal(Changed(damage), tmp_path / "tiny")
    assert message.startswith("dataset 'tiny' was not built: 3 image(s) cannot be read:\n")
    for number, size in ((0, 0), (1, 16), (2, 40)):
        assert f"image 'train/red.{number}': not a readable image ({size} bytes): " in message
    assert "train/red.3" not in message


def test_a_long_report_is_cut_and_says_so(tmp_path: Path) -> None:
    message = refusal(
        Changed(lambda images: [replace(i, data=b"x") for i in images]), tmp_path / "tiny"
    )
    assert "24 image(s) cannot be read" in message
    assert len(message.splitlines()) == 1 + 20 + 1
    assert message.endswith("... and 4 more")


def test_duplicate_image_ids_are_refused(tmp_path: Path) -> None:
    message = refusal(Changed(lambda images: [*images, images[5]]), tmp_path / "tiny")
    assert "image id 'train/green.1' occurs twice" in message


def test_a_recipe_without_images_is_refused(tmp_path: Path) -> None:
    assert "no image" in refusal(Changed(lambda images: []), tmp_path / "tiny")


def test_all_problems_of_all_tasks_are_in_one_report(tmp_path: Path) -> None:
    wrong = [
        with_query(classification(), 0, relevant=("purple",)),
        with_query(composed(), 1, excluded=("test/grey.0", "test/red.0", "test/blue.0")),
        with_query(image_text(), 2, image="test/gone"),
    ]
    message = refusal(Changed(tasks=wrong), tmp_path / "tiny")
    assert "was not built: 3 problem(s) in the tasks:" in message
    assert "task classification/test: query 'test/red.0': relevant names 'purple'" in message
    assert (
        "task composed/test: query 'test/red.0>blue': a relevant candidate is excluded" in message
    )
    assert "task image-text/i2t: image 'test/gone' is not in the shards" in message


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([], "there is no task"),
        ([classification(), classification()], "two tasks are called 'classification'"),
        (
            [replace(classification(), evaluate=(classification().train,))],
            "task classification: two parts are called 'train'",
        ),
        ([replace(classification(), name="../x")], "task '../x': use letters"),
        (
            [replace(classification(), train=replace(classification().train, name="a/b"))],
            "part 'a/b' of task classification: use letters",
        ),
        ([replace(classification(), evaluate=())], "task classification: no part to evaluate"),
    ],
)
def test_tasks_that_cannot_be_stored_are_refused(
    tmp_path: Path, tasks: list[Task], reason: str
) -> None:
    assert reason in refusal(Changed(tasks=tasks), tmp_path / "tiny")


def test_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    tasks = [replace(classification(), protocol="classification/9")]
    assert "Unknown protocol 'classification/9'" in refusal(Changed(tasks=tasks), tmp_path / "t")


def test_a_failed_build_keeps_the_old_dataset(copy: Path) -> None:
    refusal(Changed(lambda images: [replace(images[0], data=b"")]), copy)
    assert check_dataset(copy) == []


def test_an_interrupted_build_leaves_nothing_behind(copy: Path) -> None:
    def interrupted(images: list[RawImage]) -> Iterator[RawImage]:
        yield from images[:3]
        raise KeyboardInterrupt

    before = sorted(copy.parent.iterdir())
    with pytest.raises(KeyboardInterrupt):
        build_dataset(Changed(interrupted), copy)
    assert sorted(copy.parent.iterdir()) == before
    assert check_dataset(copy) == []


def test_building_again_replaces_the_dataset(copy: Path) -> None:
    manifest = build_dataset(TinyRecipe(TinyConfig(size=20)), copy, per_shard=24)
    assert open_dataset(copy).manifest == manifest
    assert len(list(copy.glob("*.tar"))) == 1
    assert check_dataset(copy) == []


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    raw = tmp_path / "tiny" / "raw.csv"
    raw.parent.mkdir()
    raw.write_text("the only copy")
    assert "and is no built dataset, so it is not replaced" in refusal(
        TinyRecipe(), tmp_path / "tiny"
    )
    assert raw.read_text() == "the only copy"


def test_an_empty_folder_may_be_built_into(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    build_dataset(TinyRecipe(), tmp_path / "tiny")
    assert check_dataset(tmp_path / "tiny") == []


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def drop_a_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("images-000002.tar", flip_a_byte, "content differs from the manifest (sha256)"),
        ("images-000002.tar", Path.unlink, "images-000002.tar: missing"),
        ("images-000004.tar", drop_a_line, None),
        ("index.parquet", flip_a_byte, "index.parquet: missing or different from the manifest"),
        ("index.parquet", Path.unlink, "index.parquet: missing or different from the manifest"),
        ("tasks/composed/test.queries.jsonl", drop_a_line, "23 queries and 8 candidates on disk"),
        ("tasks/composed/test.candidates.jsonl", Path.unlink, "no such file"),
    ],
)
def test_check_finds_damage(
    copy: Path, file: str, damage: Callable[[Path], None], reason: str | None
) -> None:
    if reason is None:  # cut a shard in its middle, as a full disk does
        (copy / file).write_bytes((copy / file).read_bytes()[:3000])
        reason = "3000 bytes, the manifest says"
    else:
        damage(copy / file)
    found = "\n".join(check_dataset(copy))
    assert reason in found
    assert file.rpartition("/")[2].removesuffix(".queries.jsonl") in found


def test_check_finds_a_changed_label(copy: Path) -> None:
    """Equal counts, all names known: only the digest can tell."""
    path = copy / "tasks/classification/test.queries.jsonl"
    text = path.read_text()
    changed = text.replace('"relevant":["red"]', '"relevant":["grey"]', 1)
    assert changed != text
    path.write_text(changed)
    assert check_dataset(copy) == [f"{copy / 'tasks'}: content differs from the manifest (digest)"]


def test_a_task_with_missing_rows_cannot_be_opened(copy: Path) -> None:
    drop_a_line(copy / "tasks/composed/test.queries.jsonl")
    with pytest.raises(DataError, match="23 queries and 8 candidates on disk"):
        open_dataset(copy).task("composed")
    assert open_dataset(copy).task("image-text") == image_text()
