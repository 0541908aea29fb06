"""A report as blocks without a layout: what Markdown, LaTeX and HTML are all made from.

Text is stored as it is meant to be read; escaping is each format's own business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# A name may hold anything JSON can. Line ends and tabs are blanks; what would hide or reorder the
# text beside it (control characters, marks of writing direction) is shown by its number.
_BLANKS = re.compile(r"\s+")
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


class Code(str):
    """Text to be typed or looked for word by word, such as a command."""

    __slots__ = ()


@dataclass(frozen=True)
class Link:
    """A text with an address; formats without links, and addresses but http(s), show the text."""

    text: str
    address: str

    @property
    def target(self) -> str:
        """The address where it is one that a reader may safely follow, else ""."""
        return self.address if re.match(r"https?://\S+\Z", self.address) else ""


Inline = str | Code | Link
Text = tuple[Inline, ...]


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    strong: bool = False
    rank: str = ""
    """Set small behind the text."""
    address: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the document's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: Text


@dataclass(frozen=True)
class Bullets:
    """A list, one text a line."""

    lines: tuple[Text, ...]


@dataclass(frozen=True)
class Table:
    """A table with its caption."""

    title: str
    """What it shows, for formats whose tables float away from their heading."""
    caption: Text
    header: tuple[str, ...]
    body: tuple[tuple[Cell, ...], ...]
    align: str
    """One of `l` and `r` for each column."""
    break_before: int = 0
    """A line is drawn above this row of the body; 0 draws none."""


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away where the format can, and left out of LaTeX."""

    summary: str
    blocks: tuple[Block, ...]


Block = Heading | Paragraph | Bullets | Table | Details


def plain_table(
    title: str,
    caption: str | Text,
    header: Sequence[str],
    body: Sequence[Sequence[str | Cell]],
    align: str = "",
) -> Table:
    """A `Table` of texts; by default the first column is aligned left and the others right."""
    rows = tuple(
        tuple(entry if isinstance(entry, Cell) else Cell(entry) for entry in line) for line in body
    )
    words = (caption,) if isinstance(caption, str) else caption
    return Table(title, words, tuple(header), rows, align or "l" + "r" * (len(header) - 1))


def visible(text: str) -> str:
    """One line, with hidden characters shown as `[U+202E]`."""
    text = _BLANKS.sub(" ", text)
    return _HIDDEN.sub(lambda match: f"[U+{ord(match.group()):04X}]", text)
