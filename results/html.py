"""A document as one HTML page: no script, nothing from elsewhere, readable in light and dark."""

from __future__ import annotations

import html
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

_STYLE = """\
:root { color-scheme: light dark; --line: #8888; --faint: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; max-width: 60rem; }
th, td { padding: .2rem .7rem; text-align: left; vertical-align: baseline; }
th.r, td.r { text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--line); }
tbody tr:nth-child(even) { background: var(--faint); }
tr.break td { border-top: 1px solid var(--line); }
small { opacity: .75; margin-left: .3em; }
code { background: var(--faint); padding: 0 .25em; }
details { margin: .5rem 0; }
summary { cursor: pointer; }
"""


def render_html(blocks: Sequence[Block]) -> str:
    """The whole page; its title is the document's first heading."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "promptgrid")
    body = html_part(blocks)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def html_part(blocks: Sequence[Block]) -> str:
    """The blocks alone, to stand in another page."""
    return "\n".join(_block(block) for block in blocks)


def escape(text: str) -> str:
    """Text for element content and for quoted attributes."""
    return html.escape(visible(text))


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_text(text)}</p>"
        case Bullets(lines):
            items = "\n".join(f"<li>{_text(line)}</li>" for line in lines)
            return f"<ul>\n{items}\n</ul>"
        case Table():
            return _table(block)
        case Details(summary, blocks):
            inside = "\n".join(_block(inner) for inner in blocks)
            return f"<details><summary>{escape(summary)}</summary>\n{inside}\n</details>"


def _table(table: Table) -> str:
    sides = [' class="r"' if side == "r" else "" for side in table.align]
    head = "".join(
        f'<th scope="col"{side}>{escape(text)}</th>'
        for text, side in zip(table.header, sides, strict=True)
    )
    lines = []
    for number, row in enumerate(table.body):
        cells = "".join(
            f"<td{side}>{_cell(cell)}</td>" for cell, side in zip(row, sides, strict=True)
        )
        mark = ' class="break"' if number and number == table.break_before else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    caption = f"<caption>{_text(table.caption)}</caption>\n" if table.caption else ""
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table>\n{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _cell(cell: Cell) -> str:
    text = _inline(Link(cell.text, cell.address)) if cell.address else escape(cell.text)
    text = f"<strong>{text}</strong>" if cell.strong else text
    return f"{text}<small>{escape(cell.rank)}</small>" if cell.rank else text


def _text(text: Text) -> str:
    return "".join(_inline(part) for part in text)


def _inline(part: Inline) -> str:
    match part:
        case Code():
            return f"<code>{escape(part)}</code>"
        case Link():
            if not part.target:
                return escape(part.text)
            return f'<a href="{html.escape(part.target)}">{escape(part.text)}</a>'
        case str():
            return escape(part)
