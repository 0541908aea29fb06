"""Building: whole or not at all, every failure in one report, nothing done twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import Dataset, check_dataset, open_dataset
from data_recipes.core.images import RawImage
from data_recipes.core.model import DataError, Task
from tests.files import Photos, build_photos, make_files
from tests.tiny import TinyConfig, TinyRecipe, classification, composed, image_text, png


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

    with pytest.raises(DataError) as caught:
        build_dataset(Changed(damage), tmp_path / "tiny")
    message = str(caught.value)
    assert message.startswith("dataset 'tiny' was not built: 3 of 24 images cannot be read:\n")
    assert "  train/red.0: empty file\n" in message
    assert "  train/red.1: an HTML page (a failed download)\n" in message
    assert "  train/red.2: " in message and "train/red.3" not in message
    assert not (tmp_path / "tiny").exists()


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
    with pytest.raises(DataError) as caught:
        build_dataset(Changed(tasks=wrong), tmp_path / "tiny")
    message = str(caught.value)
    assert not (tmp_path / "tiny").exists()
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
    with pytest.raises(DataError, match="1 of 24 images cannot be read"):
        build_dataset(Changed(lambda images: [replace(images[0], data=b""), *images[1:]]), copy)
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


def test_tasks_are_checked_before_any_image_is_read(tmp_path: Path) -> None:
    """Where the recipe lists its images; the pictures here do not even exist."""
    folders = make_files(tmp_path, 30)

    class Wrong(Photos):
        def tasks(self) -> list[Task]:
            return [with_query(super().tasks()[0], 3, image="p999")]

    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="image 'p999' is not in the shards"):
        build_dataset(Wrong(folders=folders), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_another_name_is_the_same_dataset(tiny_dataset: Dataset, tmp_path: Path) -> None:
    manifest = build_dataset(TinyRecipe(), tmp_path / "mine", name="mine", per_shard=5)
    assert (manifest.name, manifest.recipe) == ("mine", "tiny")
    assert manifest.digest == tiny_dataset.manifest.digest
    assert check_dataset(tmp_path / "mine") == []


def test_a_manifest_of_before_names_had_recipes_is_read(copy: Path) -> None:
    path = copy / "manifest.json"
    raw = json.loads(path.read_text())
    assert raw.pop("recipe") == "tiny"
    path.write_text(json.dumps(raw))
    assert open_dataset(copy).manifest.recipe == "tiny"
    assert check_dataset(copy) == []


def test_recipe_warnings_are_kept(tmp_path: Path) -> None:
    manifest = build_photos(make_files(tmp_path, 3), tmp_path / "out")
    assert manifest.warnings == ["list.json: is short"]


def test_progress_counts_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    folders = make_files(tmp_path, 3)
    build_dataset(
        Photos(folders=folders), tmp_path / "photos", progress=lambda *now: seen.append(now)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    build_dataset(TinyRecipe(), tmp_path / "tiny", progress=lambda *now: seen.append(now))
    assert seen[-1] == (24, None)


def test_shards_of_another_build_do_not_stay(tmp_path: Path) -> None:
    """A stopped build left three shards; with fewer images one is left."""
    folders, out = make_files(tmp_path, 60), tmp_path / "out"
    (tmp_path / "images/p059.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 60"):
        build_photos(folders, out)
    (tmp_path / ".out.building/dataset/.tmp-images-000001.tar-1").write_bytes(b"half")
    (tmp_path / "annotations/list.json").write_text(json.dumps([f"p{n:03d}" for n in range(15)]))
    build_photos(folders, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "images-000000.tar",
        "index.parquet",
        "manifest.json",
        "tasks",
    ]
    assert check_dataset(out) == []


def test_a_build_killed_between_its_two_renames_loses_nothing(copy: Path) -> None:
    """The old dataset lies aside, the new one has no name yet: any next build puts it back."""
    building = copy.with_name(".tiny.building")
    building.mkdir()
    copy.rename(building / "replaced")
    with pytest.raises(DataError, match="no image"):
        build_dataset(Changed(lambda images: []), copy)
    assert check_dataset(copy) == []
    assert not building.exists()


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    def meanwhile(images: list[RawImage]) -> Iterator[RawImage]:
        with pytest.raises(DataError, match="is building this dataset"):
            build_dataset(TinyRecipe(), tmp_path / "tiny")
        yield from images

    build_dataset(Changed(meanwhile), tmp_path / "tiny")
    assert check_dataset(tmp_path / "tiny") == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny").write_text("mine")
    assert "tiny: is a file" in refusal(TinyRecipe(), tmp_path / "tiny")
