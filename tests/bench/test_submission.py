"""Contents of a server's files, and the official examples against every rule."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.predictions import Lists
from bench.submission import (
    LIMIT_BYTES,
    Answered,
    check,
    circo_contents,
    cirr_contents,
    family,
    fashioniq_contents,
    kept,
    parse,
)
from data_recipes import circo, cirr
from data_recipes.core.model import Candidate, DataError, Query, RetrievalTask
from data_recipes.core.protocol import PROTOCOLS, protocol
from tests.pack import DATA, needs_pack, write

CIRR, CIRCO, FASHIONIQ = map(protocol, ("cirr/1", "circo/1", "fashioniq-original/1"))
HERE = Path("file.json")


def test_forms_of_the_protocols() -> None:
    found = {}
    for name, rules in PROTOCOLS.items():
        try:
            found[name.split("/")[0]] = family(rules)
        except DataError:
            found[name.split("/")[0]] = ""
    assert {name: form for name, form in found.items() if form} == {
        "cirr": "cirr",
        "cirr-soft": "cirr",
        "cirr-server": "cirr",
        "circo": "circo",
        "fashioniq-original": "fashioniq",
    }
    assert kept(CIRR) == (50, 3)
    with pytest.raises(DataError, match="genecis/1 keeps no ranked lists"):
        kept(protocol("genecis/1"))


def random_answers(task: RetrievalTask, seed: int, k: int = 50) -> Answered:
    """A random ranking of each query's gallery, and of its subset in the same order."""
    draw = random.Random(seed)
    names = [c.id for c in task.candidates]
    whole, subset = {}, {}
    for query in task.queries:
        ranking = draw.sample(names, len(names))
        ranking = [name for name in ranking if name not in query.excluded]
        whole[query.id] = ranking[:k]
        subset[query.id] = [name for name in ranking if name in (query.subset or ())][:3]
    return Answered(task, whole, subset)


def task_of(n_queries: int, n_images: int = 60) -> RetrievalTask:
    images = [str(i) for i in range(n_images)]
    queries = tuple(
        Query(str(i), image=images[i % 50], text="x", excluded=(images[i % 50],), subset=())
        for i in range(n_queries)
    )
    return RetrievalTask("dress", queries, tuple(Candidate(i, image=i) for i in images))


@given(st.integers(1, 5), st.integers(0, 99))
def test_what_is_written_reads_back(n_queries: int, seed: int) -> None:
    answered = random_answers(task_of(n_queries), seed)
    subset = {query: ids[:3] for query, ids in answered.whole.items()}
    contents = cirr_contents(Answered(answered.task, answered.whole, subset))
    for metric, lists in (("recall", answered.whole), ("recall_subset", subset)):
        found = parse(CIRR, HERE, contents[f"{metric}.json"])
        assert found.header == {"version": "rc2", "metric": metric}
        assert found.parts[""] == lists
    (content,) = circo_contents(answered, "val").values()
    assert parse(CIRCO, HERE, content).parts[""] == answered.whole
    records: list[dict[str, Any]] = [
        {"candidate": q.image, "captions": ["é", " b"]} for q in answered.task.queries
    ]
    (content,) = fashioniq_contents(answered, "test", records).values()
    assert parse(FASHIONIQ, HERE, content).parts[""] == answered.whole
    assert [{k: v for k, v in r.items() if k != "ranking"} for r in json.loads(content)] == records


def test_names_of_the_files() -> None:
    answered = random_answers(task_of(2), 0)
    assert list(cirr_contents(answered)) == ["recall.json", "recall_subset.json"]
    assert list(circo_contents(answered, "test")) == ["test.json"]
    assert list(fashioniq_contents(answered, "test", [{}, {}])) == ["dress.test.pred.json"]


def test_a_subset_that_the_first_50_do_not_reach_is_consistent() -> None:
    """The two files can only disagree on members that are among the first 50."""
    members = ("1", "2", "3", "4", "5")
    query = Query("7", image="0", text="x", excluded=("0",), subset=members)
    images = [str(i) for i in range(60)]
    task = RetrievalTask("cirr", (query,), tuple(Candidate(i, image=i) for i in images))

    def warnings(whole: list[str], subset: list[str]) -> list[str]:
        files = [
            Lists(Path(f"{metric}.json"), {"": {"7": ids}}, {"metric": metric})
            for metric, ids in (("recall", whole), ("recall_subset", subset))
        ]
        return [w for w in check(CIRR, task, files, "cap") if "otherwise" in w]

    others = images[6:]
    assert not warnings(others[:50], ["4", "1", "2"])
    assert not warnings([*others[:49], "4"], ["4", "1", "2"])
    assert warnings([*others[:49], "4"], ["1", "4", "2"])
    assert warnings([*others[:49], "4"], ["1", "2", "3"])
    assert not warnings(["5", "4", "3", "2", *others[:46]], ["5", "4", "3"])
    assert warnings(["5", "4", "3", "2", *others[:46]], ["5", "4", "2"])


@pytest.fixture(scope="module")
def cirr_test1() -> RetrievalTask:
    images = list(cirr.read_split(DATA / "cirr/image_splits/split.rc2.test1.json"))
    return cirr.read_task(DATA / "cirr/captions/cap.rc2.test1.json", images)


@needs_pack
def test_all_of_cirr_fits_the_server_and_indented_does_not(cirr_test1: RetrievalTask) -> None:
    answered = random_answers(cirr_test1, 5)
    contents = cirr_contents(answered)
    files = [parse(CIRR, Path(name), content) for name, content in contents.items()]
    assert check(CIRR, cirr_test1, files, "cap", own=True) == []
    assert len(answered.whole) == 4148
    assert 3_900_000 < len(contents["recall.json"]) < 4_100_000 < LIMIT_BYTES
    raw = json.loads(contents["recall.json"])
    spaced = json.dumps(raw).encode()
    assert 4_150_000 < len(spaced) < 4_250_000
    assert parse(CIRR, HERE, spaced).parts == files[0].parts
    assert len(json.dumps(raw, indent=1)) < LIMIT_BYTES
    with pytest.raises(DataError) as error:
        parse(CIRR, HERE, json.dumps(raw, indent=4).encode())
    assert str(error.value) == (
        "file.json: has 5.89 MB; the server takes less than 5 MB: keep 50 names a query and write "
        "compact JSON, without indentation"
    )


@needs_pack
def test_the_official_cirr_demo_files_pass(cirr_test1: RetrievalTask, tmp_path: Path) -> None:
    """The pack has the subset file whole, and of the recall file the first 200 queries."""
    folder = DATA / "cirr/demo_files"
    paths = [
        folder / "test1_pred_ranks_recall.first202keys.json",
        folder / "test1_pred_ranks_recall_subset.json",
    ]
    recall, subset = (parse(CIRR, path, path.read_bytes()) for path in paths)
    assert check(CIRR, cirr_test1, [subset], "cap") == [
        "the file with the metric 'recall' was not given; the server wants both"
    ]
    with pytest.raises(DataError, match="3948 of 4148 queries have no list, the first is '12487'"):
        check(CIRR, cirr_test1, [recall, subset], "cap")
    queries = tuple(q for q in cirr_test1.queries if q.id in recall.parts[""])
    first = RetrievalTask("cirr", queries, cirr_test1.candidates)
    lists = {q.id: subset.parts[""][q.id] for q in queries}
    both = [recall, Lists(paths[1], {"": lists}, subset.header)]
    assert check(CIRR, first, both, "cap") == [
        "cap: 200 queries; the official test1 has 4148, and val 4181"
    ]


@needs_pack
@pytest.mark.parametrize(("split", "named"), [("test", 10), ("val", 1)])
def test_the_official_circo_examples_pass(split: str, named: int, tmp_path: Path) -> None:
    path = DATA / f"circo/submission_examples/submission_{split}.json"
    lists = parse(CIRCO, path, path.read_bytes())
    images = {i for row in lists.parts[""].values() for i in row}
    annotations = DATA / f"circo/annotations/{split}.json"
    images |= {c.id for c in circo.read_task(annotations).candidates}
    gallery = write(tmp_path / "gallery.json", sorted(map(int, images)))
    task = circo.read_task(annotations, circo.read_gallery(gallery))
    (warning,) = check(CIRCO, task, [lists], "annotations")
    assert warning.startswith(f"{path}: {named} lists name their reference image")
