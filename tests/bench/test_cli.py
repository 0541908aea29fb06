"""The command line: help with examples that are true, JSON that parses, errors without traceback.

Commands run in this process, through `main`, as the installed script does; what starts Ray is
tested with `bench/run.py`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from bench import cli
from tests.tiny import TINY_SPEC

ROOT = typer.main.get_command(cli.app)


def commands(group: click.Command, words: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """All commands by their words, "data build"; groups are not among them."""
    found: dict[str, click.Command] = {}
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            found |= commands(command, (*words, name))
        else:
            found[" ".join((*words, name))] = command
    return found


COMMANDS = commands(ROOT)

STUDY = f"""
name: small
backbone: {{model: {TINY_SPEC.model}, random_seed: {TINY_SPEC.random_seed}}}
datasets: [tiny, tiny/composed]
methods: [zero-shot, coop]
shots: [1]
seeds: [1, 2]
"""


class Shell:
    """Runs `promptgrid WORDS` in an empty working folder."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["promptgrid", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = self._capsys.readouterr()
        code = left.value.code
        return code if isinstance(code, int) else 0, out, err

    def error(self, *words: str) -> str:
        """The message of a command that must fail with code 2 and create nothing."""
        before = sorted(self.folder.rglob("*"))
        code, out, err = self(*words)
        assert code == 2, out + err
        assert "Traceback" not in out + err
        assert out == ""
        assert sorted(self.folder.rglob("*")) == before
        return err


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    for name in ("PROMPTGRID_DATA", "PROMPTGRID_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, monkeypatch, capsys)


def test_the_commands_are_these() -> None:
    """The README and the answers of error messages name them."""
    assert set(COMMANDS) >= {
        "demo",
        "run",
        "status",
        "report",
        "methods",
        "datasets",
        "data build",
        "data check",
        "data list",
    }


@pytest.mark.parametrize("words", COMMANDS)
def test_the_help_of_every_command_has_an_example_that_parses(words: str) -> None:
    shown = CliRunner().invoke(cli.app, [*words.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"Example: promptgrid {words}" in re.sub(r"[`\s]+", " ", shown.output)
    found = re.search(r"Example: `promptgrid ([^`]*)`", COMMANDS[words].help or "")
    assert found is not None
    arguments = found[1].split()[len(words.split()) :]
    COMMANDS[words].make_context(words, arguments)  # parses, runs nothing


@pytest.mark.parametrize("words", ["", "--help", "data", "data --help"])
def test_groups_show_their_help(shell: Shell, words: str) -> None:
    _, out, err = shell(*words.split())
    assert "Usage: " in out + err
    names = [w.split()[-1] for w in COMMANDS if w.startswith("data") == words.startswith("data")]
    assert all(name in out + err for name in names)


@pytest.mark.parametrize("name", ["methods", "datasets"])
def test_lists_as_json_and_as_a_table(shell: Shell, name: str) -> None:
    code, out, err = shell(name, "--json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    known = {row[name.removesuffix("s")] for row in rows}
    assert known >= {"methods": {"coop", "zero-shot"}, "datasets": {"openmoji-roles"}}[name]
    code, out, _ = shell(name)
    assert code == 0
    assert all(word in out for word in known)


def test_methods_say_what_they_are(shell: Shell) -> None:
    rows = {row["method"]: row for row in json.loads(shell("methods", "--json")[1])}
    assert rows["coop"]["tasks"] == ["classification", "composed", "image_text"]
    assert rows["coop"]["trains"] is True
    assert rows["zero-shot"]["trains"] is False
    assert rows["coop"]["inferred"]


def test_built_datasets_are_listed_and_checked(shell: Shell, tiny_data: Path) -> None:
    (row,) = json.loads(shell("data", "list", "--out", str(tiny_data), "--json")[1])
    assert (row["dataset"], row["images"]) == ("tiny", 24)
    assert row["tasks"][0] == "classification (classification/1)"
    assert shell("data", "check", str(tiny_data / "tiny"))[1].endswith("tiny: sound\n")
    assert json.loads(shell("data", "list", "--out", "nowhere", "--json")[1]) == []
    assert "nothing is built there" in shell("data", "list", "--out", "nowhere")[1]


def test_data_check_names_every_damage(shell: Shell, tiny_data: Path) -> None:
    folder = Path(shutil.copytree(tiny_data / "tiny", shell.folder / "tiny"))
    data = bytearray((folder / "images-000001.tar").read_bytes())
    data[600] ^= 1
    (folder / "images-000001.tar").write_bytes(data)
    (folder / "images-000003.tar").unlink()
    message = shell.error("data", "check", "tiny")
    assert "error: tiny: 2 problem(s)" in message
    assert "images-000001.tar: content differs from the manifest (sha256)" in message
    assert "images-000003.tar: missing" in message


WRONG_STUDY = """
name: no
datasets: [tiny, tinny]
methods: [coopp, {name: coop, training: {lr: 1e-3}}]
shots: [0]
seeds: [1]
colour: red
"""


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_wrong_study_is_refused_whole_before_anything_is_made(
    shell: Shell, tiny_data: Path, dry: list[str]
) -> None:
    (shell.folder / "study.yaml").write_text(WRONG_STUDY)
    message = shell.error("run", "study.yaml", "--data", str(tiny_data), *dry)
    assert message.startswith("error: study.yaml: 6 errors\n")
    for line in (
        "name: input should be a valid string, got true/false False",
        "datasets.1: unknown dataset 'tinny'. Did you mean: tiny?",
        "methods.0.name: Unknown method 'coopp'. Did you mean: coop?",
        "methods.1 (coop).training.lr: input should be a valid number, got text '1e-3'",
        "shots: 0 means no training on the dataset",
        "colour: unknown key",
    ):
        assert f"  - {line}" in message


def test_a_dry_run_lists_the_cells_and_makes_nothing(shell: Shell, tiny_data: Path) -> None:
    (shell.folder / "study.yaml").write_text(STUDY)
    before = sorted(shell.folder.rglob("*"))
    code, out, err = shell("run", "study.yaml", "--data", str(tiny_data), "--dry-run")
    assert (code, err) == (0, "")
    assert "study small: 5 cells, 0 recorded in runs/small, 5 to run" in out
    assert "left out: zero-shot on tiny/composed" in out
    lines = [line.split(maxsplit=3) for line in out.splitlines() if "to run   " in line]
    assert [line[3] for line in lines] == [
        "zero-shot on tiny/classification",
        "coop on tiny/classification, 1 shot, seed 1",
        "coop on tiny/classification, 1 shot, seed 2",
        "coop on tiny/composed, 1 shot, seed 1",
        "coop on tiny/composed, 1 shot, seed 2",
    ]
    assert sorted(shell.folder.rglob("*")) == before


def test_a_dry_run_lists_ablations_with_their_options(shell: Shell, tiny_data: Path) -> None:
    varied = "[{name: coop, vary: {each: {n_ctx: [4], ctx_init: [red]}, datasets: [tiny]}}]"
    (shell.folder / "study.yaml").write_text(STUDY.replace("[zero-shot, coop]", varied))
    code, out, err = shell("run", "study.yaml", "--data", str(tiny_data), "--dry-run")
    assert (code, err) == (0, "")
    titles = [line.split(maxsplit=3)[3] for line in out.splitlines() if "to run   " in line]
    assert [title for title in titles if "[" in title] == [
        f"coop[{option}] on tiny/classification, 1 shot, seed {seed}"
        for option in ("n_ctx=4", "ctx_init=red")
        for seed in (1, 2)
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run gone.yaml", "error: gone.yaml: 1 error\n  - no such file"),
        ("run .", "Is a directory"),
        ("run", "Missing argument"),
        ("run study.yaml --gangs 0", "--gangs"),
        ("run study.yaml --drry-run", "No such option: --drry-run"),
        ("runn", "No such command 'runn'"),
        ("data build openmoji-role", "Unknown dataset 'openmoji-role'. Did you mean"),
        ("data build openmoji-roles tinny", "Unknown dataset 'tinny'"),
        ("data build", "Missing argument"),
        ("data check nowhere", "nowhere/manifest.json: no manifest, so no built dataset"),
        ("status nowhere", "nowhere/status.json: no run was started there"),
        ("report nowhere", "nowhere: no records there"),
    ],
)
def test_errors_have_code_2_and_no_traceback(shell: Shell, words: str, message: str) -> None:
    assert message in shell.error(*words.split())


def test_a_checkpoint_that_is_not_there_is_an_error_of_the_user(
    shell: Shell, tiny_data: Path
) -> None:
    spec = "backbone: {model: tiny-clip, checkpoint: gone.pt}"
    text = re.sub(r"backbone: .*", spec, STUDY)
    (shell.folder / "study.yaml").write_text(text)
    message = shell.error("run", "study.yaml", "--data", str(tiny_data))
    assert "error: gone.pt: no such checkpoint file" in message


def test_an_error_of_the_program_keeps_its_traceback(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("methods.core.registry.registered", broken)
    monkeypatch.setattr(sys, "argv", ["promptgrid", "methods"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize("wrong", ["cut shard", "out is a file", "damaged status"])
def test_damage_is_one_line_with_the_file_and_the_way_out(
    wrong: str, tiny_data: Path, tmp_path: Path
) -> None:
    data, out = tmp_path / "shards", tmp_path / "out"
    shutil.copytree(tiny_data, data)
    study = tmp_path / "study.yaml"
    study.write_text("name: s\ndatasets: [tiny]\nmethods: [zero-shot]\nshots: [1]\nseeds: [1]\n")
    words = ["run", str(study), "--data", str(data), "--out", str(out)]
    if wrong == "cut shard":
        shard = next(data.glob("tiny/images-*.tar"))
        shard.write_bytes(shard.read_bytes()[:600])
        words, said = [*words, "--dry-run"], "the shard is cut off"
    elif wrong == "out is a file":
        out.touch()
        said = "out: File exists; give another path"
    else:
        out.mkdir()
        (out / "status.json").write_text("{")
        words, said = ["status", str(out)], "status.json: not JSON"
    command = [sys.executable, "-m", "bench.cli", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr and "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1
