"""Markdown as GitHub reads it: names stay text, in tables as well."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from results.document import Block, Bullets, Cell, Code, Details, Paragraph, plain_table, visible
from results.markdown import escape, render_markdown
from tests.results.hostile import NAMES, document
from tests.results.test_html import OURS, Page

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def read(blocks: list[Block]) -> Page:
    """The page that a reader of Markdown makes of the blocks."""
    return Page(READER.render(render_markdown(blocks)))


def test_hostile_names_stay_text() -> None:
    for name in NAMES:
        page = read(document([name]))
        words = re.sub(r"\s+", " ", "".join(page.texts))
        assert page.tags <= OURS, name
        assert "script" not in page.tags
        assert words.count(visible(name).strip()) >= 8, name


def test_a_table_keeps_its_cells() -> None:
    body = [[name, name] for name in NAMES]
    text = READER.render(render_markdown([plain_table("t", "", ["a", "b"], body)]))
    assert text.count("<tr>") == len(NAMES) + 1
    assert text.count("<td") == 2 * len(NAMES)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_text_comes_back_as_it_is(name: str) -> None:
    wanted = re.sub(r"\s+", " ", visible(name)).strip()
    for block in (
        Paragraph((name,)),
        Bullets(((name,),)),
        plain_table("t", "", ["m", "n"], [[name, "1"]]),
    ):
        page = read([block, Paragraph(("end",))])
        words = re.sub(r"\s+", " ", "".join(page.texts)).strip()
        assert wanted in words
        assert page.tags <= {"p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


def test_code_with_backticks_and_pipes() -> None:
    page = read([Paragraph((Code("a`b``c"), " and ", Code("`")))])
    assert page.texts[:3] == ["a`b``c", " and ", "`"]


def test_ties_ranks_and_details() -> None:
    table = plain_table("t", "About.", ["m", "1 shot"], [["coop", Cell("45.1 (3)", True, "1-3")]])
    assert render_markdown([table]) == (
        "About.\n\n| m | 1 shot |\n| :-- | --: |\n| coop | **45.1 (3)** · 1-3 |\n"
    )
    text = render_markdown([Details("a <b> & c_d", (table,))])
    assert text.startswith("<details><summary>a &lt;b&gt; &amp; c_d</summary>\n\nAbout.")


def test_common_names_stay_readable() -> None:
    for name in ("image-plus-text-0.67", "n_ctx=16", "recall@5", "< 0.001", "a & b", "(2 of 3)"):
        assert escape(name).replace("\\", "") == name
    assert escape("n_ctx=16") == "n_ctx=16"
