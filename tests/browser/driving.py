"""The page's ways, by the names that people (and screen readers) know them by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# Skips the module that imports this where playwright is missing.
expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=30_000)


def sign_in(page: Page, key: str, keep: bool = False) -> None:
    """Fill in the form and send it."""
    page.get_by_label("Key").fill(key)
    page.get_by_label("Stay signed in").set_checked(keep)
    page.get_by_role("button", name="Sign in").click()


def cards(page: Page) -> Locator:
    """The notebooks of the list."""
    return page.locator("sb-notebooks .cards a.card")


def make_notebook(page: Page, title: str) -> str:
    """By hand; the notebook's id, taken from the address."""
    page.get_by_role("button", name="New notebook").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill(title)
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    found = re.search(r"#/n/([^/?]+)", page.url)
    assert found
    return found[1]


def open_notebook(page: Page, notebook: str) -> None:
    """At its address, until its parts are there."""
    page.goto(f"/#/n/{notebook}")
    expect(page.get_by_role("heading", name="Sources", exact=True)).to_be_visible()


def row(page: Page, name: str) -> Locator:
    """A source in the list."""
    sources = page.get_by_role("list", name="Sources", exact=True)
    return sources.get_by_role("listitem").filter(has=page.get_by_role("link", name=name, exact=True))


def add_files(page: Page, *files: Any) -> None:
    """By the dialog, as a reader picks them."""
    page.get_by_role("button", name="Add sources").click()
    with page.expect_file_chooser() as chosen:
        page.get_by_role("dialog").get_by_role("button", name="Choose files").click()
    chosen.value.set_files(list(files))


def paste(page: Page, title: str, text: str) -> None:
    """Text, by the dialog."""
    page.get_by_role("button", name="Add sources").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Pasted text").fill(text)
    dialog.get_by_label("Title of the text").fill(title)
    dialog.get_by_role("button", name="Add", exact=True).last.click()


def act(page: Page, source: str, action: str) -> None:
    """An action of a source's menu."""
    row(page, source).get_by_role("button", name=f"Actions for {source}").click()
    page.get_by_role("menu").get_by_role("menuitem", name=action).click()


def ask(page: Page, question: str) -> None:
    """Write a question and send it."""
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_role("button", name="Send", exact=True).click()


def answers(page: Page) -> Locator:
    """The answers on the screen."""
    return page.get_by_role("article", name="Answer")


def answered(page: Page) -> Locator:
    """The last answer, once it is complete."""
    last = answers(page).last
    expect(last).not_to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    return last


def chip(page: Page, n: int) -> Locator:
    """A citation of the last answer."""
    return answers(page).last.get_by_role("button", name=re.compile(rf"^Citation {n}:"))


def viewer(page: Page) -> Locator:
    """The source that is open."""
    return page.locator("sb-viewer")


def picture(page: Page) -> bytes:
    """The PNG of the page that the viewer shows, as the browser has decoded it."""
    image = viewer(page).get_by_role("img")
    expect(image).to_be_visible()
    expect(viewer(page).get_by_role("region", name="Page of the source")).not_to_have_attribute("aria-busy", "true")
    data = image.evaluate(
        """async image => { await image.decode();
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
          canvas.getContext('2d').drawImage(image, 0, 0);
          const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
          return Array.from(bytes, byte => String.fromCharCode(byte)).join(''); }"""
    )
    return str(data).encode("latin-1")
