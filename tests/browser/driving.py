"""The page's ways, by the names that people (and screen readers) know them by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
