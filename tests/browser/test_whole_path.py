"""From the first visit to a cited answer: with the mouse, with the keyboard alone, in German, on a narrow screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import Visit
from .driving import (
    add_files,
    answered,
    answers,
    ask,
    cards,
    chip,
    expect,
    make_notebook,
    open_notebook,
    picture,
    row,
    until,
    viewer,
)
from .paper import QUESTION, QUOTE, QUOTED_PAGE, marked, words_under, written
from .serving import Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_first_run_offers_the_bundled_example(fresh: Sourcebook, visit: Visit) -> None:
    page = visit(fresh).go()
    expect(page.get_by_role("heading", name="Ask your own sources")).to_be_visible()
    page.get_by_role("button", name="Try the example").click()
    handbook = row(page, "tolvane-harbour-handbook.pdf")
    expect(handbook).to_have_attribute("data-state", "ready", timeout=60_000)
    expect(row(page, "standing-orders-of-the-watch.docx")).to_have_attribute("data-state", "ready", timeout=60_000)
    page.get_by_role("button", name="When was the light on Candle Rock first lit?").click()
    expect(answered(page)).to_contain_text("first lit on 2 November 1871")
    chip(page, 1).first.click()
    expect(viewer(page).get_by_role("heading", name="tolvane-harbour-handbook.pdf")).to_be_visible()
    assert len(marked(picture(page))) >= 1
    page.get_by_role("link", name="Sourcebook").click()
    expect(cards(page).filter(has_text="Tolvane harbour")).to_contain_text("2 sources · 1 conversation")
    expect(page.get_by_role("button", name="Try the example")).to_have_count(0)


def test_from_nothing_to_a_cited_answer(visit: Visit, plain: Sourcebook, tmp_path: Path) -> None:
    paper = written(tmp_path / "handbook.pdf")
    page = visit(plain).go()
    notebook = make_notebook(page, "My handbook")
    add_files(page, paper)
    expect(row(page, "handbook.pdf")).to_have_attribute("data-state", "ready")
    ask(page, QUESTION)
    expect(answered(page)).to_contain_text("Mirabel Quint kept the lamp")
    chip(page, 1).first.click()
    assert words_under(paper, QUOTED_PAGE, marked(picture(page))) == QUOTE.split()
    assert plain.read(f"/notebooks/{notebook}")["title"] == "My handbook"


def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press `key` until what has the focus is called so, and can be seen to have it."""
    for _ in range(60):
        page.keyboard.press(key)
        held = page.evaluate(
            """() => { const el = document.activeElement;
              const name = el.getAttribute('aria-label') ?? el.labels?.[0]?.textContent ?? el.textContent;
              return [el === document.body || el.tabIndex < 0 ? '' : name, el.matches(':focus-visible')] }"""
        )
        if name in held[0]:
            assert held[1], f"{name} has the focus, and nothing shows it"
            return
    raise AssertionError(f"{name} is not reached by {key}")


def test_the_whole_path_by_keyboard_alone(visit: Visit, plain: Sourcebook) -> None:
    page = visit(plain).go()
    expect(page.get_by_role("button", name="New notebook")).to_be_visible()
    tab_to(page, "New notebook")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Title")).to_be_focused()
    page.keyboard.type("By hand")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="By hand")).to_be_visible()
    tab_to(page, "Add sources", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    tab_to(page, "Pasted text")
    page.keyboard.type("The harbour of Tolvane closes at ten in the evening.")
    tab_to(page, "Title of the text")
    page.keyboard.press("Control+A")
    page.keyboard.type("harbour")
    page.keyboard.press("Enter")
    expect(row(page, "harbour.md")).to_have_attribute("data-state", "ready")
    expect(page.get_by_role("button", name="Add sources")).to_be_focused()
    tab_to(page, "Question")
    page.keyboard.type("When does the harbour close?")
    page.keyboard.press("Enter")
    expect(answered(page)).to_contain_text("ten in the evening")
    tab_to(page, "Citation 1", "Shift+Tab")
    expect(page.get_by_role("tooltip")).to_contain_text("ten in the evening")
    page.keyboard.press("Enter")
    expect(viewer(page).locator("mark")).to_contain_text("closes at ten in the evening")
    until(page, lambda: page.evaluate("() => document.querySelector('sb-viewer').contains(document.activeElement)"))
    page.keyboard.press("Escape")
    expect(viewer(page)).to_have_count(0)
    expect(chip(page, 1).first).to_be_focused()
    tab_to(page, "Save to notes")
    page.keyboard.press("Enter")
    expect(page.locator("sb-notes").get_by_role("listitem")).to_have_count(1)
    tab_to(page, "Actions for harbour.md", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Edit tags")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)
    expect(page.get_by_role("button", name="Actions for harbour.md")).to_be_focused()


@pytest.mark.slow
def test_it_speaks_german_to_who_reads_german(visit: Visit, plain: Sourcebook) -> None:
    notebook = plain.notebook("Hafen")
    plain.text(notebook, "hafen.md", "The harbour of Tolvane closes at ten in the evening.")
    page = visit(plain, locale="de-DE").go()
    expect(page.get_by_role("heading", name="Notizbücher")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.goto(f"/#/n/{notebook}")
    page.get_by_label("Frage", exact=True).fill("When does the harbour close?")
    page.get_by_role("button", name="Senden").click()
    answer = page.get_by_role("article", name="Antwort")
    expect(answer.get_by_role("button", name="Als Notiz speichern")).to_be_visible()
    expect(page.get_by_text("Antwortet aus 1 Quelle", exact=True)).to_be_visible()
    page.get_by_role("combobox", name="Sprache").select_option(label="English")
    expect(page.get_by_role("article", name="Answer")).to_contain_text("ten in the evening")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.reload()
    expect(page.get_by_role("heading", name="Sources", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", [pytest.param(320, marks=pytest.mark.slow), 390])
def test_a_narrow_screen_shows_one_pane(visit: Visit, plain: Sourcebook, tmp_path: Path, width: int) -> None:
    paper = written(tmp_path / "handbook.pdf")
    notebook = plain.notebook()
    plain.file(notebook, paper)
    page = visit(plain, viewport={"width": width, "height": 700}, has_touch=True).page
    open_notebook(page, notebook)
    panes = page.locator("sb-notebook > section:visible")
    tabs = page.get_by_role("navigation", name="Parts of the notebook")
    expect(panes).to_have_count(1)
    ask(page, QUESTION)
    answered(page)
    chip(page, 1).first.click()
    expect(panes).to_have_count(1)
    assert words_under(paper, QUOTED_PAGE, marked(picture(page))) == QUOTE.split()
    page.get_by_role("button", name="Back to the sources").click()
    expect(answers(page)).to_be_visible()
    for name in ("Sources", "Notes", "Chat"):
        tabs.get_by_role("button", name=name).click()
        expect(panes).to_have_count(1)
        expect(page.get_by_role("region", name=name, exact=True)).to_be_visible()
        # Nothing sticks out: no sideways scrolling on a phone.
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.goto("/#/")
    expect(cards(page).first).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.goto("/#/status")
    expect(page.get_by_role("heading", name="Plugins")).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
