"""HTML: names stay text, and the page needs nothing from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from results.document import Block, Cell, Heading, Link, Paragraph, plain_table, visible
from results.html import escape, render_html
from tests.results.hostile import NAMES, document

_TAGS = (
    "html head meta title style body h1 h2 h3 p code ul li div table caption thead tbody tr th td "
    "strong small details summary a"
)
OURS = set(_TAGS.split())
VOID = {"meta"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; every element must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def test_hostile_names_stay_text() -> None:
    page = Page(render_html(document(NAMES)))
    assert page.tags <= OURS
    assert "script" not in page.tags
    for name in NAMES:
        assert page.texts.count(visible(name)) >= 8


@given(st.text(min_size=1))
def test_any_text_comes_back_as_it_is(name: str) -> None:
    page = Page(f"<p>{escape(name)}</p>")
    assert "".join(page.texts) == visible(name)
    assert page.tags == {"p"}


def test_nothing_is_loaded_and_no_script_runs() -> None:
    text = render_html([Heading("Leaderboard", 1)])
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert not {"script", "link", "img", "iframe"} & page.tags
    assert not {name for name, _ in page.attributes} & {"src", "onclick", "style"}
    assert "url(" not in text
    assert "@import" not in text
    assert "color-scheme: light dark" in text


def test_only_web_addresses_are_links() -> None:
    addresses = [
        "https://x.org/?a=1&b='\"",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://a b",
    ]
    body = [[Cell("source", address=address)] for address in addresses]
    blocks: list[Block] = [plain_table("t", "", ["s"], body)]
    blocks.append(Paragraph((Link("here", "JAVASCRIPT:alert(1)"),)))
    page = Page(render_html(blocks))
    assert [value for name, value in page.attributes if name == "href"] == [addresses[0]]
    assert page.texts.count("source") == len(addresses)


def test_ties_and_ranks() -> None:
    table = plain_table("t", "c", ["m", "1 shot"], [["coop", Cell("45.1", True, "1-3")]])
    text = render_html([table])
    assert '<td class="r"><strong>45.1</strong><small>1-3</small></td>' in text
