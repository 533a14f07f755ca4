"""The first visit, the list of notebooks, notes with living citations, exports, the status page, and German."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of

from .conftest import Visit
from .driving import cards, expect, open_notebook, sign_in
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
