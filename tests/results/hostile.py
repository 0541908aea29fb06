"""Names that mean something else in Markdown, HTML, LaTeX or a spreadsheet, all at once."""

from __future__ import annotations

from results.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Details,
    Heading,
    Paragraph,
    plain_table,
)

NAME = (
    r"50%_a & #1 {$x^2$} ~ \input{x} \\ <script>alert('1')</script> | `tick` *b* "
    r'[l](http://x) &lt; "q" -- é × — ± α'
)
LINES = "two\r\nlines\tand a tab"
NAMES = [
    NAME,
    LINES,
    "# heading",
    "- item",
    "1. one",
    "+ plus",
    "> quote",
    "[ref]: http://x",
    "__init__ _x_ snake_case a__b",
    "~~gone~~",
    "-->",
    "]]>",
    "]",
    "[0]",
    "*",
    "%",
    "\\",
    "\\\\",
    "```",
    "<!-- ",
    "a|b\\|c",
    "&amp;amp;",
    "&#x3c;b&#x3e;",
    "![i](x)",
    "?`!`",
]


def document(names: list[str]) -> list[Block]:
    """Every place of a document that a name can come to."""
    blocks: list[Block] = [Heading("Hostile", 1)]
    for name in names:
        table = plain_table(
            name,
            (name, Code(name)),
            ["method", name],
            [[name, Cell("45.1 ± 1.2 (3) †", True, "1-3")], [Cell(name, True), name]],
        )
        blocks += [Heading(name), Paragraph((name,)), Paragraph((Code(name),)), table]
        blocks += [Bullets(((name,), (name,))), Details(name, (table,))]
    return blocks
