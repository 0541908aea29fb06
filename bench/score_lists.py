"""Ranked-id predictions against a protocol's official tasks: every rule of the form, then ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.lists import rank_lists
from bench.metrics import metric_k, of_subset
from bench.missing import Missing, Ranked, absence, divide
from bench.official_sets import OfficialSet
from bench.predictions import Lists, read_predictions
from bench.summary import RankedPart
from data_recipes import cirr
from data_recipes.core.model import DataError, RetrievalTask
from data_recipes.core.protocol import Protocol

Answers = Mapping[str, Sequence[str]]


def from_lists(
    rules: Protocol, official: OfficialSet, lists: Lists, subset: Path | None, policy: Missing
) -> Ranked:
    """Rank `lists`, after checking each against the official queries and candidates.

    subset: CIRR's recall_subset file.

    Raises:
        DataError: naming the file, the query and the way out.
    """
    _check_header(rules, lists, "recall")
    answers = _by_part(rules, official, lists)
    notes = []
    for part in official.whole:
        check_lists(lists.path, part, answers[part.name], official.closed)
        notes += _lengths(rules, part, answers[part.name])
    _check_references(official.whole[0], lists)
    if not official.closed:
        notes.append("no --gallery: ids that are no image of the gallery cannot be told")
    subset_answers: Answers | None = None
    if subset is not None:
        subset_answers = _subset_file(rules, official.whole[0], subset, answers)
    elif any(of_subset(metric) for metric in rules.metrics):
        notes.append(
            "no --subset file: Recall_subset is read off the rankings; members that a ranking "
            "does not reach count as not retrieved"
        )
    folds: list[list[RankedPart]] = []
    answered, absent = 0, 0
    for fold in official.folds:
        folds.append([])
        for task in fold:
            there, gone = divide(rules, lists.path, task, answers[task.name], policy)
            kept = task if policy == "miss" else there
            ranked = rank_lists(kept, answers[task.name], subset_answers)
            folds[-1].append(RankedPart(kept, ranked))
            answered, absent = answered + len(there.queries), absent + len(gone.queries)
    return Ranked(folds, answered, absent, notes + absence(answered, absent, policy))


def whole_numbers(lists: Lists) -> Lists:
    """COCO ids as plain numbers: the official evaluator reads "009761" as 9761.

    Raises:
        DataError: an id is no number, or two query ids are one number.
    """
    parts: dict[str, dict[str, list[str]]] = {}
    for part, queries in lists.parts.items():
        found: dict[str, list[str]] = {}
        for query, names in queries.items():
            bad = [n for n in (query, *names) if not (n.isascii() and n.isdigit())]
            if bad:
                raise DataError(
                    f"{lists.path}: query {query!r}: {bad[0]!r} is no COCO id; write the number "
                    "alone, without folder and file ending"
                )
            number = str(int(query))
            if number in found:
                raise DataError(f"{lists.path}: query {query!r}: stands twice, as {number} too")
            found[number] = [str(int(n)) for n in names]
        parts[part] = found
    return replace(lists, parts=parts)


def _by_part(rules: Protocol, official: OfficialSet, lists: Lists) -> dict[str, Answers]:
    names = [part.name for part in official.whole]
    if len(names) == 1 and set(lists.parts) == {""}:
        return {names[0]: lists.parts[""]}
    if set(lists.parts) != set(names):
        raise DataError(
            f"{lists.path}: expected "
            + ("query id -> ranked ids" if len(names) == 1 else f"one object each for {names}")
            + f" ({rules.name}), found "
            + (f"the parts {sorted(lists.parts)}" if "" not in lists.parts else "no parts")
        )
    return dict(lists.parts)


def _check_header(rules: Protocol, lists: Lists, metric: str) -> None:
    """CIRR's server files say their version and metric; a file that does must be the right one."""
    header = {k: v for k, v in lists.header.items() if k != "references"}
    if not header:
        return
    if not rules.name.startswith("cirr"):
        raise DataError(
            f"{lists.path}: {sorted(header)[0]!r} is no list of ids; {rules.name} has query "
            "ids only"
        )
    wanted = {"version": cirr.VERSION, "metric": metric}
    for key, value in wanted.items():
        if header.get(key) != value:
            found = repr(header[key]) if key in header else "missing"
            option = "--subset" if metric == "recall" else "--predictions"
            raise DataError(
                f"{lists.path}: the key {key!r} is {found}, expected {value!r}"
                + (f"; is this the file for {option}?" if key == "metric" else "")
            )


def _check_references(task: RetrievalTask, lists: Lists) -> None:
    references = lists.header.get("references", ())
    for query, reference in zip(task.queries, references, strict=False):
        if reference is not None and reference != query.image:
            raise DataError(
                f"{lists.path}: record {query.id}: the candidate is {reference!r}, in the "
                f"annotations {query.image!r}; keep the official order"
            )


def check_lists(path: Path, task: RetrievalTask, answers: Answers, closed: bool) -> None:
    """Refuse unknown queries, ids that stand twice in a list and, where `closed`, unknown ids."""
    queries = {q.id for q in task.queries}
    strange = [query for query in answers if query not in queries]
    if strange:
        raise DataError(
            f"{path}: query {strange[0]!r} is not in the annotations{_more(strange)}; they have "
            f"{len(queries)} queries, the first is {task.queries[0].id!r}"
        )
    for query, names in answers.items():
        if len(set(names)) < len(names):
            twice, times = Counter(names).most_common(1)[0]
            raise DataError(
                f"{path}: query {query!r}: {twice!r} stands {times} times in the list; name each "
                "candidate once"
            )
        unknown = [n for n in names if n not in task.position] if closed else []
        if unknown:
            raise DataError(
                f"{path}: query {query!r}: {unknown[0]!r} is no candidate{_more(unknown)}; ids are "
                f"those of the gallery, for instance {task.candidates[0].id!r}"
            )


def _lengths(rules: Protocol, task: RetrievalTask, answers: Answers) -> list[str]:
    """Notes on lists shorter than K, and on lists that name an excluded candidate."""
    notes = []
    excluded = {q.id: set(q.excluded) for q in task.queries if q.excluded}
    named = sum(not excluded.get(query, set()).isdisjoint(row) for query, row in answers.items())
    if named:
        notes.append(f"{named} lists name their reference image; it was removed before ranking")
    shortest = min(len(row) for row in answers.values())
    beyond = [m for m in rules.metrics if not of_subset(m) and metric_k(m) > shortest]
    if beyond and shortest < len(task.candidates) - 1:
        notes.append(
            f"the shortest list has {shortest} ids; what it does not name counts as not retrieved "
            f"in {', '.join(beyond)}"
        )
    return notes


def _subset_file(
    rules: Protocol, task: RetrievalTask, path: Path, answers: Mapping[str, Answers]
) -> Answers:
    """CIRR's recall_subset file: for the same queries, names of the other 5 members only."""
    lists = read_predictions(path)
    if not isinstance(lists, Lists) or set(lists.parts) != {""}:
        raise DataError(f"{path}: expected CIRR's recall_subset file: pairid -> ranked names")
    _check_header(rules, lists, "recall_subset")
    found = lists.parts[""]
    check_lists(path, task, found, closed=True)
    ranked = answers[task.name]
    for one, other, where in ((ranked, found, "here"), (found, ranked, "in --predictions")):
        lacking = [query for query in one if query not in other]
        if lacking:
            raise DataError(
                f"{path}: query {lacking[0]!r} is not ranked {where}{_more(lacking)}; both files "
                "hold the same queries"
            )
    for query in task.queries:
        strange = [n for n in found.get(query.id, ()) if n not in (query.subset or ())]
        if strange:
            raise DataError(
                f"{path}: query {query.id!r}: {strange[0]!r} is not one of the 5 other members of "
                "its image set (the reference is none of them)"
            )
    return found


def _more(found: Sequence[str]) -> str:
    return f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
