"""Signing in, and what another owner sees."""

from __future__ import annotations

import pytest

from .conftest import Visit
from .driving import cards, expect, make_notebook, sign_in
from .serving import Sourcebook


def test_a_key_opens_the_page_and_a_wrong_one_does_not(visit: Visit, keyed: Sourcebook, keys: dict[str, str]) -> None:
    watched = visit(keyed)
    with watched.expecting(401):
        page = watched.go()
        expect(page.get_by_role("heading", name="Sign in to Sourcebook")).to_be_visible()
        expect(page.get_by_label("Key")).to_be_focused()
        sign_in(page, keys["ada"][:-1] + "!")
        expect(page.get_by_role("alert").filter(has_text="does not know this key")).to_be_visible()
        sign_in(page, keys["ada"])
        expect(page.get_by_role("heading", name="Notebooks")).to_be_visible()
    assert keys["ada"] not in page.url
    assert not [url for url in watched.requests if "sbk_" in url]


@pytest.mark.slow
def test_a_key_lives_as_long_as_the_reader_says(visit: Visit, keyed: Sourcebook, keys: dict[str, str]) -> None:
    watched = visit(keyed)
    with watched.expecting(401):
        page = watched.go()
        sign_in(page, keys["ada"])
        expect(page.get_by_role("heading", name="Notebooks")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Notebooks")).to_be_visible()
        assert page.evaluate("localStorage.getItem('key')") is None
        page.get_by_role("button", name="Sign out").click()
        sign_in(page, keys["ada"], keep=True)
        expect(page.get_by_role("heading", name="Notebooks")).to_be_visible()
        assert page.evaluate("localStorage.getItem('key')") == keys["ada"]
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in to Sourcebook")).to_be_visible()
        assert page.evaluate("[localStorage.getItem('key'), sessionStorage.length]") == [None, 0]


def test_another_owner_sees_nothing(visit: Visit, keyed: Sourcebook, keys: dict[str, str]) -> None:
    hers, his = visit(keyed), visit(keyed)
    with hers.expecting(401), his.expecting(401, 404):
        page = hers.go()
        sign_in(page, keys["ada"])
        notebook = make_notebook(page, "Ada's own")
        page.goto("/#/")
        expect(cards(page).filter(has_text="Ada's own").first).to_be_visible()
        page = his.go()
        sign_in(page, keys["bob"])
        expect(page.get_by_role("heading", name="Notebooks")).to_be_visible()
        expect(cards(page)).to_have_count(0)
        expect(page.locator("body")).not_to_contain_text("Ada")
        page.goto(f"/#/n/{notebook}")
        expect(page.get_by_role("link", name="All notebooks")).to_be_visible()
        expect(page.locator("body")).not_to_contain_text("Ada")


@pytest.mark.slow
def test_a_key_that_is_revoked_leads_back_to_the_sign_in(visit: Visit, keyed: Sourcebook) -> None:
    key = keyed.key("carol")
    watched = visit(keyed)
    with watched.expecting(401):
        page = watched.go()
        sign_in(page, key)
        make_notebook(page, "Carol's")
        keyed.revoke("carol")
        page.reload()
        expect(page.get_by_role("heading", name="Sign in to Sourcebook")).to_be_visible()
        expect(page.locator("body")).not_to_contain_text("Carol")
        assert page.evaluate("sessionStorage.getItem('key')") is None
