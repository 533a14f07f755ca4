"""`/docs`: all of the API on one page that needs nothing from anywhere else."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

from sourcebook.hookspecs import hookimpl
from sourcebook.hosts import RouteHost
from sourcebook_api.schema_words import words

from .support import Served

LOADING = {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "base", "form", "source", "use"}


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.blocks: dict[str, list[str]] = {"h3": [], "pre": [], "style": []}
        self._in: str = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.update(one for one in (given.get("id"),) if one)
        self.links += [given["href"] or ""] if tag == "a" and "href" in given else []
        handlers = [name for name in given if name.startswith("on") or name in ("src", "srcset", "style", "background")]
        if tag in LOADING or handlers:
            self.loads.append(self.get_starttag_text() or tag)
        if tag in self.blocks:
            self._in = tag
            self.blocks[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = "" if tag == self._in else self._in

    def handle_data(self, data: str) -> None:
        if self._in:
            self.blocks[self._in][-1] += data


@pytest.fixture(scope="module")
def page(served: Served) -> Page:
    answer = served.http.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(answer.text)


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    return served.http.get("/openapi.json").json()


def test_every_operation_of_this_server_is_on_the_page_those_of_plugins_too(page: Page, document: Any) -> None:
    all_of_them = [(o["operationId"], f"{m.upper()} {p}") for p, ms in document["paths"].items() for m, o in ms.items()]
    assert {"POST /api/v1/chat", "GET /v1/models", "GET /api/v1/x/buggy/tells"} <= {called for _, called in all_of_them}
    told = [" ".join(heading.split()) for heading in page.blocks["h3"]]
    for name, called in all_of_them:
        assert told.count(called) == 1, called
        assert page.ids[name] == 1
        assert f"#{name}" in page.links


def test_every_schema_and_every_status_with_codes_can_be_gone_to(page: Page, document: Any) -> None:
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= set(page.ids)
    assert {f"problem-{status}" for status in (400, 404, 409, 422, 503)} <= set(page.ids)


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    assert page.loads == []
    (style,) = page.blocks["style"]
    assert not re.search(r"url\(|@import|@font-face", style)
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}


def test_every_link_on_the_page_leads_somewhere(page: Page) -> None:
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    assert [name for name, count in page.ids.items() if count > 1] == []


def test_a_browser_may_load_nothing_but_the_style_that_is_in_the_page(served: Served) -> None:
    policy = dict(one.split(" ", 1) for one in served.http.get("/docs").headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["style-src"].startswith("'sha256-")
    assert "script-src" not in policy
    assert "connect-src" not in policy


def test_every_call_is_one_that_a_shell_can_read_with_the_body_of_the_example(page: Page, document: Any) -> None:
    calls = [shlex.split(block) for block in page.blocks["pre"] if block.startswith("curl")]
    operations = [o for ms in document["paths"].values() for o in ms.values()]
    assert len(calls) == len(operations)
    bodies = [orjson.loads(call[call.index("-d") + 1]) for call in calls if "-d" in call]
    examples = [o["requestBody"]["content"].get("application/json", {}) for o in operations if "requestBody" in o]
    firsts = [next((e["value"] for e in one["examples"].values()), None) for one in examples if one]
    assert sorted(map(orjson.dumps, bodies)) == sorted(map(orjson.dumps, firsts))
    assert any("-N" in call for call in calls)
    assert any("file=@handbook.pdf" in call for call in calls)
    assert {"Authorization: Bearer $KEY" in call for call in calls} == {True, False}


class Hostile:
    """A plugin whose descriptions are written for browsers."""

    __name__ = "hostile"

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        async def sneaky(word: str = "</td><script>alert(1)</script>") -> None:
            """<script>alert(2)</script> ![](https://evil.example/a.png) [x](javascript:alert(3))"""

        host.router.add_api_route("/{word}/<img src=x>", sneaky)


def test_what_plugins_say_of_themselves_can_do_nothing(tmp_path: Path) -> None:
    with Served(tmp_path, plugins=(Hostile(),)) as server:
        text = server.http.get("/docs").text
    page = Page(text)
    assert "alert(2)" in text
    assert page.loads == []
    assert [link for link in page.links if link.startswith(("javascript", "data"))] == []


def test_a_start_makes_no_page() -> None:
    code = (
        "import sys\nfrom sourcebook.configuration import load\nfrom sourcebook_api.app import create_app\n"
        "create_app(load(environ={}, overrides={}))\n"
        "print({'sourcebook_api.reference', 'sourcebook_api.reference_page', 'markdown_it'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'sourcebook_api.reference'}"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string", "maxLength": 3}, "text, characters at most <code>3</code>"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 0}, "integer or null, default <code>0</code>"),
        ({"type": "array", "items": {"$ref": "#/a/Place"}}, 'list of <a href="#schema-Place">Place</a>'),
        ({"enum": ["a", "<b>"]}, "<code>a</code> or <code>&lt;b&gt;</code>"),
        ({"type": ["string", "null"], "format": "uri"}, "text (uri) or null"),
        ({"additionalProperties": {"type": "number"}, "type": "object"}, "object of number"),
        ({}, "any value"),
    ],
)
def test_a_schema_in_words(schema: dict[str, Any], said: str) -> None:
    assert words(schema) == said
