"""From a record over a built dataset to a server's files, and back to the record's numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench.evaluate import Files, evaluate
from bench.ranking import rank
from bench.submit import choose, folder_name, submittable, title, write_files
from bench.summary import RankedPart, over_sets, summary
from bench.top import lists_table, top_lists
from data_recipes.core.build import build_dataset
from data_recipes.core.dataset import open_dataset
from data_recipes.core.model import DataError
from data_recipes.core.protocol import protocol
from data_recipes.core.recipe import Folders
from results.store import RecordStore
from tests.results.conftest import synthetic_record
from tests.servers import IMAGES, PAIRS, Servers, fashioniq_captions, write_annotations


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the dataset "servers"; its annotation files are in `official/` below."""
    root = tmp_path_factory.mktemp("servers")
    write_annotations(root / "official")
    build_dataset(Servers(folders=Folders(root / "official")), root / "servers")
    return root


def store_record(
    store: RecordStore, data: Path, task_name: str, *, constant: bool = False, **changes: Any
) -> dict[str, Any]:
    """A record of random features: ranked, measured and listed by the engine itself."""
    dataset = open_dataset(data / "servers")
    task = dataset.task(task_name)
    rules = protocol(task.protocol)
    assert rules.kept is not None
    generator = torch.Generator().manual_seed(3)
    sets, lists, tied, count = {}, [], 0, 0
    for part in task.evaluate:
        queries = torch.randn(len(part.queries), 8, generator=generator) * (not constant)
        candidates = torch.randn(len(part.candidates), 8, generator=generator)
        rankings = rank(part, queries, candidates)
        sets[part.name] = summary(rules, [RankedPart(part, rankings)])
        top = top_lists(part, queries, candidates, *rules.kept)
        lists.append(lists_table(part.name, part, top))
        tied, count = tied + int(rankings.tied.sum()), count + len(part.queries)
    withheld = task_name.endswith("test")
    metrics = {} if withheld else over_sets(rules, sets)
    if len(sets) > 1 and not withheld:  # a cell's record has the mean under the plain name
        metrics[rules.headline] = metrics[f"mean {rules.headline}"]
    record = synthetic_record(
        changes.pop("method", "image-only"),
        0,
        0,
        dataset="servers",
        task=task_name,
        protocol=task.protocol,
        metrics={name: value for name, value in metrics.items() if value is not None},
        withheld=withheld,
        headline=rules.headline,
        n_queries=count,
        tie_rate=tied / count,
        identity={"dataset_digest": dataset.manifest.digest},
        **changes,
    )
    record["key"] = f"{task_name}-{record['cell']['method']}"
    store.write(record, lists=pd.concat(lists, ignore_index=True))
    return record


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def compare(record: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    shared = set(record["metrics"]) & set(found)
    assert len(shared) >= 8
    for name in shared:
        assert found[name] == pytest.approx(record["metrics"][name], abs=1e-12), name


def test_cirr_files_read_back_to_the_metrics_of_the_record(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "cirr-val")
    written = write_files(store, record, data, [], tmp_path / "up")
    assert [path.name for path in written.files] == ["recall.json", "recall_subset.json"]
    assert (written.split, written.queries) == ("10-queries", 10)
    recall, subset = read(tmp_path / "up/recall.json"), read(tmp_path / "up/recall_subset.json")
    assert list(recall) == list(subset) == ["version", "metric", *PAIRS]
    assert (recall["metric"], subset["metric"]) == ("recall", "recall_subset")
    assert {len(v) for k, v in recall.items() if k in PAIRS} == {50}
    assert {len(v) for k, v in subset.items() if k in PAIRS} == {3}
    official = data / "official"
    found = evaluate(
        "cirr",
        [
            Files(
                official / "cap.rc2.val.json",
                tmp_path / "up/recall.json",
                official / "split.json",
                tmp_path / "up/recall_subset.json",
            )
        ],
    )
    assert 0 < record["metrics"]["Recall@5"] < 1
    compare(record, found.metrics)
    assert written.metrics == found.metrics


def test_circo_files_read_back_to_the_metrics_of_the_record(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "circo-val")
    written = write_files(store, record, data, [], tmp_path / "up")
    (path,) = written.files
    assert (path, written.split) == (tmp_path / "up/val.json", "val")
    assert list(read(path)) == [str(i) for i in range(220)]
    assert {type(i) for row in read(path).values() for i in row} == {int}
    assert any("name their reference" in warning for warning in written.warnings)
    official = data / "official/circo"
    files = Files(official / "val.json", path, official / "gallery.json")
    compare(record, evaluate("circo", [files]).metrics)


def test_fashioniq_files_are_the_captions_with_rankings(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "fashioniq-original-val")
    official = data / "official"
    captions = [official / f"cap.{c}.val.json" for c in ("dress", "shirt")]
    written = write_files(store, record, data, captions, tmp_path / "up")
    names = [path.name for path in written.files]
    assert names == ["dress.val.pred.json", "shirt.val.pred.json"]
    found = read(tmp_path / "up/dress.val.pred.json")
    assert all(len(record.pop("ranking")) == 50 for record in found)
    assert found == fashioniq_captions(targets=True)
    sets = [
        Files(path, tmp_path / f"up/{name}", official / "split.dress.json")
        for path, name in zip(captions, names, strict=True)
    ]
    compare(record, evaluate("fashioniq-original", sets).metrics)
    with pytest.raises(DataError, match=r"--annotations cap\.shirt\.test\.json"):
        write_files(store, record, data, captions[:1], tmp_path / "other")
    (tmp_path / "cap.dress.val.json").write_text(json.dumps(fashioniq_captions()[:3]))
    with pytest.raises(DataError, match="its 3 records have other references than the 4 queries"):
        write_files(store, record, data, [tmp_path / "cap.dress.val.json"], tmp_path / "other")


@pytest.mark.parametrize("task", ["cirr-test", "circo-test"])
def test_withheld_targets_need_no_metric(tmp_path: Path, data: Path, task: str) -> None:
    store = RecordStore(tmp_path / "run")
    written = write_files(store, store_record(store, data, task), data, [], tmp_path / "up")
    assert written.metrics is None
    assert written.files


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        (None, "coop-0123456789ab"),
        ("coop-4.x_y", "coop-4.x_y-0123456789ab"),
        ("coop[ctx_init=a/b c, n=../4]", "coop-ctx_init-a-b-c-n-..-4-0123456789ab"),
    ],
)
def test_a_label_names_one_folder(variant: str | None, name: str) -> None:
    record = {"key": "0123456789abcdef", "cell": {"method": "coop", "variant": variant}}
    assert folder_name(record) == name


def test_files_are_compact(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    written = write_files(store, store_record(store, data, "cirr-test"), data, [], tmp_path / "up")
    for path, file in written.files.items():
        text = path.read_text()
        assert not set(text) & set(" \n")
        assert file.bytes == len(text)


def test_ties_are_told_and_not_an_error(tmp_path: Path, data: Path) -> None:
    """A constant scorer: last by the record, the gallery's order by the files."""
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "cirr-val", constant=True)
    assert record["tie_rate"] == 1.0
    written = write_files(store, record, data, [], tmp_path / "up")
    assert any(w.startswith("ties make a difference: Recall@") for w in written.warnings)
    assert read(tmp_path / "up/recall.json")[PAIRS[0]] == IMAGES[1:51]


def test_lists_of_another_ranking_are_refused(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "cirr-val")
    wrong = record | {"metrics": record["metrics"] | {"Recall@1": 0.75}}
    with pytest.raises(DataError, match=r"Recall@1 is 0\.\d+ by the files, 0\.750000 by the rec"):
        write_files(store, wrong, data, [], tmp_path / "up")


def damaged(store: RecordStore, change: Any) -> None:
    """Change the lists of the store's only record on disk."""
    (key,) = store.keys()
    table = store.read_lists(key)
    assert table is not None
    change(table)
    table.to_parquet(store.folder(key) / "lists.parquet", index=False)


def swap_subset(table: pd.DataFrame) -> None:
    table.at[0, "subset"] = table.at[0, "subset"][::-1]


def shorten(table: pd.DataFrame) -> None:
    table.at[4, "candidates"] = table.at[4, "candidates"][:49]


def rename(table: pd.DataFrame) -> None:
    table.at[4, "query_id"] = "9"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_subset, r"recall_subset.json: query '12000': orders the image set otherwise than"),
        (shorten, "recall.json: query '12004': has 49 ids, expected exactly 50"),
        (rename, "its lists are not of the queries of servers/cirr-test, part 'cirr'"),
    ],
)
def test_nothing_is_written_of_lists_that_break_a_rule(
    tmp_path: Path, data: Path, change: Any, message: str
) -> None:
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "cirr-test")
    damaged(store, change)
    with pytest.raises(DataError, match=message):
        write_files(store, record, data, [], tmp_path / "up")
    assert not (tmp_path / "up").exists()


def test_other_files_are_not_overwritten(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "cirr-test")
    first = write_files(store, record, data, [], tmp_path / "up")
    assert write_files(store, record, data, [], tmp_path / "up").files == first.files
    (tmp_path / "up/recall_subset.json").write_text("mine")
    with pytest.raises(DataError, match=r"recall_subset.json: holds something else; .*--out"):
        write_files(store, record, data, [], tmp_path / "up")
    assert (tmp_path / "up/recall_subset.json").read_text() == "mine"


def test_the_dataset_must_be_that_of_the_record(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    record = store_record(store, data, "cirr-test")
    other = record | {"identity": {"dataset_digest": "0" * 64}}
    with pytest.raises(DataError, match=r"the record was made with 000000000000; .* --data"):
        write_files(store, other, data, [], tmp_path / "up")
    with pytest.raises(DataError, match="no manifest, so no built dataset"):
        write_files(store, record, tmp_path, [], tmp_path / "up")
    with pytest.raises(DataError, match=r"cirr/1 needs no --annotations; leave x\.json out"):
        write_files(store, record, data, [Path("x.json")], tmp_path / "up")


def test_records_are_chosen_by_key_or_label_and_never_guessed(tmp_path: Path, data: Path) -> None:
    store = RecordStore(tmp_path / "run")
    with pytest.raises(DataError, match="no record there can be submitted; run a study on cirr"):
        choose(store)
    one = store_record(store, data, "cirr-test")
    assert choose(store) == [one]
    two = store_record(store, data, "circo-test")
    three = store_record(store, data, "circo-test", method="coop", variant="mine")
    store.write(synthetic_record(accuracy=0.5))
    unlisted = synthetic_record("x", 0, 0, protocol="cirr/1") | {"key": "unlisted"}
    store.write(unlisted)
    assert submittable(store) == [three, two, one]
    with pytest.raises(DataError, match="3 records that can be submitted; name one by --key") as e:
        choose(store)
    assert str(e.value).splitlines()[1:] == [
        f"  {record['key'][:12]}  {title(record)}" for record in (three, two, one)
    ]
    assert choose(store, methods=["mine"]) == [three]
    assert choose(store, keys=["cirr", "circo-test-coop"]) == [one, three]
    assert choose(store, keys=["cirr", "cirr-test"]) == [one]
    for keys, methods, message in (
        (["circo"], [], "'circo' fits 2 records that can be submitted; name one by --key"),
        ([], ["image-only"], "'image-only' fits 2 records"),
        (["zzz"], [], "no record that can be submitted is called 'zzz'; there are:"),
        (["unlisted"], [], "unlisted: its ranked lists were not kept; delete its folder"),
        (["coop-roles"], [], "classification/1 has no form for a test server"),
    ):
        with pytest.raises(DataError, match=message):
            choose(store, keys, methods)


def test_title_of_a_trained_record() -> None:
    record = synthetic_record("coop", 4, 2, variant="mine", dataset="cirr")
    assert title(record) == "mine on cirr/classification, 4 shots, seed 2"


def test_the_record_in_these_tests_is_no_constant(tmp_path: Path, data: Path) -> None:
    record = store_record(RecordStore(tmp_path), data, "circo-val")
    assert record["tie_rate"] == 0
    assert len(np.unique(list(record["metrics"].values()))) > 3
