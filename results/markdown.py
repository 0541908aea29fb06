"""A document as Markdown, as GitHub reads it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from results.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Details,
    Heading,
    Inline,
    Link,
    Paragraph,
    Table,
    Text,
    visible,
)

# `_` within a word is no emphasis, and names are full of them: it stays readable there.
_SPECIAL = re.compile(r"[\\`*\[\]|~$<]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
_AT_START = re.compile(r"^( *)(?:(\d+)(?=[.)])|(?=[#+=>-]))")
_FENCE = re.compile(r"`+")


def render_markdown(blocks: Sequence[Block]) -> str:
    """The document; ends with one line end."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def escape(text: str) -> str:
    """One line that GitHub shows as `text`, in a table as well."""
    return _SPECIAL.sub(lambda match: "\\" + match.group(), visible(text))


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {escape(text)}"
        case Paragraph(text):
            return _text(text)
        case Bullets(lines):
            return "\n".join(f"- {_text(line)}" for line in lines)
        case Table():
            rows = _pipe_table(block)
            return f"{_text(block.caption)}\n\n{rows}" if block.caption else rows
        case Details(summary, blocks):
            inside = "\n\n".join(_block(inner) for inner in blocks)
            # GitHub takes the summary's line as HTML: Markdown's escapes would show there.
            heading = html.escape(visible(summary))
            return f"<details><summary>{heading}</summary>\n\n{inside}\n\n</details>"


def _pipe_table(table: Table) -> str:
    rules = [":--" if side == "l" else "--:" for side in table.align]
    lines = [[escape(text) for text in table.header], rules]
    lines += [[_cell(cell) for cell in row] for row in table.body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = _inline(Link(cell.text, cell.address)) if cell.address else escape(cell.text)
    text = f"**{text}**" if cell.strong else text
    return f"{text} · {escape(cell.rank)}" if cell.rank else text


def _text(text: Text) -> str:
    """A line: what stands first must not begin a list, a quotation or a heading."""
    line = "".join(_inline(part) for part in text)
    return _AT_START.sub(r"\1\2\\", line)


def _inline(part: Inline) -> str:
    match part:
        case Code():
            return _code(part)
        case Link():
            if not part.target:
                return escape(part.text)
            address = part.target.replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")
            return f"[{escape(part.text)}](<{address.replace(chr(92), '%5C')}>)"
        case str():
            return escape(part)


def _code(text: str) -> str:
    """A code span; its fence is longer than any run of backticks within."""
    text = visible(text).replace("|", "\\|")
    longest = max((len(run) for run in _FENCE.findall(text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
