"""From a record to the files for a test server: choose, write, read back, compare."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import submission
from bench.lists import rank_lists
from bench.metrics import metric_k
from bench.submission import Answered
from bench.summary import Metrics, RankedPart, over_sets, summary
from data_recipes import fashioniq
from data_recipes.core import official
from data_recipes.core.dataset import Dataset, open_dataset
from data_recipes.core.model import DataError
from data_recipes.core.protocol import Protocol, protocol
from results.atomic import write_whole
from results.ledger import SentFile
from results.store import LISTS_FILE, RecordStore

Record = Mapping[str, Any]
NEAR = 1e-9


@dataclass(frozen=True)
class Written:
    """files: what was written, in order. metrics: read back from the files, where targets are."""

    split: str
    queries: int
    files: dict[Path, SentFile]
    metrics: Metrics | None
    warnings: list[str]


@dataclass(frozen=True)
class _Part:
    """One part of a record: its files, and for FashionIQ the caption file they are made from."""

    answered: Answered
    split: str
    contents: dict[str, bytes]
    captions: Path | None = None


def title(record: Record) -> str:
    """The record as tables call it: `coop on cirr/test1, 4 shots, seed 1`."""
    cell = record["cell"]
    crossed = "" if cell.get("draw") is None else f", draw {cell['draw']}"
    draw = f", {cell['shots']} shots{crossed}, seed {cell['seed']}" if cell["trains"] else ""
    return f"{cell['variant'] or cell['method']} on {cell['dataset']}/{cell['task']}{draw}"


def folder_name(record: Record) -> str:
    """The record's label and key as a name of a folder; an ablation's label holds its options."""
    label = record["cell"]["variant"] or record["cell"]["method"]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-")
    return f"{plain}-{record['key'][:12]}"


def submittable(store: RecordStore) -> list[dict[str, Any]]:
    """The records that a test server's files can be made of, sorted by key."""
    return [record for record in store.read_all() if _why_not(store, record) is None]


def choose(
    store: RecordStore, keys: Sequence[str] = (), methods: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The records named by the starts of their keys and by method labels; or the only one.

    Raises:
        DataError: a name fits no record or several, or none is named and there are several.
    """
    found = submittable(store)
    if not keys and not methods:
        return [_one(store, found, found, "")]
    chosen = [
        _one(store, [r for r in found if r["key"].startswith(key)], found, key) for key in keys
    ]
    for name in methods:
        own = [r for r in found if name == (r["cell"]["variant"] or r["cell"]["method"])]
        chosen.append(_one(store, own, found, name))
    return list({record["key"]: record for record in chosen}.values())


def write_files(
    store: RecordStore, record: Record, data: Path, captions: Sequence[Path], out: Path
) -> Written:
    """Write the files of one record into `out`, checked before and read back after.

    data: folder of the built datasets. captions: FashionIQ's caption files, whose records are
    part of its form.

    Raises:
        DataError: a rule of the server is broken, the dataset is another one, or `out` holds
            other files of the same names.
    """
    rules = protocol(record["cell"]["protocol"])
    dataset = _dataset(record, data)
    source = f"{data / record['cell']['dataset']}"
    parts = _parts(store, rules, record, dataset, captions)
    warnings: list[str] = []
    for part in parts:
        for name, content in part.contents.items():
            path = out / name
            if path.is_file() and path.read_bytes() != content:
                raise DataError(f"{path}: holds something else; give another folder with --out")
        warnings += _checked(rules, part, part.contents, out, source)
    files: dict[Path, SentFile] = {}
    for part in parts:
        for name, content in part.contents.items():
            write_whole(out / name, content)
            digest = hashlib.sha256(content).hexdigest()
            files[out / name] = SentFile(name=name, bytes=len(content), sha256=digest)
        again = {name: (out / name).read_bytes() for name in part.contents}
        _checked(rules, part, again, out, source)
    metrics = _metrics(rules, parts)
    if metrics is not None:
        warnings += _compare(rules, record, metrics, bool(dataset.missing))
    queries = sum(len(part.answered.task.queries) for part in parts)
    return Written(parts[0].split, queries, files, metrics, warnings)


def _why_not(store: RecordStore, record: Record) -> str | None:
    try:
        submission.family(protocol(record["cell"]["protocol"]))
    except DataError as error:
        return str(error)
    if not (store.folder(record["key"]) / LISTS_FILE).is_file():
        return "its ranked lists were not kept; delete its folder and run the study again"
    return None


def _one(
    store: RecordStore, found: list[dict[str, Any]], known: list[dict[str, Any]], name: str
) -> dict[str, Any]:
    if len(found) == 1:
        return found[0]
    listed = "".join(f"\n  {r['key'][:12]}  {title(r)}" for r in found or known)
    if found:
        which = f"{name!r} fits {len(found)} records" if name else f"{len(found)} records"
        raise DataError(f"{store.root}: {which} that can be submitted; name one by --key:{listed}")
    for record in store.read_all():
        if name and record["key"].startswith(name):
            raise DataError(f"{store.root}: {record['key'][:12]}: {_why_not(store, record)}")
    if known:
        raise DataError(
            f"{store.root}: no record that can be submitted is called {name!r}; there are:{listed}"
        )
    raise DataError(
        f"{store.root}: no record there can be submitted; run a study on cirr, circo or "
        "fashioniq-original first"
    )


def _dataset(record: Record, data: Path) -> Dataset:
    folder = data / record["cell"]["dataset"]
    dataset = open_dataset(folder)
    wanted = str(record["identity"].get("dataset_digest"))
    if dataset.manifest.digest != wanted:
        raise DataError(
            f"{folder}: digest {dataset.manifest.digest[:12]}, the record was made with "
            f"{wanted[:12]}; name the folder of those datasets with --data"
        )
    return dataset


def _parts(
    store: RecordStore,
    rules: Protocol,
    record: Record,
    dataset: Dataset,
    captions: Sequence[Path],
) -> list[_Part]:
    kind = submission.family(rules)
    if captions and kind != "fashioniq":
        raise DataError(f"{rules.name} needs no --annotations; leave {captions[0]} out")
    table = store.read_lists(record["key"])
    assert table is not None  # `choose` takes records with lists only
    answers = {
        str(part): (
            dict(zip(rows["query_id"], rows["candidates"], strict=True)),
            dict(zip(rows["query_id"], rows["subset"], strict=True)),
        )
        for part, rows in table.groupby("part")
    }
    tasks = dataset.task(record["cell"]["task"]).evaluate
    for task in tasks:
        whole = answers.get(task.name, ({}, {}))[0]
        if set(whole) != {q.id for q in task.queries} or len(answers) != len(tasks):
            raise DataError(
                f"{store.folder(record['key'])}: its lists are not of the queries of "
                f"{record['cell']['dataset']}/{record['cell']['task']}, part {task.name!r}; delete "
                "the folder and run the study again"
            )
    if kind != "fashioniq" and len(tasks) != 1:
        raise DataError(f"{rules.name} has one part, {title(record)} has {len(tasks)}")
    by_category = {fashioniq.read_captions(path).category: path for path in captions}
    parts = []
    for task in tasks:
        whole, subset = answers[task.name]
        if kind == "fashioniq":
            answered = Answered(task, whole)
            parts.append(_fashioniq(answered, by_category.get(task.name)))
            continue
        split = submission.SPLITS[kind].get(len(task.queries), f"{len(task.queries)}-queries")
        if kind == "cirr":
            if any(row is None for row in subset.values()):
                raise DataError(f"{title(record)}: its lists have no subset; run the cell again")
            answered = Answered(task, whole, subset)
            parts.append(_Part(answered, split, submission.cirr_contents(answered)))
        else:
            answered = Answered(task, whole)
            parts.append(_Part(answered, split, submission.circo_contents(answered, split)))
    return parts


def _fashioniq(answered: Answered, captions: Path | None) -> _Part:
    name = answered.task.name
    if captions is None:
        raise DataError(
            f"FashionIQ's form is its caption file with rankings: name that of {name} with "
            f"--annotations cap.{name}.test.json"
        )
    records = official.read_records(captions, "the captions of one category")
    queries = answered.task.queries
    if [r.get("candidate") for r in records] != [query.image for query in queries]:
        raise DataError(
            f"{captions}: its {len(records)} records have other references than the "
            f"{len(queries)} queries of the dataset's part {name!r}; name the file it was built of"
        )
    words = captions.name.split(".")
    split = words[2] if words[0] == "cap" and len(words) == 4 else "test"
    contents = submission.fashioniq_contents(answered, split, records)
    return _Part(answered, split, contents, captions)


def _checked(
    rules: Protocol, part: _Part, contents: Mapping[str, bytes], out: Path, source: str
) -> list[str]:
    """Every rule of the server, and that the contents hold the record's own lists."""
    files = [submission.parse(rules, out / name, content) for name, content in contents.items()]
    warnings = submission.check(rules, part.answered.task, files, source, own=True)
    for lists in files:
        subset = lists.header.get("metric") == "recall_subset"
        if lists.parts[""] != (part.answered.subset if subset else part.answered.whole):
            raise DataError(f"{lists.path}: does not hold the record's lists; is the disk sound?")
    return warnings


def _metrics(rules: Protocol, parts: Sequence[_Part]) -> Metrics | None:
    """The protocol's metrics of the written lists; None where the targets are withheld."""
    answers = [part.answered for part in parts]
    if not any(query.relevant for one in answers for query in one.task.queries):
        return None
    sets = {
        one.task.name: summary(
            rules, [RankedPart(one.task, rank_lists(one.task, one.whole, one.subset))]
        )
        for one in answers
    }
    return over_sets(rules, sets)


def _compare(rules: Protocol, record: Record, found: Metrics, incomplete: bool) -> list[str]:
    """Refuse files whose metrics are not the record's, except where ties or lost images can be why.

    A list breaks ties by the order of the gallery, a record's metrics against the method.
    """
    told: Mapping[str, float] = record["metrics"]
    deepest = submission.kept(rules)[0]
    differing = [
        f"{name} is {value:.6f} by the files, {told[name]:.6f} by the record"
        for name, value in found.items()
        if value is not None and name in told and abs(value - told[name]) > NEAR
        if metric_k(name.rsplit("/", 1)[-1].removeprefix("mean ")) <= deepest
    ]
    if not differing:
        return []
    if record["tie_rate"] > 0 or incomplete:
        why = "ties" if record["tie_rate"] > 0 else "images that the dataset lacks"
        return [f"{why} make a difference: {line}" for line in differing]
    raise DataError(
        f"{title(record)}: {differing[0]}; its lists and its metrics are not of one ranking: "
        "delete its folder and run the study again"
    )
