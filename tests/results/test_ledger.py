"""The ledger only grows, and every line is checked when it is read."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from results.ledger import (
    LEDGER_FILE,
    Answer,
    SentFile,
    Submission,
    find_submission,
    note_answer,
    note_submission,
    read_ledger,
)
from results.schema import RecordError

FILES = [SentFile(name="recall.json", bytes=10, sha256="ab" * 32)]


def note(root: Path, note: str = "") -> Submission:
    return note_submission(root, "k" * 8, "cirr/1", "test1", 4148, FILES, note)


def test_lines_are_added_and_never_changed(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    texts = []
    first = note(tmp_path, "as in the paper")
    texts.append((tmp_path / LEDGER_FILE).read_bytes())
    second = note(tmp_path)
    texts.append((tmp_path / LEDGER_FILE).read_bytes())
    answer = note_answer(tmp_path, first.id[:6], {"Recall@1": 35.27}, "on the backup host")
    texts.append((tmp_path / LEDGER_FILE).read_bytes())
    again = note_answer(tmp_path, first.id, {"Recall@1": 35.3})
    texts.append((tmp_path / LEDGER_FILE).read_bytes())
    for before, after in pairwise(texts):
        assert after.startswith(before)
        assert after.count(b"\n") == before.count(b"\n") + 1
    assert read_ledger(tmp_path) == [first, second, answer, again]
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER_FILE]


def test_a_line_says_when_what_and_which_bytes(tmp_path: Path) -> None:
    note(tmp_path, "n")
    (line,) = (tmp_path / LEDGER_FILE).read_text().splitlines()
    found = json.loads(line)
    assert found.pop("when").endswith("+00:00")
    assert len(found.pop("id")) == 12
    assert found == {
        "kind": "submission",
        "key": "kkkkkkkk",
        "protocol": "cirr/1",
        "split": "test1",
        "queries": 4148,
        "files": [{"name": "recall.json", "bytes": 10, "sha256": "ab" * 32}],
        "note": "n",
    }


def test_the_same_submission_twice_has_two_ids(tmp_path: Path) -> None:
    assert note(tmp_path).id != note(tmp_path).id


def test_scores_need_a_submission(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no submission has the id 'abc'; it has: none yet"):
        note_answer(tmp_path, "abc", {"Recall@1": 1.0})
    one, _ = note(tmp_path), note(tmp_path)
    with pytest.raises(RecordError, match=f"no submission has the id ''; it has: {one.id}, "):
        find_submission(tmp_path, "")
    with pytest.raises(RecordError, match="the score Recall@1 is nan"):
        note_answer(tmp_path, one.id, {"Recall@1": float("nan")})
    assert not any(isinstance(entry, Answer) for entry in read_ledger(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "Invalid JSON"),
        ('{"kind": "other"}', "does not match any of the expected tags"),
        ('{"kind": "score", "of": "x", "when": "t", "scores": {}}', "score.scores: Dictionary"),
        ('{"kind": "score", "of": "x", "when": "t", "scores": {"a": 1}, "b": 2}', "score.b: Extra"),
        ('{"kind": "score", "of": "x", "when": "t", "scores": {"a": 1}}', "scores of 'x', which"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    note(tmp_path)
    with (tmp_path / LEDGER_FILE).open("a") as ledger:
        ledger.write(line + "\n")
    with pytest.raises(RecordError, match=rf"submissions.jsonl:2: .*{message}"):
        read_ledger(tmp_path)
    with pytest.raises(RecordError, match=r"submissions\.jsonl:2"):
        note(tmp_path)
