"""The sources pane: in, watched, and out again."""

from __future__ import annotations

from pathlib import Path

import pytest
from fpdf import FPDF
from fpdf.enums import EncryptionMethod

from .conftest import Visit
from .driving import act, add_files, expect, open_notebook, paste, row
from .paper import written
from .serving import Sourcebook


def test_an_uploaded_pdf_is_watched_until_it_is_ready(visit: Visit, plain: Sourcebook, tmp_path: Path) -> None:
    notebook = plain.notebook()
    page = visit(plain).page
    open_notebook(page, notebook)
    # Every state that the row ever shows, in order.
    page.evaluate(
        """() => { window.states = []; new MutationObserver(() => {
          const state = document.querySelector('sb-sources .sources li')?.dataset.state;
          if (state && states.at(-1) !== state) states.push(state);
        }).observe(document, {subtree: true, childList: true, attributes: true}) }"""
    )
    add_files(page, written(tmp_path / "handbook.pdf"))
    expect(row(page, "handbook.pdf")).to_have_attribute("data-state", "ready")
    expect(row(page, "handbook.pdf")).to_contain_text("3 pages")
    states = page.evaluate("states")
    assert states[-1] == "ready"
    assert states[0] in ("queued", "parsing")
    (source,) = plain.read(f"/notebooks/{notebook}/sources")["items"]
    assert (source["name"], source["state"]) == ("handbook.pdf", "ready")
    expect(page.get_by_role("checkbox", name="Use handbook.pdf for answers")).to_be_checked()


@pytest.mark.slow
def test_dropped_files_and_pasted_text_come_in(visit: Visit, plain: Sourcebook) -> None:
    notebook = plain.notebook()
    page = visit(plain).page
    open_notebook(page, notebook)
    page.evaluate(
        """() => { const data = new DataTransfer();
          for (const name of ['one.md', 'two.txt']) data.items.add(new File(['Text of ' + name], name));
          for (const type of ['dragenter', 'dragover', 'drop'])
            document.querySelector('sb-sources').dispatchEvent(new DragEvent(type, {dataTransfer: data, bubbles: true,
              cancelable: true})); }"""
    )
    paste(page, "three", "Text that was pasted.")
    for name, kind in {"one.md": "MD", "two.txt": "TXT", "three.md": "MD"}.items():
        expect(row(page, name)).to_contain_text(kind)
        expect(row(page, name)).to_have_attribute("data-state", "ready")
    names = [source["name"] for source in plain.read(f"/notebooks/{notebook}/sources")["items"]]
    assert sorted(names) == ["one.md", "three.md", "two.txt"]


def test_what_fails_says_why_and_can_be_tried_again(visit: Visit, plain: Sourcebook, tmp_path: Path) -> None:
    notebook = plain.notebook()
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing of the kind\n")
    page = visit(plain).page
    open_notebook(page, notebook)
    add_files(page, broken)
    expect(row(page, "broken.pdf")).to_have_attribute("data-state", "failed")
    (source,) = plain.read(f"/notebooks/{notebook}/sources")["items"]
    for words in (source["problem"]["title"], source["problem"]["detail"], source["problem"]["remedy"]):
        expect(row(page, "broken.pdf")).to_contain_text(words)
    with page.expect_response(lambda answer: answer.request.method == "POST" and answer.status == 202):
        row(page, "broken.pdf").get_by_role("button", name="Try again").click()
    expect(row(page, "broken.pdf").get_by_role("button", name="Try again")).to_be_visible()


@pytest.mark.slow
def test_a_locked_pdf_asks_for_its_password(visit: Visit, plain: Sourcebook, tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=12)
    pdf.cell(text="The ledger is kept under lock.")
    pdf.set_encryption(owner_password="o", user_password="swordfish", encryption_method=EncryptionMethod.AES_128)
    locked = tmp_path / "locked.pdf"
    locked.write_bytes(bytes(pdf.output()))
    page = visit(plain).page
    open_notebook(page, plain.notebook())
    add_files(page, locked)
    row(page, "locked.pdf").get_by_label("Password of locked.pdf").fill("swordfish")
    row(page, "locked.pdf").get_by_role("button", name="Unlock").click()
    expect(row(page, "locked.pdf")).to_have_attribute("data-state", "ready")


@pytest.mark.slow
def test_a_refused_upload_says_why(visit: Visit, plain: Sourcebook, tmp_path: Path) -> None:
    program = tmp_path / "program.bin"
    program.write_bytes(bytes(range(256)) * 20)
    watched = visit(plain)
    page = watched.page
    open_notebook(page, plain.notebook())
    with watched.expecting(415):
        add_files(page, program)
        coming = page.get_by_role("list", name="On its way").get_by_role("listitem")
        expect(coming.locator(".problem")).to_be_visible()
        expect(coming.get_by_role("button", name="Try again")).to_be_visible()
        coming.get_by_role("button", name="Dismiss program.bin").click()
        expect(coming).to_have_count(0)


@pytest.mark.slow
def test_a_source_is_renamed_tagged_and_found(visit: Visit, plain: Sourcebook) -> None:
    notebook = plain.notebook()
    for i in range(9):
        plain.made(f"/notebooks/{notebook}/sources/text", {"name": f"text{i}.md", "text": f"Text number {i}."})
    page = visit(plain).page
    open_notebook(page, notebook)
    act(page, "text4.md", "Rename")
    page.get_by_role("dialog").get_by_label("Name").fill("the ledger")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    act(page, "the ledger", "Edit tags")
    page.get_by_role("dialog").get_by_label("Tags").fill("winter, lamp ,")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(row(page, "the ledger")).to_contain_text("winter")
    page.get_by_role("searchbox", name="Find a source").fill("LAMP")
    expect(page.locator("sb-sources .sources > li:visible")).to_have_count(1)
    (source,) = [s for s in plain.read(f"/notebooks/{notebook}/sources")["items"] if s["name"] == "the ledger"]
    assert source["tags"] == ["winter", "lamp"]


def test_a_deletion_can_be_taken_back(visit: Visit, plain: Sourcebook) -> None:
    notebook = plain.notebook()
    kept = plain.text(notebook, "kept.md", "This stays.")["id"]
    plain.text(notebook, "gone.md", "This goes.")
    page = visit(plain).page
    open_notebook(page, notebook)
    act(page, "kept.md", "Delete")
    expect(row(page, "kept.md")).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(row(page, "kept.md")).to_be_visible()
    act(page, "gone.md", "Delete")
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as answer:
        page.get_by_role("status").filter(has_text="gone.md deleted").get_by_role("button", name="Close").click()
    assert answer.value.status == 202
    assert [s["id"] for s in plain.read(f"/notebooks/{notebook}/sources")["items"]] == [kept]


@pytest.mark.slow
def test_a_deletion_holds_where_the_page_is_left_at_once(visit: Visit, plain: Sourcebook) -> None:
    notebook = plain.notebook()
    plain.text(notebook, "gone.md", "This goes.")
    page = visit(plain).page
    open_notebook(page, notebook)
    act(page, "gone.md", "Delete")
    page.goto("about:blank")
    page.goto(f"/#/n/{notebook}")
    expect(page.get_by_text("Nothing is here yet.")).to_be_visible()
