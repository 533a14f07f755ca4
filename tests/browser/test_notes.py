"""Notes: kept, edited, exported; their citations stay alive."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import docx
import pytest

from .conftest import Visit
from .driving import answered, ask, expect, open_notebook, viewer
from .serving import Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

TEXT = "The harbour of Tolvane closes at ten in the evening.\n\nThe lamp on the mole is green."


def asked(page: Page, server: Sourcebook) -> str:
    """A notebook with an answer; its id."""
    notebook = server.notebook()
    server.text(notebook, "harbour.md", TEXT)
    open_notebook(page, notebook)
    ask(page, "When does the harbour close?")
    answered(page)
    return notebook


def test_an_answer_is_kept_and_its_citations_open_the_source(visit: Visit, plain: Sourcebook) -> None:
    page = visit(plain).page
    notebook = asked(page, plain)
    answered(page).get_by_role("button", name="Save to notes").click()
    toast = page.get_by_role("status").filter(has_text="Saved to notes.")
    toast.get_by_role("button", name="Open").click()
    note = page.locator("sb-notes article")
    expect(note).to_contain_text("closes at ten in the evening")
    note.get_by_role("button", name="Citation 1").first.click()
    expect(viewer(page).locator("mark")).to_contain_text("closes at ten in the evening")
    (kept,) = plain.read(f"/notebooks/{notebook}/notes")["items"]
    assert plain.read(f"/notes/{kept['id']}")["citations"]


@pytest.mark.slow
def test_a_selection_is_kept_with_its_citations_alone(visit: Visit, plain: Sourcebook) -> None:
    page = visit(plain).page
    notebook = asked(page, plain)
    answer = answered(page)
    answer.locator(".prose p").first.evaluate(
        "el => { const r = document.createRange(); r.selectNodeContents(el); getSelection().removeAllRanges();"
        " getSelection().addRange(r); }"
    )
    answer.get_by_role("button", name="Save to notes").click()
    expect(page.get_by_text("Saved to notes.")).to_be_visible()
    (kept,) = plain.read(f"/notebooks/{notebook}/notes")["items"]
    whole = plain.read(f"/notes/{kept['id']}")
    assert "closes at ten in the evening" in whole["text"]
    assert "[1]" in whole["text"]
    assert [c["n"] for c in whole["citations"]] == [1]


@pytest.mark.slow
def test_a_note_is_written_edited_and_deleted(visit: Visit, plain: Sourcebook) -> None:
    notebook = plain.notebook()
    page = visit(plain).page
    open_notebook(page, notebook)
    page.get_by_role("button", name="New note").click()
    page.get_by_label("Title of the note").fill("Closing time")
    page.get_by_label("Text of the note").fill("It closes **late**.\n\n- at ten\n")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("region", name="Preview").locator("strong")).to_have_text("late")
    page.get_by_role("button", name="Save", exact=True).click()
    note = page.locator("sb-notes article")
    expect(note.get_by_role("listitem")).to_have_text("at ten")
    page.locator("sb-notes").get_by_role("button", name="Edit").click()
    page.get_by_label("Text of the note").fill("It closes at *eleven*.")
    page.reload()  # what was typed is kept in the tab
    page.get_by_role("button", name="Closing time", exact=False).first.click()
    page.locator("sb-notes").get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Text of the note")).to_have_value("It closes at *eleven*.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(note.locator("em")).to_have_text("eleven")
    (stored,) = plain.read(f"/notebooks/{notebook}/notes")["items"]
    assert (stored["title"], stored["text"]) == ("Closing time", "It closes at *eleven*.")
    page.get_by_role("button", name="Actions for the note Closing time").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Nothing is noted yet.")).to_be_visible()
    assert plain.read(f"/notebooks/{notebook}/notes")["items"] == []


def saved(page: Page, item: str) -> bytes:
    """The bytes of the file that an item of the open menu saves."""
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=item).click()
    return download.value.path().read_bytes()


def test_notes_and_conversations_are_saved_as_files_with_their_references(visit: Visit, plain: Sourcebook) -> None:
    page = visit(plain).page
    asked(page, plain)
    answered(page).get_by_role("button", name="Save to notes").click()
    menus = {
        "note": page.locator("sb-notes").get_by_role("button", name="Actions for the note"),
        "conversation": page.get_by_role("button", name="Actions for this conversation"),
    }
    for menu in menus.values():
        menu.click()
        markdown = saved(page, "Markdown").decode()
        menu.click()
        document = docx.Document(io.BytesIO(saved(page, "Word")))
        text = "\n".join(paragraph.text for paragraph in document.paragraphs)
        for found in (markdown, text):
            assert "closes at ten in the evening" in found
            assert "harbour.md" in found
