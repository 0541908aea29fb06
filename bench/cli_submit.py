"""The command for hidden test servers: write files from a record, check files, keep the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.cli_data import SHARDS
from bench.cli_lists import show
from data_recipes.core.model import DataError

SERVERS = {
    "cirr": "http://cirr.cecs.anu.edu.au or https://cirr.junjie.au, both files",
    "circo": "https://circo.micc.unifi.it",
    "fashioniq": "its challenge of 2019 and 2020; whether it still answers is not known",
}


def submit(
    paths: Annotated[
        list[Path], typer.Argument(help="A run's folder; with --check: the files to check.")
    ],
    key: Annotated[
        list[str] | None, typer.Option(help="Start of a record's key; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method's label; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder that gets the files.")] = None,
    data: Annotated[
        Path,
        typer.Option("--data", envvar="PROMPTGRID_DATA", help="Folder of the built datasets."),
    ] = SHARDS,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(help="Official caption file: with --check, and for FashionIQ's form."),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Split file, or list of all images (--check).")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="cirr, circo, ... (--check).")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check files of any system; no record is needed.")
    ] = False,
    as_list: Annotated[
        bool, typer.Option("--list", help="Show what can be submitted, and the ledger.")
    ] = False,
    sent: Annotated[str | None, typer.Option(help="Id of a submission that was scored.")] = None,
    score: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE from the server; may be repeated.")
    ] = None,
    note: Annotated[str, typer.Option(help="A remark for the ledger.")] = "",
) -> None:
    """Write, check and keep track of files for the test servers of CIRR, CIRCO and FashionIQ.

    Every documented rule of the server is checked before a file is written, and the files are read
    back. What was written, and what the server answered, is kept in the run's submissions.jsonl.

    Example: `promptgrid submit runs/cir --list`

    Example: `promptgrid submit runs/cir --method image-plus-text --out upload`

    Example: `promptgrid submit runs/cir --sent 3f9a1c --score Recall@1=35.28`

    Example: `promptgrid submit --check --protocol cirr --annotations cap.rc2.test1.json a.json`
    """
    modes = [check, as_list, sent is not None or bool(score), out is not None]
    if sum(modes) != 1:
        raise DataError("give one of --out DIR, --list, --sent ID with --score, and --check")
    given = {
        "--protocol": (protocol, check),
        "--gallery": (gallery, check),
        "--annotations": (annotations, check or out is not None),
        "--key": (key, out is not None),
        "--method": (method, out is not None),
        "--note": (note, not (check or as_list)),
    }
    for option, (value, fits) in given.items():
        if value and not fits:
            raise DataError(f"{option} does not go with this; see `promptgrid submit --help`")
    console = Console(soft_wrap=True)
    if check:
        if protocol is None or not annotations or len(annotations) != 1:
            raise DataError("--check needs --protocol NAME and one --annotations FILE")
        _check(console, protocol, annotations[0], gallery, paths)
        return
    if len(paths) != 1:
        raise DataError(f"{len(paths)} folders given; name one run's folder")
    if not (paths[0] / "records").is_dir():
        raise DataError(f"{paths[0]}: no records there; name the folder of a run")
    if as_list:
        _list(console, paths[0])
    elif out is None:
        _answer(console, paths[0], sent, score or [], note)
    else:
        _write(console, paths[0], key or [], method or [], data, annotations or [], out, note)


def _write(
    console: Console,
    root: Path,
    keys: list[str],
    methods: list[str],
    data: Path,
    captions: list[Path],
    out: Path,
    note: str,
) -> None:
    from bench.submission import family
    from bench.submit import choose, folder_name, title, write_files
    from data_recipes.core.protocol import protocol
    from results.ledger import note_submission
    from results.store import RecordStore

    store = RecordStore(root)
    chosen = choose(store, keys, methods)
    for record in chosen:
        folder = out if len(chosen) == 1 else out / folder_name(record)
        written = write_files(store, record, data, captions, folder)
        rules = protocol(record["cell"]["protocol"])
        entry = note_submission(
            root,
            record["key"],
            rules.name,
            written.split,
            written.queries,
            list(written.files.values()),
            note,
        )
        console.print(f"{title(record)}: {rules.name}, split {written.split}", markup=False)
        for path, file in written.files.items():
            console.print(f"  {path}  {_size(file.bytes)}, sha256 {file.sha256[:12]}")
        console.print("  read back: the record's lists, within every rule of the server")
        for metric, value in (written.metrics or {}).items():
            if metric == rules.headline and value is not None:
                console.print(f"  the files give {metric} {value:.6f}")
        for warning in written.warnings:
            console.print(f"  warning: {warning}", markup=False)
        console.print(f"  server: {SERVERS[family(rules)]}")
        console.print(
            f"  noted as {entry.id}; when the score is back: "
            f"promptgrid submit {root} --sent {entry.id} --score NAME=VALUE"
        )


def _check(
    console: Console, name: str, annotations: Path, gallery: Path | None, paths: list[Path]
) -> None:
    from bench.official_sets import read_tasks
    from bench.submission import check, check_records, family, parse
    from data_recipes.core import official, strict_json
    from data_recipes.core.digests import stranger
    from data_recipes.core.protocol import newest

    rules = newest(name)
    kind = family(rules)
    most = 2 if kind == "cirr" else 1
    if len(paths) > most:
        raise DataError(f"{len(paths)} files; {rules.name} has {most} a split and category")
    contents = {path: _read(path) for path in paths}
    files = [parse(rules, path, content) for path, content in contents.items()]
    found = read_tasks(rules, annotations, gallery, files[0])
    (task,) = found.whole
    warnings = check(rules, task, files, str(annotations), found.closed)
    if kind == "fashioniq":
        records = official.read_records(annotations, "the captions of one category")
        check_records(paths[0], strict_json.read(paths[0]), records)
    if not found.closed:
        warnings.append("no --gallery: ids that are no image of the gallery cannot be told")
    # COCO's list of images circulates in several forms: only CIRCO's own files have digests.
    official_files = (annotations, None if kind == "circo" else gallery)
    warnings += [w for p in official_files if p is not None and (w := stranger(p, kind))]
    for lists in files:
        answers = lists.parts[""]
        what = lists.header.get("metric", "ranked ids")
        console.print(
            f"{lists.path}: sound: {what}, {len(answers)} queries, "
            f"{len(next(iter(answers.values())))} ids each, {_size(len(contents[lists.path]))}",
            markup=False,
        )
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)


def _list(console: Console, root: Path) -> None:
    from bench.submit import submittable
    from results.ledger import Answer, Submission, read_ledger
    from results.store import RecordStore

    records = submittable(RecordStore(root))
    entries = read_ledger(root)
    rows: list[dict[str, Any]] = []
    for record in records:
        cell = record["cell"]
        rows.append(
            {
                "key": record["key"][:12],
                "method": cell["variant"] or cell["method"],
                "task": f"{cell['dataset']}/{cell['task']}",
                "shots": cell["shots"],
                "seed": cell["seed"],
                "protocol": cell["protocol"],
                "targets": "withheld" if record.get("withheld") else "public",
            }
        )
    console.print(f"{root}: {len(records)} record(s) can be submitted")
    if rows:
        show(rows, as_json=False)
    answers = [entry for entry in entries if isinstance(entry, Answer)]
    sent = [entry for entry in entries if isinstance(entry, Submission)]
    console.print(f"{root}: {len(sent)} submission(s) in the ledger")
    for entry in sent:
        files = ", ".join(f"{f.name} {f.sha256[:12]}" for f in entry.files)
        console.print(
            f"{entry.id}  {entry.when}  {entry.key[:12]}  {entry.protocol} {entry.split}  {files}"
            + (f"  ({entry.note})" if entry.note else ""),
            markup=False,
        )
        for answer in (a for a in answers if a.of == entry.id):
            said = ", ".join(f"{name} {value}" for name, value in answer.scores.items())
            console.print(
                f"    {answer.when}  {said}" + (f"  ({answer.note})" if answer.note else ""),
                markup=False,
            )


def _answer(console: Console, root: Path, sent: str | None, scores: list[str], note: str) -> None:
    from bench.server_scores import implausible, read_scores
    from results.ledger import find_submission, note_answer

    if sent is None or not scores:
        raise DataError("--sent ID and --score NAME=VALUE go together")
    values = read_scores(scores)
    entry = find_submission(root, sent)
    warnings = implausible(entry.protocol, entry.split, values)
    note_answer(root, entry.id, {name: float(value) for name, value in values.items()}, note)
    console.print(f"{entry.id}: {len(values)} score(s) noted")
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return path.read_bytes()


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count} bytes"
