"""LaTeX: what is written compiles, whatever the names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import latex
from results.document import Block, Cell, Heading, plain_table
from results.latex import MOST_ROWS, PREAMBLE, escape, render_latex
from tests.results.hostile import NAMES, document

ENGINE = next((name for name in ("pdflatex", "tectonic") if shutil.which(name)), None)
PACKAGES = re.findall(r"\\usepackage\{\w+\}", PREAMBLE)


def compiled(text: str, folder: Path) -> str:
    """The log of a document that reads the text in as the file's own comment says."""
    assert ENGINE is not None
    (folder / "tables.tex").write_text(text, "utf-8")
    lines = [r"\documentclass{article}", *PACKAGES, r"\begin{document}", r"\listoftables"]
    lines += [r"\input{tables.tex}", r"\end{document}"]
    (folder / "paper.tex").write_text("\n".join(lines), "utf-8")
    options = ["-halt-on-error", "-interaction=nonstopmode"] if ENGINE == "pdflatex" else []
    for _ in range(2):  # the second run reads what the first wrote: titles in the list of tables
        done = subprocess.run(
            [ENGINE, *options, "paper.tex"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "paper.pdf").stat().st_size > 1000
    return done.stdout


needs_latex = pytest.mark.skipif(
    ENGINE is None,
    reason="no pdflatex or tectonic; Debian: apt-get install texlive-latex-recommended",
)


@needs_latex
def test_hostile_names_compile(tmp_path: Path) -> None:
    many: list[Block] = [plain_table(f"t{n}", "c", ["a"], [["x"]]) for n in range(120)]
    long = plain_table("long", "", ["n"], [[str(n)] for n in range(3 * MOST_ROWS)])
    log = compiled(render_latex([*document(NAMES), *many, long]), tmp_path)
    assert "Missing character" not in log
    assert "Undefined control sequence" not in log


@needs_latex
def test_every_letter_that_is_let_through_compiles(tmp_path: Path) -> None:
    ascii_letters = {chr(code) for code in range(32, 127)}
    letters = sorted(latex._ALLOWED | set(latex._COMMANDS) | ascii_letters)
    body = [[letter, f"a{letter}b"] for letter in letters]
    log = compiled(render_latex([plain_table("letters", "", ["one", "in a word"], body)]), tmp_path)
    assert "Missing character" not in log


def test_each_special_character_is_escaped() -> None:
    assert escape("_ % & # $ { }") == r"\_ \% \& \# \$ \{ \}"
    assert escape("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escape("<a|b>") == r"\textless{}a\textbar{}b\textgreater{}"
    assert escape("a--b") == "a-{}-b"
    assert escape("é × — α") == r"é \ensuremath{\times} --- \ensuremath{\alpha}"
    assert escape("e\u0301") == "é"


def test_letters_without_a_font_are_shown_by_number() -> None:
    assert escape("fire 🔥 漢") == "fire [U+1F525] [U+6F22]"
    assert escape("a\u202eb") == "a[U+202E]b"


@given(st.text())
def test_no_text_holds_a_command_of_its_own(text: str) -> None:
    left = escape(text)
    for command in sorted(set(latex._COMMANDS.values()), key=len, reverse=True):
        left = left.replace(command, "")
    assert not re.search(r"[\\%&#$^_~]|[{}]", left.replace("{}", ""))
    assert "\n" not in left


def test_a_table_of_a_paper() -> None:
    table = plain_table(
        "roles",
        "Accuracy.",
        ["method", "1 shot"],
        [["zero", "-1.0"], ["coop", Cell("2", True, "1-2")]],
    )
    text = render_latex([Heading("Leaderboard", 1), table])
    assert text.startswith("% Needs \\usepackage{booktabs} and \\usepackage{graphicx}")
    assert "% ---------- Leaderboard" in text
    assert "\\caption{\\textbf{roles.} Accuracy.}" in text
    assert "{}zero & \\ensuremath{-}1.0 \\\\" in text
    assert "{}coop & \\textbf{2} {\\scriptsize 1--2} \\\\" in text
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert text.count(rule) == 1


def test_long_tables_are_cut_and_lose_no_row() -> None:
    table = plain_table("long", "", ["n"], [[f"row{n}."] for n in range(2 * MOST_ROWS + 1)])
    text = render_latex([table])
    assert text.count("\\begin{table}") == 3
    assert [text.count(f"row{n}.") for n in range(2 * MOST_ROWS + 1)] == [1] * (2 * MOST_ROWS + 1)
    assert "long (part 3 of 3)" in text
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == 3
