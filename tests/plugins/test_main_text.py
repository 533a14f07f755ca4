"""Of a web page, what it says is its main part is read, and the frame around it is not."""

from __future__ import annotations

import pytest

from sourcebook.testing.parsers import parse
from sourcebook_plugins.hypertext import HtmlParser, HtmlSettings

WORDS = "The lamp on the mole is green, and the harbour closes at ten in the evening of every day but Sunday. "
FRAME = "<div class=teaser>Subscribe to our letter today</div>"


def read(body: str, *, main: bool = True) -> str:
    page = f"<html><body>{FRAME}{body}{FRAME}</body></html>"
    return parse(HtmlParser(HtmlSettings(main=main)), page.encode(), "page.html").text


@pytest.mark.parametrize("tag", ["main", "div role=main", "article"])
def test_the_part_that_is_marked_as_main_is_read_alone(tag: str) -> None:
    body = f"<{tag}><h1>Lamps</h1><p>{WORDS}</p></{tag.split()[0]}>"
    assert read(body) == f"Lamps\n\n{WORDS.strip()}"
    assert "Subscribe" in read(body, main=False)


@pytest.mark.parametrize(
    "body",
    [
        f"<p>{WORDS}</p>",
        f"<article><p>{WORDS}</p></article><article><p>{WORDS}</p></article>",
        f"<main><p>Loading...</p></main><p>{WORDS}</p>",
    ],
    ids=["none", "several", "empty"],
)
def test_a_page_without_one_main_part_is_read_whole(body: str) -> None:
    text = read(body)
    assert "Subscribe" in text
    assert WORDS.strip() in text
