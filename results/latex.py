"""A document as LaTeX tables with booktabs, to be read in by a paper with `\\input`.

It compiles with pdflatex (LaTeX of 2020 or later) and LuaLaTeX. Letters outside Latin,
Greek and the signs below, which pdflatex cannot set without further fonts, are shown by their
number, as in `[U+1F600]`: visible, and never an error.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from results.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Details,
    Heading,
    Link,
    Paragraph,
    Table,
    Text,
    visible,
)

PREAMBLE = """\
% Needs \\usepackage{booktabs} and \\usepackage{graphicx} (tables wider than the line are shrunk).
% Read it in with \\input; made by promptgrid from records, so change those and not this file.
"""
MOST_ROWS = 40
"""Longer tables are cut into several, because a float cannot be longer than a page."""

_TABLES_BEFORE_CLEARPAGE = 8  # LaTeX stops where too many floats wait for a place
_LONG_TEXT = 36
_MINUS = re.compile(r"(?<!\S)-(?=\d)")

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u00a0": "~",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "÷": r"\ensuremath{\div}",
    "¬": r"\ensuremath{\neg}",
    "µ": r"\ensuremath{\mu}",
    "−": r"\ensuremath{-}",
    "→": r"\ensuremath{\rightarrow}",
    "←": r"\ensuremath{\leftarrow}",
    "≤": r"\ensuremath{\le}",
    "≥": r"\ensuremath{\ge}",
    "≠": r"\ensuremath{\ne}",
    "≈": r"\ensuremath{\approx}",
    "∞": r"\ensuremath{\infty}",
    "√": r"\ensuremath{\surd}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "•": r"\textbullet{}",
    "…": r"\ldots{}",
    "—": "---",
    "–": "--",
    "‐": "-",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "€": r"\texteuro{}",
    "™": r"\texttrademark{}",
} | {character: f"\\{character}" for character in "_%&#${}"}


_GREEK = {
    "αβγδεζηθικλμνξ": "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi",
    "πρστυφχψω": "pi rho sigma tau upsilon phi chi psi omega",
    "ΓΔΘΛΞΠΣΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega",
}
_COMMANDS |= {
    letter: rf"\ensuremath{{\{name}}}"
    for letters, names in _GREEK.items()
    for letter, name in zip(letters, names.split(), strict=True)
}
# Letters and signs that LaTeX itself can set from its first fonts (OT1), without fontenc.
_ALLOWED = set(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ"
    "ĀāĂăĆćĈĉĊċČčĎďĒēĔĕĖėĚěĜĝĞğĠġĢģĤĥĨĩĪīĬĭİıĴĵĶķĹĺĻļĽľŁłŃńŅņŇňŌōŎŏŐőŒœŔŕŖŗŘřŚśŜŝŞşŠšŢţŤťŨũŪūŬŭŮů"
    "ŰűŴŵŶŷŸŹźŻżŽžȘșȚț¡¿£©®°¶§ªº¹²³"
)


def render_latex(blocks: Sequence[Block]) -> str:
    """Tables and the text between them; what is folded away elsewhere (`Details`) is left out.

    Headings become comments: how a paper is divided is the paper's matter.
    """
    parts = [PREAMBLE.rstrip("\n")]
    tables = 0
    for block in blocks:
        if not isinstance(block, Table):
            parts += _words(block)
            continue
        for piece in _pieces(block):
            if tables and tables % _TABLES_BEFORE_CLEARPAGE == 0:
                parts.append("\\clearpage")
            parts.append(_table(piece))
            tables += 1
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands; never a command, comment or error."""
    composed = unicodedata.normalize("NFC", visible(text))
    # Braces keep what comes from two characters from joining: `--` is no dash, ?` no Spanish.
    separate = re.sub(r"(?<=[-`'?!<>,])(?=[-`'<>,])", "\0", composed)
    return "".join("{}" if character == "\0" else _letter(character) for character in separate)


def _letter(character: str) -> str:
    if character in _COMMANDS:
        return _COMMANDS[character]
    if character.isascii() or character in _ALLOWED:
        return character
    return f"[U+{ord(character):04X}]"


def _words(block: Block) -> list[str]:
    match block:
        case Heading(text):
            return [f"% {'-' * 10} {visible(text)}"]
        case Paragraph(text):
            return [_text(text)]
        case Bullets(lines):
            items = "\n".join(f"  \\item {{}}{_text(line)}" for line in lines)
            return [f"\\begin{{itemize}}\\footnotesize\n{items}\n\\end{{itemize}}"]
        case Details() | Table():
            return []


def _pieces(table: Table) -> list[Table]:
    """The table cut to `MOST_ROWS`, with the parts counted in the title."""
    starts = range(0, len(table.body), MOST_ROWS)
    if len(starts) <= 1:
        return [table]
    return [
        Table(
            f"{table.title} (part {number} of {len(starts)})",
            table.caption if number == 1 else (),
            table.header,
            table.body[start : start + MOST_ROWS],
            table.align,
            max(0, table.break_before - start),
        )
        for number, start in enumerate(starts, start=1)
    ]


def _table(table: Table) -> str:
    columns = "".join(_column(table, place) for place in range(len(table.header)))
    lines = [_line([Cell(text) for text in table.header]), "\\midrule"]
    for number, row in enumerate(table.body):
        if number and number == table.break_before:
            lines.append("\\midrule")
        lines.append(_line(row, table.align))
    body = "\n".join(f"  {line}" for line in lines)
    caption = f" {_text(table.caption)}" if table.caption else ""
    shrink = "\\resizebox{\\ifdim\\width>\\linewidth \\linewidth\\else\\width\\fi}{!}{%"
    return (
        "\\begin{table}[htbp]\n\\centering\\small\n"
        f"\\caption{{\\textbf{{{escape(table.title)}.}}{caption}}}\n"
        f"\\label{{tab:{_slug(table.title)}}}\\par\\smallskip\n"
        f"{shrink}\n\\begin{{tabular}}{{{columns}}}\n  \\toprule\n"
        f"{body}\n  \\bottomrule\n\\end{{tabular}}}}\n\\end{{table}}"
    )


def _column(table: Table, place: int) -> str:
    """Long text is broken into lines; a record's key could not be, and stays whole."""
    texts = [row[place].text for row in table.body]
    longest = max(map(len, texts), default=0)
    word = max((len(part) for text in texts for part in text.split()), default=0)
    broken = table.align[place] == "l" and longest > _LONG_TEXT >= word
    return "p{6cm}" if broken else table.align[place]


def _line(cells: Sequence[Cell], align: str = "") -> str:
    # `{}` in front: a `[` behind the last line's `\\` would be taken for its option.
    texts = [_cell(cell, align[place : place + 1] == "r") for place, cell in enumerate(cells)]
    return "{}" + " & ".join(texts) + r" \\"


def _cell(cell: Cell, number: bool) -> str:
    words = _MINUS.sub("−", cell.text) if number else cell.text
    text = f"\\textbf{{{escape(words)}}}" if cell.strong else escape(words)
    if not cell.rank:
        return text
    return f"{text} {{\\scriptsize {escape(cell.rank).replace('-', '--')}}}"


def _text(text: Text) -> str:
    return "".join(_inline(part) for part in text)


def _inline(part: str | Code | Link) -> str:
    if isinstance(part, Link):
        return escape(part.text)
    return f"\\texttt{{{escape(part)}}}" if isinstance(part, Code) else escape(part)


def _slug(title: str) -> str:
    """A label that needs no escaping, the same for the same title."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower()
    return f"{plain[:40]}-{hashlib.sha256(title.encode()).hexdigest()[:6]}"
