"""A citation opens its source at the very words, which are marked on the page or in the text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import Visit
from .driving import answered, ask, chip, expect, open_notebook, picture, row, viewer
from .paper import PAGES, QUESTION, QUOTE, QUOTED_PAGE, marked, words_under, written
from .serving import Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return written(tmp_path / "handbook.pdf")


def cited(page: Page, plain: Sourcebook, paper: Path, question: str = QUESTION) -> str:
    """Ask what `paper` answers; the notebook."""
    notebook = plain.notebook()
    plain.file(notebook, paper)
    open_notebook(page, notebook)
    ask(page, question)
    answered(page)
    return notebook


def test_a_click_on_a_citation_marks_the_right_words_on_the_page(visit: Visit, plain: Sourcebook, paper: Path) -> None:
    page = visit(plain).page
    notebook = cited(page, plain, paper)
    (conversation,) = plain.read(f"/conversations?notebook={notebook}")["items"]
    citation = plain.read(f"/conversations/{conversation['id']}")["messages"][1]["citations"][0]
    assert citation["quote"] == QUOTE
    chip(page, 1).first.click()
    expect(viewer(page).get_by_role("heading", name="handbook.pdf")).to_be_visible()
    expect(viewer(page)).to_contain_text("Page 2 of 3")
    shown = marked(picture(page))
    # The words under the yellow, read from the PDF by their place on the paper.
    assert words_under(paper, QUOTED_PAGE, shown) == QUOTE.split()
    # And the API's boxes, one a line, are where the yellow is.
    places = plain.read(f"/citations/{citation['id']}")["places"]
    assert len(places) == len(shown) == 3
    for place, (left, top, right, bottom) in zip(places, shown, strict=True):
        assert place["page"] == QUOTED_PAGE
        lines = (left * 595.28, top * 841.89, right * 595.28, bottom * 841.89)
        assert lines == pytest.approx(place["box"], abs=3)
    expect(viewer(page).get_by_role("img")).to_be_in_viewport()
    assert QUOTE in str(viewer(page).get_by_role("img").get_attribute("alt")).replace("\n", " ")


@pytest.mark.slow
def test_the_marked_words_are_in_sight(visit: Visit, plain: Sourcebook, tmp_path: Path) -> None:
    """They stand at the end of a page that is longer than its pane."""
    paper = tmp_path / "low.md"
    paper.write_text(
        "\n\n".join(f"Line {i} of the ledger tells of ship {i}." for i in range(400)) + "\n\nMirabel kept it."
    )
    page = visit(plain).page
    cited(page, plain, paper, "Who kept it? Mirabel")
    chip(page, 1).first.click()
    mark = viewer(page).locator("mark")
    expect(mark).to_contain_text("Mirabel kept it.")
    expect(mark).to_be_in_viewport()


@pytest.mark.slow
def test_pages_are_turned_by_button_and_by_key(visit: Visit, plain: Sourcebook, paper: Path) -> None:
    page = visit(plain).page
    cited(page, plain, paper)
    row(page, "handbook.pdf").get_by_role("link", name="handbook.pdf").click()
    expect(viewer(page)).to_contain_text("Page 1 of 3")
    assert marked(picture(page)) == []
    viewer(page).get_by_role("button", name="Next page").click()
    expect(viewer(page)).to_contain_text("Page 2 of 3")
    page.keyboard.press("ArrowRight")
    expect(viewer(page)).to_contain_text("Page 3 of 3")
    expect(viewer(page).get_by_role("button", name="Next page")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(viewer(page)).to_have_count(0)


def test_a_text_is_opened_with_the_passage_marked_in_it(visit: Visit, plain: Sourcebook, paper: Path) -> None:
    page = visit(plain).page
    cited(page, plain, paper)
    chip(page, 1).first.click()
    viewer(page).get_by_role("button", name="Text").click()
    expect(viewer(page).locator("mark")).to_have_text(QUOTE)
    for _, sentences in PAGES:
        expect(viewer(page)).to_contain_text(sentences[0])


def test_hover_and_focus_show_the_quote_and_its_place(visit: Visit, plain: Sourcebook, paper: Path) -> None:
    page = visit(plain).page
    cited(page, plain, paper)
    quote = page.get_by_role("tooltip")
    chip(page, 1).first.hover()
    expect(quote).to_contain_text(QUOTE)
    expect(quote).to_contain_text("handbook.pdf")
    expect(quote).to_contain_text("page 2")
    page.mouse.move(0, 0)
    expect(quote).to_be_hidden()
    chip(page, 1).first.focus()
    expect(quote).to_contain_text(QUOTE)
    page.keyboard.press("Escape")
    expect(quote).to_be_hidden()


@pytest.mark.slow
def test_an_address_of_a_place_can_be_kept(visit: Visit, plain: Sourcebook, paper: Path) -> None:
    page = visit(plain).page
    cited(page, plain, paper)
    chip(page, 1).first.click()
    expect(viewer(page)).to_contain_text("Page 2 of 3")
    other = visit(plain).page
    other.goto(page.url)
    expect(viewer(other)).to_contain_text("Page 2 of 3")
    assert words_under(paper, QUOTED_PAGE, marked(picture(other))) == QUOTE.split()
    page.go_back()
    expect(viewer(page)).to_have_count(0)


@pytest.mark.slow
def test_a_citation_of_a_deleted_source_says_so(visit: Visit, plain: Sourcebook, paper: Path) -> None:
    watched = visit(plain)
    page = watched.page
    notebook = cited(page, plain, paper)
    (source,) = plain.read(f"/notebooks/{notebook}/sources")["items"]
    plain.call("DELETE", f"/sources/{source['id']}")
    with watched.expecting(404):
        page.reload()
        chip(page, 1).first.hover()
        expect(page.get_by_role("tooltip")).to_contain_text("This source was deleted")
        expect(page.get_by_role("tooltip")).not_to_contain_text("Mirabel")
