"""The first visit, the list of notebooks, notes with living citations, exports, the status page, and German."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of

from .conftest import Visit
from .driving import answered, answers, ask, cards, expect, open_notebook, sign_in, viewer
from .serving import Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

TEXT = "The harbour of Tolvane closes at ten in the evening. The lamp on the mole is green."
FIRST, SECOND = "The harbour closes at ten in the evening", "The lamp on the mole is green"
ANSWER = f"{FIRST} [1].\n\n{SECOND} [1]."
QUESTION = "When does the harbour close?"


@pytest.fixture
def notebook(modelled: Sourcebook) -> str:
    """One with a source."""
    made = modelled.notebook()
    modelled.text(made, "harbour.md", TEXT)
    return made


def answer_of(server: Sourcebook, llm: FakeLLMServer, notebook: str) -> str:
    """Ask through the API; the id of the answer's message."""
    llm.script(Reply(stream_of([ANSWER])))
    asked = {"question": QUESTION, "notebooks": [notebook], "stream": False}
    return str(server.made("/chat", asked)["message_id"])


def card(page: Page, title: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=title))


def notes(page: Page) -> Locator:
    """The notes pane."""
    return page.locator("sb-notes")


def action(page: Page, of: str, name: str) -> None:
    """Of a menu, by the keyboard alone."""
    page.get_by_role("button", name=f"Actions for {of}").focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("menu")
    expect(menu).to_be_visible()
    for _ in range(menu.get_by_role("menuitem").count()):
        if name in page.evaluate("document.activeElement.textContent"):
            break
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")


def test_the_first_visit_leads_to_an_example_that_can_be_asked(fresh: Sourcebook, visit: Visit) -> None:
    page = visit(fresh).go()
    expect(page.get_by_role("heading", name="Ask your own sources")).to_be_visible()
    page.get_by_role("button", name="Try the example").click()
    expect(page.get_by_role("heading", name="Tolvane harbour")).to_be_visible()
    expect(page.get_by_text("Answers from 2 sources")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="When was the light on Candle Rock first lit?").click()
    expect(answered(page)).to_contain_text("1871")
    page.get_by_role("link", name="Sourcebook").click()
    expect(card(page, "Tolvane harbour")).to_contain_text("2 sources · 1 conversation")
    expect(page.get_by_role("button", name="Try the example")).to_have_count(0)


def test_notebooks_are_counted_renamed_and_deleted(fresh: Sourcebook, visit: Visit) -> None:
    other = fresh.notebook("Other")
    made = fresh.notebook("Tides", description="High and low")
    fresh.text(made, "a.md", "High water at six.")
    fresh.made(f"/notebooks/{made}/notes", {"text": "x"})
    fresh.made("/search", {"question": "water", "notebooks": [other]})
    fresh.call("PATCH", f"/notebooks/{other}", json={"description": "used last"})
    page = visit(fresh).go()
    expect(cards(page)).to_have_count(2)
    expect(cards(page).first).to_contain_text("Other")
    expect(card(page, "Tides")).to_contain_text("1 source · 1 note")
    action(page, "the notebook Tides", "Rename")
    page.get_by_role("dialog").get_by_label("Title").fill("Ebb")
    page.keyboard.press("Enter")
    expect(cards(page).first).to_contain_text("Ebb")
    action(page, "the notebook Ebb", "Delete")
    expect(page.get_by_role("dialog")).to_contain_text("“Ebb” is deleted for good, with 1 source and 1 note.")
    page.keyboard.press("Escape")
    action(page, "the notebook Ebb", "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(cards(page)).to_have_count(1)
    assert [n["title"] for n in fresh.read("/notebooks")["items"]] == ["Other"]


def test_an_answer_becomes_a_note_whose_citations_open_the_source(
    modelled: Sourcebook, visit: Visit, llm: FakeLLMServer, notebook: str
) -> None:
    page = visit(modelled).go()
    open_notebook(page, notebook)
    llm.script(Reply(stream_of([ANSWER])))
    ask(page, QUESTION)
    answered(page).get_by_role("button", name="Save to notes").click()
    page.get_by_role("button", name="Open", exact=True).click()
    chips = notes(page).get_by_role("button", name=re.compile("^Citation 1: harbour.md"))
    expect(chips).to_have_count(2)
    chips.first.focus()
    expect(page.get_by_role("tooltip")).to_contain_text("closes at ten in the evening")
    page.keyboard.press("Enter")
    expect(viewer(page).locator("mark").first).to_contain_text("closes at ten in the evening")


def test_a_selection_becomes_a_note_with_the_citations_that_it_names(
    modelled: Sourcebook, visit: Visit, llm: FakeLLMServer, notebook: str
) -> None:
    page = visit(modelled).go()
    open_notebook(page, notebook)
    llm.script(Reply(stream_of([ANSWER])))
    ask(page, QUESTION)
    answered(page)
    answers(page).last.locator("p", has_text=SECOND).evaluate("p => getSelection().selectAllChildren(p)")
    answers(page).last.get_by_role("button", name="Save to notes").click()
    expect(notes(page).locator(".note-open")).to_have_count(1)
    (note,) = modelled.read(f"/notebooks/{notebook}/notes")["items"]
    assert note["text"] == f"{SECOND} [1]."
    assert modelled.read(f"/notes/{note['id']}")["citations"]


def test_a_note_is_written_previewed_stored_and_deleted(modelled: Sourcebook, visit: Visit, notebook: str) -> None:
    page = visit(modelled).go()
    open_notebook(page, notebook)
    notes(page).get_by_role("button", name="New note").click()
    notes(page).get_by_label("Title of the note").fill("Ebb")
    notes(page).get_by_label("Text of the note").fill("**Low** water <img src=x>")
    page.reload()
    notes(page).get_by_role("button", name="New note").click()
    expect(notes(page).get_by_label("Text of the note")).to_have_value("**Low** water <img src=x>")
    notes(page).get_by_role("button", name="Preview").click()
    preview = notes(page).get_by_role("region", name="Preview")
    expect(preview.locator("strong")).to_have_text("Low")
    expect(preview).to_contain_text("<img src=x>")
    notes(page).get_by_role("button", name="Preview").click()
    notes(page).get_by_label("Text of the note").press("Control+Enter")
    expect(notes(page).get_by_role("heading", name="Ebb")).to_be_focused()
    notes(page).get_by_role("button", name="All notes").click()
    expect(notes(page).locator(".note-open", has_text="Ebb")).to_be_focused()
    action(page, "the note Ebb", "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(notes(page)).to_contain_text("Nothing is noted yet")


def test_an_edit_overwrites_nobodys_and_loses_nothing(modelled: Sourcebook, visit: Visit, notebook: str) -> None:
    note = modelled.made(f"/notebooks/{notebook}/notes", {"title": "Ebb", "text": "One"})["id"]
    watched = visit(modelled)
    page = watched.go()
    open_notebook(page, notebook)
    action(page, "the note Ebb", "Edit")
    modelled.call("PATCH", f"/notes/{note}", json={"text": "Somebody else's"})
    notes(page).get_by_label("Text of the note").fill("Mine")
    with watched.expecting(412):
        notes(page).get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert").filter(has_text="edited")).to_be_visible()
    expect(notes(page).get_by_label("Text of the note")).to_have_value("Mine")
    assert modelled.read(f"/notes/{note}")["text"] == "Somebody else's"


def test_a_source_that_is_gone_is_said_to_be_gone(
    modelled: Sourcebook, visit: Visit, llm: FakeLLMServer, notebook: str
) -> None:
    kept = {"message_id": answer_of(modelled, llm, notebook), "title": "Hours"}
    modelled.made(f"/notebooks/{notebook}/notes", kept)
    (source,) = modelled.read(f"/notebooks/{notebook}/sources")["items"]
    modelled.call("DELETE", f"/sources/{source['id']}")
    page = visit(modelled).go()
    open_notebook(page, notebook)
    notes(page).locator(".note-open").click()
    chips = notes(page).locator(".chip")
    chips.first.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("This source was deleted")
    chips.first.click()
    assert "/s/" not in page.url


def test_notes_and_conversations_are_exported(
    modelled: Sourcebook, visit: Visit, llm: FakeLLMServer, notebook: str, tmp_path: Path
) -> None:
    from docx import Document

    kept = {"message_id": answer_of(modelled, llm, notebook), "title": "Hours"}
    modelled.made(f"/notebooks/{notebook}/notes", kept)
    page = visit(modelled).go()
    open_notebook(page, notebook)
    with page.expect_download() as markdown:
        action(page, "the note Hours", "Export as Markdown")
    assert markdown.value.suggested_filename == "Hours.md"
    assert "**harbour.md**" in Path(markdown.value.path()).read_text(encoding="utf-8")
    with page.expect_download() as word:
        action(page, "the note Hours", "Export as Word document")
    document = Document(io.BytesIO(Path(word.value.path()).read_bytes()))
    assert document.paragraphs[0].text == "Hours"
    page.get_by_title("Conversations").click()
    page.get_by_role("menu", name="Conversations").get_by_role("menuitem", name=QUESTION).click()
    expect(answers(page)).to_have_count(1)
    with page.expect_download() as talk:
        action(page, "this conversation", "Export as Markdown")
    assert FIRST in Path(talk.value.path()).read_text(encoding="utf-8")


def test_whoever_may_only_read_is_offered_nothing_else(visit: Visit, keyed: Sourcebook, keys: dict[str, str]) -> None:
    keyed.headers = {"Authorization": f"Bearer {keys['cleo']}"}
    made = keyed.notebook("Bob's")
    keyed.made(f"/notebooks/{made}/notes", {"title": "Ebb", "text": "x"})
    secret = keyed.key("cleo", "read")
    watched = visit(keyed)
    with watched.expecting(401):
        page = watched.go()
        sign_in(page, secret)
        expect(card(page, "Bob's")).to_be_visible()
    expect(page.get_by_role("button", name="New notebook")).to_have_count(0)
    expect(page.get_by_role("button", name="Actions for the notebook Bob's")).to_have_count(0)
    card(page, "Bob's").get_by_role("link").click()
    notes(page).locator(".note-open").click()
    expect(notes(page).get_by_role("heading", name="Ebb")).to_be_visible()
    expect(notes(page).get_by_role("button", name="Edit")).to_have_count(0)


def test_the_status_page_tells_what_runs_and_why_something_does_not(visit: Visit, modelled: Sourcebook) -> None:
    page = visit(modelled).go("/#/status")
    health, pipelines, plugins = (page.get_by_role("table").nth(n) for n in range(3))
    expect(health.get_by_role("row", name="database ok")).to_be_visible()
    expect(pipelines.get_by_role("row").filter(has_text="default")).to_contain_text("fake (openai)")
    expect(plugins.get_by_role("row").filter(has_text="parsers: pdf")).to_contain_text("active")
    told = {p["name"]: p for p in modelled.read("/plugins")["items"]}
    for plugin in told.values():
        if plugin["reason"]:
            expect(plugins).to_contain_text(plugin["reason"])


def test_german_is_spoken_to_whoever_reads_it_and_can_be_chosen(fresh: Sourcebook, visit: Visit) -> None:
    page = visit(fresh, locale="de-DE").go()
    expect(page.get_by_role("heading", name="Notizbücher")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "de"
    page.get_by_label("Sprache").select_option("en")
    expect(page.get_by_role("heading", name="Notebooks")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Notebooks")).to_be_visible()
