"""What the table of routes does not show: routes of plugins, and ids that stand in a query or in a body."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from sourcebook.callers import Caller
from sourcebook.hookspecs import hookimpl
from sourcebook.hosts import RouteHost

from .permissions import PLUGINS, TABLE
from .support import Served, is_problem
from .test_permissions import walk

Work = Callable[[Any, str], Awaitable[object]]


async def _job(caller: Caller, job_id: str) -> object:
    return await anext(caller.job(job_id))


# All that a plugin's route reaches of somebody's goes through a Caller: each of its methods with the id that it takes.
REACHES: Mapping[str, tuple[str, Work]] = {
    "notebook": ("notebook_id", lambda c, i: c.notebook(i)),
    "own_notebook": ("notebook_id", lambda c, i: c.own_notebook(i)),
    "notebooks": ("notebook_id", lambda c, i: c.notebooks([i])),
    "source": ("source_id", lambda c, i: c.source(i)),
    "document": ("source_id", lambda c, i: c.document(i)),
    "text": ("source_id", lambda c, i: c.text(i)),
    "search": ("notebook_id", lambda c, i: c.search("When?", [i])),
    "ask": ("notebook_id", lambda c, i: c.ask("When?", [i])),
    "add_text": ("notebook_id", lambda c, i: c.add_text(i, "a.md", "A")),
    "add_url": ("notebook_id", lambda c, i: c.add_url(i, "https://example.org/")),
    "job": ("job_id", _job),
}
# Of those who were found already, and of all that are theirs.
NO_ID = {"counts", "all_notebooks"}


class Everything:
    """A plugin whose routes do all that a plugin's can."""

    __name__ = "acme-everything"

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        def route(work: Work) -> Callable[..., Awaitable[dict[str, bool]]]:
            async def reach(one: str, caller: Any = host.caller) -> dict[str, bool]:
                await work(caller, one)
                return {"reached": True}

            return reach

        for name, (_, work) in REACHES.items():
            host.router.add_api_route(f"/{name}/{{one}}", route(work), methods=["POST"], name=name)

        async def mine(caller: Any = host.caller) -> list[str]:
            return [notebook.id for notebook in await caller.all_notebooks()]

        host.router.add_api_route("/mine", mine)


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("plugged"), plugins=(Everything(),)) as server:
        server.key("root", "admin")
        yield server


@pytest.fixture(scope="module")
def ada(plugged: Served) -> dict[str, str]:
    return plugged.key("ada", "read", "write")


@pytest.fixture(scope="module")
def bob(plugged: Served) -> dict[str, str]:
    return plugged.key("bob", "read", "write")


@pytest.fixture(scope="module")
def of_ada(plugged: Served, ada: dict[str, str]) -> dict[str, str]:
    notebook = plugged.notebook(ada)
    source = plugged.source(notebook, headers=ada)
    asked = {"question": "When does the harbour close?", "notebooks": [notebook]}
    answer = plugged.http.post("/api/v1/chat", json=asked, headers=ada).json()
    conversation = plugged.http.get(f"/api/v1/conversations/{answer['conversation_id']}", headers=ada).json()
    return {
        "notebook_id": notebook,
        "source_id": source["id"],
        "job_id": source["job_id"],
        "document_id": answer["citations"][0]["document_id"],
        "conversation_id": answer["conversation_id"],
        "message_id": answer["message_id"],
        "question_id": conversation["messages"][0]["id"],
    }


def url_of(name: str, one: str) -> str:
    return f"/api/v1/x/acme-everything/{name}/{one}"


def test_every_method_of_a_caller_is_tried() -> None:
    methods = {name for name, member in inspect.getmembers(Caller, inspect.isfunction) if not name.startswith("_")}
    assert methods == {*REACHES, *NO_ID}


@pytest.mark.parametrize("name", [name for name in REACHES if name != "add_url"])
def test_a_plugins_route_reaches_what_is_its_callers(
    plugged: Served, of_ada: dict[str, str], ada: dict[str, str], name: str
) -> None:
    """Or the test below would prove nothing."""
    answer = plugged.http.post(url_of(name, of_ada[REACHES[name][0]]), headers=ada)
    assert answer.json() == {"reached": True}


@pytest.mark.parametrize("name", list(REACHES))
def test_what_is_anothers_is_nothing_to_a_plugins_route_too(
    plugged: Served, of_ada: dict[str, str], bob: dict[str, str], name: str
) -> None:
    theirs = of_ada[REACHES[name][0]]
    told = []
    for one in (theirs, theirs[:-3] + "000"):
        problem = is_problem(plugged.http.post(url_of(name, one), headers=bob), 404, "not_found")
        del problem["request_id"]
        told.append({**problem, "detail": re.sub(r"[\w-]{26,}", "ID", problem["detail"])})
    assert told[0] == told[1]


def test_a_plugin_lists_nothing_of_others(plugged: Served, of_ada: dict[str, str], bob: dict[str, str]) -> None:
    assert plugged.http.get("/api/v1/x/acme-everything/mine", headers=bob).json() == []


def test_the_routes_of_built_in_plugins_are_in_the_table_and_the_gate_agrees(plugged: Served) -> None:
    app = plugged.server._app
    found = {f"{method} {path}" for path, methods in walk(app.router.routes) for method in methods}
    theirs = {route for route in found - set(TABLE) if "/x/acme-" not in route}
    theirs -= {"HEAD /docs", "HEAD /openapi.json"}  # the framework's own
    assert theirs == set(PLUGINS)
    named = {route: route.replace("{name:path}", "app.js").split() for route in PLUGINS}
    assert {route: app.state.permissions.needed(*request) for route, request in named.items()} == PLUGINS


# Ids that stand in no address. A conversation's and a source's are in test_permissions.
ELSEWHERE: Mapping[str, Callable[[str, str, Mapping[str, str]], tuple[str, str, dict[str, Any]]]] = {
    "a document of text": lambda nb, src, ids: (
        "GET",
        f"/sources/{src}/text",
        {"params": {"document": ids["document"]}},
    ),
    "a document of a page": lambda nb, src, ids: (
        "GET",
        f"/sources/{src}/pages/1.png",
        {"params": {"document": ids["document"], "start": 0, "end": 5}},
    ),
    "a question that is replaced": lambda nb, src, ids: (
        "POST",
        "/chat",
        {"json": {"question": "When?", "conversation_id": ids["own_conversation"], "replaces": ids["question"]}},
    ),
    "an answer that is kept as a note": lambda nb, src, ids: (
        "POST",
        f"/notebooks/{nb}/notes",
        {"json": {"message_id": ids["message"]}},
    ),
    "a notebook of a conversation": lambda nb, src, ids: (
        "POST",
        "/conversations",
        {"json": {"notebooks": [nb, ids["notebook"]]}},
    ),
}


@pytest.mark.parametrize("what", list(ELSEWHERE))
def test_an_id_of_anothers_in_a_query_or_a_body_is_nothing(
    plugged: Served, of_ada: dict[str, str], bob: dict[str, str], what: str
) -> None:
    mine = plugged.notebook(bob)
    source = plugged.source(mine, headers=bob)["id"]
    own = plugged.http.post("/api/v1/conversations", json={"notebooks": [mine]}, headers=bob).json()["id"]
    told = []
    for name in ("theirs", "none"):
        ids = {n.removesuffix("_id"): i if name == "theirs" else i[:-3] + "000" for n, i in of_ada.items()}
        method, path, extra = ELSEWHERE[what](mine, source, {**ids, "own_conversation": own})
        answer = plugged.http.request(method, f"/api/v1{path}", headers=bob, **extra)
        problem = is_problem(answer, 404, "not_found")
        del problem["request_id"]
        told.append({**problem, "detail": re.sub(r"[\w-]{26,}", "ID", problem["detail"])})
    assert told[0] == told[1]


def test_a_cursor_is_no_key(plugged: Served, of_ada: dict[str, str], bob: dict[str, str]) -> None:
    """What it names is where to go on, in a list that holds nothing of others."""
    mine = plugged.notebook(bob)
    for path in ("/notebooks", "/conversations", f"/notebooks/{mine}/sources", f"/notebooks/{mine}/notes"):
        for cursor in (of_ada["source_id"], of_ada["notebook_id"], of_ada["conversation_id"]):
            answer = plugged.http.get(f"/api/v1{path}", params={"cursor": cursor}, headers=bob)
            assert answer.status_code in (200, 400, 422)
            assert not any(theirs in answer.text for theirs in of_ada.values() if theirs != cursor)
