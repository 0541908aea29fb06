"""Files for the hidden test servers of CIRR, CIRCO and FashionIQ: their contents and every rule.

Pure functions from ranked ids to bytes, and from bytes back to checked ranked ids.

- CIRR (Test-split_server.md): two files, {"version": "rc2", "metric": "recall" or
  "recall_subset", pairid: names}, 50 and 3 names, without ".png", never the reference, at most
  5 MB each. The early form without "metric" is not taken.
- CIRCO (README): {"0": [50 ids], ...}, whole numbers, all 800 queries. Its evaluator takes a part
  of the queries, and ids as text, without a word; so they are refused here.
- FashionIQ (start_kit/eval.py): the caption file's records, each with a "ranking" of 50 ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.predictions import Lists, from_json
from bench.score_lists import check_lists
from data_recipes import cirr
from data_recipes.core import strict_json
from data_recipes.core.model import DataError, RetrievalTask
from data_recipes.core.official import kind_of
from data_recipes.core.protocol import Protocol

LIMIT_BYTES = 5_000_000
"""The CIRR server's "5MB", read the narrower way."""

SPLITS = {
    "cirr": {4148: "test1", 4181: "val"},
    "circo": {800: "test", 220: "val"},
}
"""Number of queries -> split. FashionIQ's shirts have 2038 in val and in test, so it has none."""

CIRR_FILES = {"recall": "recall.json", "recall_subset": "recall_subset.json"}
Answers = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Answered:
    """One part's ranked ids. whole: query id -> ids, best first; subset: the same (CIRR)."""

    task: RetrievalTask
    whole: Answers
    subset: Answers | None = None


def family(rules: Protocol) -> str:
    """The form of file that `rules` has: "cirr", "circo" or "fashioniq".

    Raises:
        DataError: it has none.
    """
    name = rules.name.split("/")[0]
    if name in ("cirr", "cirr-soft", "cirr-server", "circo"):
        return name.split("-")[0]
    if name == "fashioniq-original":
        return "fashioniq"
    raise DataError(
        f"{rules.name} has no form for a test server; those that have one: cirr, circo, "
        "fashioniq-original"
    )


def kept(rules: Protocol) -> tuple[int, int]:
    """How many ids the server takes of each ranking, and of each subset's (0: none)."""
    if rules.kept is None:
        raise DataError(f"{rules.name} keeps no ranked lists")
    return rules.kept


def cirr_contents(answered: Answered) -> dict[str, bytes]:
    """CIRR's two files, by name."""
    lists = {"recall": answered.whole, "recall_subset": answered.subset or {}}
    return {
        CIRR_FILES[metric]: _compact(
            {"version": cirr.VERSION, "metric": metric}
            | {query.id: list(found[query.id]) for query in answered.task.queries}
        )
        for metric, found in lists.items()
    }


def circo_contents(answered: Answered, split: str) -> dict[str, bytes]:
    """CIRCO's one file, by name."""
    lists = {q.id: [int(i) for i in answered.whole[q.id]] for q in answered.task.queries}
    return {f"{split}.json": _compact(lists)}


def fashioniq_contents(
    answered: Answered, split: str, records: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """One category's file, by name. records: those of its caption file, in order."""
    queries = answered.task.queries
    made = [
        {**record, "ranking": list(answered.whole[query.id])}
        for record, query in zip(records, queries, strict=True)
    ]
    return {f"{answered.task.name}.{split}.pred.json": _compact(made)}


def parse(rules: Protocol, path: Path, content: bytes) -> Lists:
    """The ranked ids in a submission file, after every rule that needs no annotations.

    path: named in errors.

    Raises:
        DataError: naming the file, the query and the way out.
    """
    kind = family(rules)
    if kind == "cirr" and len(content) >= LIMIT_BYTES:
        raise DataError(
            f"{path}: has {len(content) / 1e6:.2f} MB; the server takes less than "
            f"{LIMIT_BYTES / 1e6:.0f} MB: keep {kept(rules)[0]} names a query and write compact "
            "JSON, without indentation"
        )
    try:
        raw = strict_json.loads(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from None
    wanted = list if kind == "fashioniq" else dict
    if not isinstance(raw, wanted):
        form = "the caption file's records" if wanted is list else "an object query id -> ids"
        raise DataError(f"{path}: holds {kind_of(raw)}, the {rules.name} server takes {form}")
    found = from_json(path, raw)
    if not isinstance(found, Lists) or set(found.parts) != {""}:
        raise DataError(f"{path}: the {rules.name} server takes ranked ids of one split only")
    if kind == "cirr":
        _check_header(path, found.header)
    elif kind == "circo" and found.header:
        raise DataError(
            f"{path}: the key {next(iter(found.header))!r} is no query; CIRCO's file holds query "
            "ids only"
        )
    _check_kinds(kind, path, raw)
    return found


def check(
    rules: Protocol,
    task: RetrievalTask,
    files: Sequence[Lists],
    source: str,
    closed: bool = True,
    own: bool = False,
) -> list[str]:
    """Check parsed files of one part against its queries and candidates; returns warnings.

    source: what the task was read from, for messages. closed: all candidates are known.
    own: what is a warning in files of others is an error in ours (the order in CIRR's two files).

    Raises:
        DataError: naming the file, the query and the way out.
    """
    kind, (k, subset_k) = family(rules), kept(rules)
    warnings = _check_task(kind, task, k, source, closed)
    by_metric: dict[str, Lists] = {}
    for lists in files:
        metric = str(lists.header.get("metric", "recall"))
        if metric in by_metric:
            raise DataError(
                f"{lists.path}: holds the metric {metric!r}, and so does {by_metric[metric].path}"
            )
        by_metric[metric] = lists
        answers = lists.parts[""]
        check_lists(lists.path, task, answers, closed)
        _check_complete(lists.path, task, answers, k if metric == "recall" else subset_k)
    whole, subset = by_metric.get("recall"), by_metric.get("recall_subset")
    if whole is not None and kind != "fashioniq":
        warnings += _check_references(kind, task, whole)
    if subset is not None:
        _check_members(task, subset)
    if whole is not None and subset is not None:
        warnings += _check_order(task, whole, subset, own)
    elif kind == "cirr":
        absent = "recall" if whole is None else "recall_subset"
        warnings.append(f"the file with the metric {absent!r} was not given; the server wants both")
    return warnings


def check_records(path: Path, raw: Any, records: Sequence[Mapping[str, Any]]) -> None:
    """FashionIQ's file is the caption file itself, with a "ranking" in each record.

    Raises:
        DataError: naming the first record that differs, and where.
    """
    for number, (found, record) in enumerate(zip(raw, records, strict=False)):
        for field in dict.fromkeys([*record, *found]):
            if field != "ranking" and (
                field not in record or field not in found or found[field] != record[field]
            ):
                raise DataError(
                    f"{path}: record {number}: {field!r} is {found.get(field)!r}, in the caption "
                    f"file {record.get(field)!r}; add 'ranking' to its records, in their order, "
                    "and change nothing else"
                )


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    rules = (("version", (cirr.VERSION,)), ("metric", tuple(CIRR_FILES)))
    for key, allowed in rules:
        if header.get(key) not in allowed:
            found = repr(header[key]) if key in header else "missing"
            raise DataError(
                f"{path}: the key {key!r} is {found}, expected {' or '.join(map(repr, allowed))} "
                "(the early form of test.rand.v0.json is not taken)"
            )


def _check_kinds(kind: str, path: Path, raw: Any) -> None:
    """The ids as JSON values: numbers for CIRCO, names for the others."""
    rows = enumerate(r["ranking"] for r in raw) if isinstance(raw, list) else raw.items()
    for query, ids in rows:
        for value in ids if isinstance(ids, list) else ():
            where = f"{path}: query {str(query)!r}: "
            if kind == "circo":
                if isinstance(value, str):
                    number = Path(value).stem
                    way = f"here {int(number)}" if number.isdecimal() else "not a name"
                    raise DataError(f"{where}{value!r} is text; a COCO id is a whole number, {way}")
                if value < 0:
                    raise DataError(f"{where}{value} is no COCO id; ids are not negative")
            elif not isinstance(value, str):
                raise DataError(f"{where}{value} is a number; ids are image names, as text")
            elif Path(value).suffix in (".png", ".jpg"):
                raise DataError(
                    f"{where}{value!r} is a file name; write the image's name without its ending"
                )


def _check_task(kind: str, task: RetrievalTask, k: int, source: str, closed: bool) -> list[str]:
    """The split itself: how many queries, and galleries that can fill a list."""
    count = len(task.queries)
    if kind == "circo" and (
        count not in SPLITS[kind] or {q.id for q in task.queries} != {*map(str, range(count))}
    ):
        raise DataError(
            f"{source}: has {count} queries; the server takes all 800 of test (val has 220), with "
            "the ids 0 to 799: use the whole official file"
        )
    for query in task.queries if closed else ():
        gallery = task.position if query.gallery is None else set(query.gallery)
        left = len(gallery) - sum(image in gallery for image in query.excluded)
        if left < k:
            raise DataError(
                f"{source}: query {query.id!r}: its gallery has {left} images, the server takes "
                f"{k} of them; use the whole gallery of the split"
            )
    if kind == "cirr" and count not in SPLITS[kind]:
        return [f"{source}: {count} queries; the official test1 has 4148, and val 4181"]
    return []


def _check_complete(path: Path, task: RetrievalTask, answers: Answers, k: int) -> None:
    gone = [query.id for query in task.queries if query.id not in answers]
    if gone:
        raise DataError(
            f"{path}: {len(gone)} of {len(task.queries)} queries have no list, the first is "
            f"{gone[0]!r}; the server takes all of them"
        )
    for query, ids in answers.items():
        if len(ids) != k:
            raise DataError(f"{path}: query {query!r}: has {len(ids)} ids, expected exactly {k}")


def _check_references(kind: str, task: RetrievalTask, lists: Lists) -> list[str]:
    """CIRR takes the reference out of the gallery; CIRCO leaves it in, to no one's profit."""
    named = [q.id for q in task.queries if q.image in lists.parts[""][q.id]]
    if not named:
        return []
    if kind == "cirr":
        raise DataError(
            f"{lists.path}: query {named[0]!r}: the list names the reference image"
            f"{_more(named)}; take it out before ranking"
        )
    return [
        f"{lists.path}: {len(named)} lists name their reference image, the first is query "
        f"{named[0]!r}: legal, and never a hit"
    ]


def _check_members(task: RetrievalTask, lists: Lists) -> None:
    for query in task.queries:
        strange = [i for i in lists.parts[""][query.id] if i not in (query.subset or ())]
        if strange:
            what = "the reference" if strange[0] == query.image else "not in the image set"
            raise DataError(
                f"{lists.path}: query {query.id!r}: {strange[0]!r} is {what}; the subset is the "
                f"{len(query.subset or ())} other members of it"
            )


def _check_order(task: RetrievalTask, whole: Lists, subset: Lists, own: bool) -> list[str]:
    """The members among the first 50 must head the subset's list, in the same order."""
    wrong = []
    for query in task.queries:
        listed = subset.parts[""][query.id]
        first = [i for i in whole.parts[""][query.id] if i in (query.subset or ())]
        head = first[: len(listed)]
        if listed[: len(head)] != head:
            wrong.append(query.id)
    if not wrong:
        return []
    said = (
        f"{subset.path}: query {wrong[0]!r}: orders the image set otherwise than {whole.path}"
        f"{_more(wrong)}"
    )
    if own:
        raise DataError(f"{said}; both lists must come from one ranking")
    return [f"{said}: are they of the same model?"]


def _more(found: Sequence[str]) -> str:
    return f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
