"""A citation opens in any client: its page, the picture of it, and the text around it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from sourcebook.links import Links
from sourcebook.settings import Links as Options

from .support import Served, is_problem

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
QUESTION = "When does the harbour close?"


def cited(served: Served, notebook: str, question: str = QUESTION) -> Any:
    answer = served.http.post("/api/v1/chat", json={"question": question, "notebooks": [notebook]}).json()
    return answer["citations"][0]


def a_pdf() -> bytes:
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=14)
    for text in ("The first page speaks of nothing.", "Seagulls nest below the eastern pier every spring."):
        pdf.add_page()
        pdf.multi_cell(0, 10, text)
    return bytes(pdf.output())


def test_a_link_shows_the_cited_words_in_their_text_to_anybody(served: Served, handbook: str) -> None:
    citation = cited(served, handbook)
    assert citation["url"].startswith("/open/")
    page = httpx.get(served.url + citation["url"], headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    marked = re.search(r'<mark id="cited">(.*?)</mark>', page.text, re.DOTALL)
    assert marked
    assert marked[1] == citation["quote"]
    assert "The lamp on the mole is green." in page.text
    assert "handbook.md" in page.text
    assert "<img" not in page.text
    assert page.headers["cache-control"] == "private, no-store"


def test_the_page_may_run_nothing_and_its_style_is_the_one_that_is_allowed(served: Served, handbook: str) -> None:
    import base64
    import hashlib

    page = httpx.get(served.url + cited(served, handbook)["url"])
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    style = page.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


def test_nothing_in_a_source_becomes_markup(served: Served) -> None:
    notebook = served.notebook()
    text = 'Marmots whistle <script>alert(1)</script> & "loudly" <img src=x onerror=y> when eagles come.'
    served.source(notebook, "a<b>.txt", text.encode())
    page = httpx.get(served.url + cited(served, notebook, "When do marmots whistle?")["url"])
    assert "<script" not in page.text
    assert "<img" not in page.text
    assert "&lt;script&gt;" in page.text


def test_a_pdf_shows_its_page_with_the_words_marked(served: Served) -> None:
    notebook = served.notebook()
    source = served.source(notebook, "birds.pdf", a_pdf())
    citation = cited(served, notebook, "Where do seagulls nest?")
    page = httpx.get(served.url + citation["url"])
    image = re.search(r'<img src="([^"]+)"', page.text)
    assert image
    shown = httpx.get(httpx.URL(served.url + citation["url"]).join(image[1]))
    assert shown.headers["content-type"] == "image/png"
    assert shown.content.startswith(b"\x89PNG")
    base = f"/api/v1/sources/{source['id']}/pages/2.png"
    plain = served.http.get(base).content
    marked = served.http.get(base, params={"start": citation["start"], "end": citation["end"]}).content
    assert marked != plain
    assert marked == shown.content
    is_problem(served.http.get(f"/api/v1/sources/{source['id']}/pages/9.png"), 404, "page_not_found")


def test_links_that_are_none_or_were_changed_open_nothing(served: Served, handbook: str) -> None:
    url, _, at = cited(served, handbook)["url"].partition("#")
    assert at == "cited"
    changed = url[:-1] + ("A" if url[-1] != "A" else "B")
    for bad in (changed, url[:-4], "/open/x", "/open/" + "A" * 70, "/open/%F0%9F%8C%B9"):
        is_problem(served.http.get(bad), 404, "not_found")
        for_people = served.http.get(bad, headers=BROWSER)
        assert for_people.status_code == 404
        assert "There is nothing here any more" in for_people.text
    is_problem(served.http.get(f"{url}/page.png"), 404, "no_pages")


def test_a_link_expires(served: Served, handbook: str) -> None:
    citation = cited(served, handbook)
    long_ago = served.book.links.token(citation["id"], at=0)
    is_problem(served.http.get(f"/open/{long_ago}"), 410, "link_expired")
    assert "has expired" in served.http.get(f"/open/{long_ago}", headers=BROWSER).text


def test_a_link_ends_with_its_source_and_with_its_conversation(served: Served) -> None:
    notebook = served.notebook()
    first, second = served.source(notebook), served.source(notebook, "b.md", b"# Mole\n\nMoles dig tunnels at night.\n")
    citation, other = cited(served, notebook), cited(served, notebook, "When do moles dig tunnels?")
    assert citation["source_id"] == first["id"]
    assert other["source_id"] == second["id"]
    assert served.http.delete(f"/api/v1/sources/{first['id']}").status_code == 202
    assert served.http.get(citation["url"]).status_code == 404
    assert served.http.get(other["url"]).status_code == 200
    talks = served.http.get("/api/v1/conversations", params={"limit": 1}).json()["items"]
    assert served.http.delete(f"/api/v1/conversations/{talks[0]['id']}").status_code == 204
    assert served.http.get(other["url"]).status_code == 404


def test_a_link_shows_what_its_asker_may_still_read(keyed: Served) -> None:
    ada, bob = keyed.key("ada2", "read", "write"), keyed.key("bob2", "read")
    notebook = keyed.notebook(ada)
    keyed.source(notebook, headers=ada)
    principals = {name: keyed.run(keyed.book.owners.ensure(name)) for name in ("ada2", "bob2")}

    async def share() -> None:
        from sourcebook.owners import Principal

        owner = Principal(principals["ada2"], "ada2", frozenset({"read", "write"}))
        await keyed.book.notebooks.share(owner, notebook, principals["bob2"], "read")

    keyed.run(share())
    body = {"question": QUESTION, "notebooks": [notebook]}
    url = keyed.http.post("/api/v1/chat", json=body, headers=bob).json()["citations"][0]["url"]
    assert keyed.http.get(url).status_code == 200

    async def unshare() -> None:
        from sourcebook.database.tables import grants

        async with keyed.book.database.write() as c:
            await c.execute(grants.delete().where(grants.c.notebook_id == notebook))

    keyed.run(unshare())
    assert keyed.http.get(url).status_code == 404


def test_every_process_signs_alike_and_every_installation_differently(tmp_path: Any) -> None:
    import asyncio

    from sourcebook.database.engine import Database
    from sourcebook.database.upgrade import upgrade
    from sourcebook.errors import NotFound

    async def main() -> None:
        tokens = []
        for folder in ("a", "a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            database = Database("", tmp_path / folder)
            await upgrade(database)
            links = Links(Options(public_url="https://books.example.org/"), database)
            await links.open()
            assert links.url("cite_1").startswith("https://books.example.org/open/")
            tokens.append((links, links.token("cite_1", at=10_000)))
            await database.close()
        assert tokens[0][1] == tokens[1][1] != tokens[2][1]
        with pytest.raises(NotFound):
            tokens[2][0].read(tokens[0][0].token("cite_1"))
        assert tokens[1][0].read(tokens[0][0].token("cite_1")) == "cite_1"

    asyncio.run(main())


def test_text_is_given_with_what_stands_around_it(served: Served, handbook: str) -> None:
    citation = cited(served, handbook)
    url = f"/api/v1/sources/{citation['source_id']}/text"
    whole = served.http.get(url).json()["text"]
    start, end = citation["start"], citation["end"]
    for context in (5, 20_000):
        shown = served.http.get(url, params={"start": start, "end": end, "context": context}).json()
        assert shown["text"] == citation["quote"]
        assert shown["before"] == whole[max(start - context, 0) : start]
        assert shown["after"] == whole[end : end + context]
    assert served.http.get(url, params={"start": start, "end": end}).json()["before"] is None
