"""`promptgrid submit --check`: every wrong file is refused with one message and exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers import CIRR, IMAGES, Run, circo_annotations, circo_file, get, put, submit_command

Change = Callable[[Any], Any]
CIRCO = "--check --protocol circo --annotations circo/val.json --gallery circo/gallery.json"
FASHIONIQ = (
    "--check --protocol fashioniq-original --annotations cap.dress.test.json "
    "--gallery split.dress.json"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return submit_command(tmp_path / "there", monkeypatch, capsys)


def also(**keys: Any) -> Change:
    """Adds or replaces keys ("_1" is "1")."""
    return lambda value: value | {k.removeprefix("_"): v for k, v in keys.items()}


def without(key: str) -> Change:
    return lambda value: {k: v for k, v in value.items() if k != key}


def in_list(query: str, change: Change) -> Change:
    return lambda value: value | {query: change(value[query])}


def first(value: Any) -> Change:
    """The list with another first id."""
    return lambda ids: [value, *ids[1:]]


def record(number: int, **keys: Any) -> Change:
    return lambda records: [r | keys if i == number else r for i, r in enumerate(records)]


def test_sound_files(run: Run) -> None:
    code, out, err = run(f"{CIRR} recall.json subset.json")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"recall.json: sound: recall, 10 queries, 50 ids each, {size('recall.json')}",
        f"subset.json: sound: recall_subset, 10 queries, 3 ids each, {size('subset.json')}",
        "warning: cap.rc2.test1.json: 10 queries; the official test1 has 4148, and val 4181",
        *[
            f"warning: {name} is not the official file (its digest is none of the cirr files known)"
            for name in ("cap.rc2.test1.json", "split.json")
        ],
    ]
    assert run(f"{CIRR} subset.json recall.json")[0] == 0
    for words, name, what in (
        (f"{CIRCO} circo.json", "circo.json", "ranked ids, 220 queries, 50"),
        (f"{FASHIONIQ} dress.json", "dress.json", "ranked ids, 4 queries, 50"),
    ):
        code, out, err = run(words)
        assert (code, err) == (0, "")
        assert out.startswith(f"{name}: sound: {what} ids each, {size(name)}\n")


def size(name: str) -> str:
    count = Path(name).stat().st_size
    return f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count} bytes"


NOT_50 = "expected exactly 50"
WRONG_CIRR: list[tuple[str, Change, str]] = [
    # which queries
    (
        "recall",
        also(_99=IMAGES[:50]),
        "query '99' is not in the annotations; they have 10 queries, the first is '12000'",
    ),
    (
        "recall",
        without("12003"),
        "1 of 10 queries have no list, the first is '12003'; the server takes all of them",
    ),
    (
        "subset",
        without("12009"),
        "1 of 10 queries have no list, the first is '12009'; the server takes all of them",
    ),
    # how many names
    ("recall", in_list("12000", lambda i: i[:49]), f"query '12000': has 49 ids, {NOT_50}"),
    (
        "recall",
        in_list("12000", lambda i: [*i, *(set(IMAGES[1:]) - {*i})][:51]),
        f"query '12000': has 51 ids, {NOT_50}",
    ),
    ("subset", in_list("12000", lambda i: i[:2]), "query '12000': has 2 ids, expected exactly 3"),
    # which names
    (
        "recall",
        in_list("12001", lambda i: [i[1], *i[1:]]),
        "query '12001': '{1}' stands 2 times in the list; name each candidate once",
    ),
    (
        "recall",
        in_list("12001", first("61")),
        "query '12001': '61' is no candidate; ids are those of the gallery, for instance '1'",
    ),
    (
        "recall",
        in_list("12001", first("7.png")),
        "query '12001': '7.png' is a file name; write the image's name without its ending",
    ),
    (
        "recall",
        in_list("12001", lambda i: ["2", *[n for n in i if n != "2"]][:50]),
        "query '12001': the list names the reference image; take it out before ranking",
    ),
    (
        "subset",
        in_list("12001", first("60")),
        "query '12001': '60' is not in the image set; the subset is the 5 other members of it",
    ),
    (
        "subset",
        in_list("12001", first("2")),
        "query '12001': '2' is the reference; the subset is the 5 other members of it",
    ),
    # the header
    (
        "recall",
        also(version="rc1"),
        "the key 'version' is 'rc1', expected 'rc2' (the early form of test.rand.v0.json is not "
        "taken)",
    ),
    (
        "recall",
        without("version"),
        "the key 'version' is missing, expected 'rc2' (the early form of test.rand.v0.json is not "
        "taken)",
    ),
    (
        "recall",
        without("metric"),
        "the key 'metric' is missing, expected 'recall' or 'recall_subset' (the early form of "
        "test.rand.v0.json is not taken)",
    ),
    (
        "recall",
        lambda v: without("metric")(v) | {"version": "v0"},
        "the key 'version' is 'v0', expected 'rc2' (the early form of test.rand.v0.json is not "
        "taken)",
    ),
    (
        "recall",
        also(metric="Recall"),
        "the key 'metric' is 'Recall', expected 'recall' or 'recall_subset' (the early form of "
        "test.rand.v0.json is not taken)",
    ),
    ("subset", also(metric="recall"), "holds the metric 'recall', and so does recall.json"),
    # the form
    (
        "recall",
        in_list("12000", lambda i: [int(n) for n in i]),
        "ids are text in query '12001' and numbers in query '12000', so that one image could "
        "count twice; write all of them in one form",
    ),
    (
        "recall",
        lambda v: {k: [int(n) for n in x] if isinstance(x, list) else x for k, x in v.items()},
        "query '12000': {0} is a number; ids are image names, as text",
    ),
    (
        "recall",
        also(_12000="7"),
        "query '12000': is text, expected a list of candidate ids",
    ),
    ("recall", also(_12000=[]), "query '12000': the list is empty; rank something"),
    (
        "recall",
        in_list("12000", first(None)),
        "query '12000': names None, which is null; a candidate id is text or a whole number",
    ),
    (
        "recall",
        lambda v: [v],
        "holds a list, the cirr/1 server takes an object query id -> ids",
    ),
    (
        "recall",
        lambda _: {"rows": [[1.0, 2.0]]},
        "the cirr/1 server takes ranked ids of one split only",
    ),
    (
        "recall",
        lambda v: {"i2t": without("version")(without("metric")(v))},
        "the cirr/1 server takes ranked ids of one split only",
    ),
    (
        "recall",
        lambda v: json.dumps(v)[:-1] + ', "12000": []}',
        "the key '12000' occurs twice in one object; fetch or build the file again",
    ),
    (
        "recall",
        lambda v: json.dumps(in_list("12000", first(float("nan")))(v)),
        "NaN is not JSON; fetch or build the file again",
    ),
    ("recall", lambda _: "", "the file is empty; fetch or build it again"),
    (
        "recall",
        lambda _: "{",
        "not JSON at line 1, column 2: Expecting property name enclosed in double quotes; fetch or "
        "build the file again",
    ),
    ("recall", lambda _: b"\xff{}", "not UTF-8 at byte 0"),
    (
        "recall",
        lambda v: json.dumps(v) + " " * 5_000_000,
        "has 5.00 MB; the server takes less than 5 MB: keep 50 names a query and write compact "
        "JSON, without indentation",
    ),
]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    WRONG_CIRR,
    ids=[f"{name}: {message[:50]}" for name, _, message in WRONG_CIRR],
)
def test_wrong_cirr_files(run: Run, name: str, change: Change, message: str) -> None:
    sound = get(f"{name}.json")
    put(f"{name}.json", change(sound))
    message = message.replace("{1}", sound["12001"][1]).replace("{0}", sound["12000"][0])
    code, out, err = run(f"{CIRR} recall.json subset.json")
    assert (code, out, err) == (2, "", f"error: {name}.json: {message}\n")


WRONG_CIRCO: list[tuple[Change, str]] = [
    (
        lambda v: {k: list(map(str, x)) for k, x in v.items()},
        "query '0': '{0}' is text; a COCO id is a whole number, here {0}",
    ),
    (
        lambda v: {k: [f"{i:012d}" for i in x] for k, x in v.items()},
        "query '0': '{0:012d}' is text; a COCO id is a whole number, here {0}",
    ),
    (
        lambda v: {k: [f"{i:012d}.jpg" for i in x] for k, x in v.items()},
        "query '0': '{0:012d}.jpg' is text; a COCO id is a whole number, here {0}",
    ),
    (
        lambda v: {k: ["cat.jpg", *map(str, x[1:])] for k, x in v.items()},
        "query '0': 'cat.jpg' is text; a COCO id is a whole number, not a name",
    ),
    (
        in_list("3", lambda x: [*x[:49], str(x[0])]),
        "ids are text in query '3' and numbers in query '0', so that one image could count twice; "
        "write all of them in one form",
    ),
    (in_list("3", first(-4)), "query '3': -4 is no COCO id; ids are not negative"),
    (
        in_list("3", first(1.0)),
        "query '3': names 1.0, which is a number; a candidate id is text or a whole number",
    ),
    (
        in_list("3", first(True)),
        "query '3': names True, which is true or false; a candidate id is text or a whole number",
    ),
    (
        in_list("3", lambda x: [x[1], *x[1:]]),
        "query '3': '{1}' stands 2 times in the list; name each candidate once",
    ),
    (
        in_list("3", first(999)),
        "query '3': '999' is no candidate; ids are those of the gallery, for instance '1'",
    ),
    (in_list("3", lambda x: x[:49]), f"query '3': has 49 ids, {NOT_50}"),
    (
        in_list("3", lambda x: [*x, *({*range(1, 61)} - {*x})][:51]),
        f"query '3': has 51 ids, {NOT_50}",
    ),
    (
        without("219"),
        "1 of 220 queries have no list, the first is '219'; the server takes all of them",
    ),
    (
        without("0"),
        "1 of 220 queries have no list, the first is '0'; the server takes all of them",
    ),
    (
        also(_220=list(range(1, 51))),
        "query '220' is not in the annotations; they have 220 queries, the first is '0'",
    ),
    (
        lambda v: without("7")(v) | {"07": v["7"]},
        "query '07' is not in the annotations; they have 220 queries, the first is '0'",
    ),
    (also(version="rc2"), "the key 'version' is no query; CIRCO's file holds query ids only"),
    (
        lambda v: list(v.values()),
        "holds a list, the circo/1 server takes an object query id -> ids",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG_CIRCO, ids=[m[:50] for _, m in WRONG_CIRCO])
def test_wrong_circo_files(run: Run, change: Change, message: str) -> None:
    sound = get("circo.json")
    put("circo.json", change(sound))
    message = message.replace("{0:012d}", f"{sound['0'][0]:012d}")
    message = message.replace("{0}", str(sound["0"][0])).replace("{1}", str(sound["3"][1]))
    code, out, err = run(f"{CIRCO} circo.json")
    assert (code, out, err) == (2, "", f"error: circo.json: {message}\n")


KEEP = "add 'ranking' to its records, in their order, and change nothing else"
WRONG_FASHIONIQ: list[tuple[Change, str]] = [
    (record(1, candidate="9"), f"record 1: 'candidate' is '9', in the caption file '2'; {KEEP}"),
    (
        lambda v: v[::-1],
        f"record 0: 'candidate' is '4', in the caption file '1'; {KEEP}",
    ),
    (
        record(2, captions=["x"]),
        f"record 2: 'captions' is ['x'], in the caption file ['is bluer', ' ']; {KEEP}",
    ),
    (
        lambda v: [{k: x for k, x in r.items() if k != "captions"} for r in v],
        f"record 0: 'captions' is None, in the caption file ['is bluer', ' ']; {KEEP}",
    ),
    (record(3, score=1), f"record 3: 'score' is 1, in the caption file None; {KEEP}"),
    (
        lambda v: [{"candidate": r["candidate"]} for r in v],
        "record 0: has no list 'ranking'; expected FashionIQ's form, or an object query id -> "
        "ranked candidate ids",
    ),
    (record(1, ranking=IMAGES[:49]), f"query '1': has 49 ids, {NOT_50}"),
    (
        record(1, ranking=["1", *IMAGES[:49]]),
        "query '1': '1' stands 2 times in the list; name each candidate once",
    ),
    (
        record(1, ranking=["x", *IMAGES[:49]]),
        "query '1': 'x' is no candidate; ids are those of the gallery, for instance '1'",
    ),
    (
        record(1, ranking=["1.jpg", *IMAGES[1:50]]),
        "query '1': '1.jpg' is a file name; write the image's name without its ending",
    ),
    (
        lambda v: [r | {"ranking": list(range(1, 51))} for r in v],
        "query '0': 1 is a number; ids are image names, as text",
    ),
    (
        lambda v: v[:3],
        "1 of 4 queries have no list, the first is '3'; the server takes all of them",
    ),
    (
        lambda v: [*v, v[0]],
        "query '4' is not in the annotations; they have 4 queries, the first is '0'",
    ),
    (
        lambda v: {str(i): r["ranking"] for i, r in enumerate(v)},
        "holds an object, the fashioniq-original/1 server takes the caption file's records",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), WRONG_FASHIONIQ, ids=[m[:50] for _, m in WRONG_FASHIONIQ]
)
def test_wrong_fashioniq_files(run: Run, change: Change, message: str) -> None:
    put("dress.json", change(get("dress.json")))
    code, out, err = run(f"{FASHIONIQ} dress.json")
    assert (code, out, err) == (2, "", f"error: dress.json: {message}\n")


@pytest.mark.parametrize(
    ("file", "value", "words", "message"),
    [
        (
            "split.json",
            {i: f"{i}.png" for i in IMAGES[:40]},
            f"{CIRR} recall.json",
            "cap.rc2.test1.json: query '12000': its gallery has 39 images, the server takes 50 of "
            "them; use the whole gallery of the split",
        ),
        (
            "split.dress.json",
            IMAGES[:40],
            f"{FASHIONIQ} dress.json",
            "cap.dress.test.json: query '0': its gallery has 40 images, the server takes 50 of "
            "them; use the whole gallery of the split\n",
        ),
        (
            "circo/val.json",
            circo_annotations(200),
            f"{CIRCO} circo.json",
            "circo/val.json: has 200 queries; the server takes all 800 of test (val has 220), with "
            "the ids 0 to 799: use the whole official file",
        ),
        (
            "circo/val.json",
            [r | {"id": r["id"] + 1} for r in circo_annotations()],
            f"{CIRCO} circo.json",
            "circo/val.json: has 220 queries; the server takes all 800 of test",
        ),
        ("x", {}, f"{CIRR} gone.json", "gone.json: no such file\n"),
        ("x", {}, "--check recall.json", "--check needs --protocol NAME and one --annotations"),
        (
            "x",
            {},
            "--check --protocol cirr --annotations a.json --annotations b.json recall.json",
            "--check needs --protocol NAME and one --annotations FILE\n",
        ),
        ("x", {}, f"{CIRCO} circo.json dress.json", "2 files; circo/1 has 1 a split and category"),
        (
            "x",
            {},
            f"{FASHIONIQ.replace('original', 'val')} dress.json",
            "fashioniq-val/1 has no form for a test server; those that have one: cirr, circo, ",
        ),
        (
            "x",
            {},
            f"{FASHIONIQ.split(' --gallery')[0]} dress.json",
            "fashioniq-original/1 ranks all images of the split file; name it with --gallery",
        ),
        ("x", {}, "there", "give one of --out DIR, --list, --sent ID with --score, and --check\n"),
        ("x", {}, f"{CIRR} --list recall.json", "give one of --out DIR, --list, --sent ID with"),
        ("x", {}, f"{CIRR} --key k recall.json", "--key does not go with this; see"),
        ("x", {}, "circo --out up", "circo: no records there; name the folder of a run\n"),
        ("x", {}, "circo there --list", "2 folders given; name one run's folder\n"),
    ],
)
def test_other_errors(run: Run, file: str, value: Any, words: str, message: str) -> None:
    put(file, value)
    code, out, err = run(words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_what_is_legal_but_odd_is_a_warning(run: Run) -> None:
    subset = get("subset.json")
    put("subset.json", in_list("12004", lambda ids: ids[::-1])(subset))
    code, out, err = run(f"{CIRR} recall.json subset.json")
    assert (code, err) == (0, "")
    assert (
        "warning: subset.json: query '12004': orders the image set otherwise than recall.json: are "
        "they of the same model?\n"
    ) in out
    _, out, _ = run(f"{CIRR} recall.json")
    assert "warning: the file with the metric 'recall_subset' was not given; " in out
    put("circo.json", in_list("3", lambda ids: [4, *[i for i in ids if i != 4][:49]])(circo_file()))
    code, out, err = run(f"{CIRCO} circo.json")
    assert (code, err) == (0, "")
    assert "1 lists name their reference image, the first is query '3': legal, and never a" in out


def test_circo_without_a_gallery_says_what_it_cannot_know(run: Run) -> None:
    put("circo.json", in_list("3", first(999))(circo_file()))
    code, out, _ = run("--check --protocol circo --annotations circo/val.json circo.json")
    assert code == 0
    assert "warning: no --gallery: ids that are no image of the gallery cannot be told" in out
