"""Who may do what, asked of every route that there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sourcebook.configuration import load
from sourcebook.database.tables import keys
from sourcebook_api.app import create_app
from sourcebook_api.permissions import permission_for

from .permissions import ADMIN, TABLE
from .support import Served, is_problem

# What a request to a route needs beside its address, to be refused for nothing but the caller.
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/chat": {"json": {"question": "When?", "notebooks": ["{notebook_id}"]}},
    "POST /api/v1/search": {"json": {"question": "When?", "notebooks": ["{notebook_id}"]}},
    "PATCH /api/v1/conversations/{conversation_id}": {"json": {"title": "Mine"}},
    "PATCH /api/v1/notebooks/{notebook_id}": {"json": {"title": "Mine"}},
    "POST /api/v1/notebooks/{notebook_id}/reindex": {"json": {}},
    "PATCH /api/v1/sources/{source_id}": {"json": {"tags": ["mine"]}},
    "PUT /api/v1/sources/{source_id}/content": {"content": b"# Mine"},
    "PATCH /api/v1/notes/{note_id}": {"json": {"title": "Mine"}},
    "POST /api/v1/conversations": {"json": {"notebooks": ["{notebook_id}"]}},
    "POST /api/v1/notebooks/{notebook_id}/notes": {"json": {"text": "Mine"}},
    "POST /v1/chat/completions": {
        "json": {"model": "{notebook_id}", "messages": [{"role": "user", "content": "When?"}]}
    },
    "POST /v1/embeddings": {"json": {"model": "{notebook_id}", "input": "A"}},
    "POST /api/v1/notebooks/{notebook_id}/sources": {"files": {"a": ("a.md", b"# A")}},
    "POST /api/v1/notebooks/{notebook_id}/sources/text": {"json": {"name": "a.md", "text": "A"}},
    "POST /api/v1/notebooks/{notebook_id}/sources/url": {"json": {"url": "https://example.org"}},
    "PUT /api/v1/notebooks/{notebook_id}/shares/{owner}": {"json": {"permission": "read"}},
    "PUT /api/v1/notebooks/{notebook_id}/sources/{name}": {"content": b"# A"},
    "GET /api/v1/sources/{source_id}/pages/{page}.png": {"params": {"start": 0, "end": 5}},
    "GET /api/v1/sources/{source_id}/text": {"params": {"places": True}},
}


def walk(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Path and methods of every route. FastAPI keeps an included router as one entry; the table below tells of it
    if that changes."""
    for route in routes:
        context = getattr(route, "include_context", None)
        if context is not None:
            yield from walk(route.original_router.routes, prefix + context.prefix)
        else:
            yield prefix + route.path, set(route.methods)


def routes() -> Iterator[str]:
    """`METHOD path` of every route of the application."""
    for path, methods in walk(create_app(load(environ={}, overrides={})).router.routes):
        for method in methods:
            if not (method == "HEAD" and path in ("/docs", "/openapi.json")):  # the framework's own
                yield f"{method} {path}"


def is_refusal(answer: httpx.Response, status: int, code: str) -> Any:
    """Below `/v1` in OpenAI's shape, elsewhere a problem; the problem or the error."""
    if not answer.request.url.path.startswith("/v1/"):
        return is_problem(answer, status, code)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["code"], error["request_id"]) == (code, answer.headers["x-request-id"])
    return error


ROUTES = sorted(set(routes()))
WITH_IDS = [
    r for r in ROUTES if TABLE.get(r) and (re.search(r"{\w+_id}|{model}", r) or "{notebook_id}" in str(BODIES.get(r)))
]


@pytest.fixture(scope="module")
def ada(keyed: Served) -> dict[str, str]:
    return keyed.key("ada", "read", "write")


@pytest.fixture(scope="module")
def bob(keyed: Served) -> dict[str, str]:
    return keyed.key("bob", "read", "write")


@pytest.fixture(scope="module")
def of_ada(keyed: Served, ada: dict[str, str]) -> dict[str, str]:
    """One of everything that has an id, all of it Ada's."""
    notebook = keyed.notebook(ada)
    source = keyed.source(notebook, headers=ada)
    asked = {"question": "When does the harbour close?", "notebooks": [notebook]}
    answer = keyed.http.post("/api/v1/chat", json=asked, headers=ada).json()
    return {
        "notebook_id": notebook,
        "source_id": source["id"],
        "job_id": source["job_id"],
        "passage_id": answer["citations"][0]["passage_id"],
        "citation_id": answer["citations"][0]["id"],
        "conversation_id": answer["conversation_id"],
        "message_id": answer["message_id"],
        "note_id": keyed.http.post(f"/api/v1/notebooks/{notebook}/notes", json={"text": "A"}, headers=ada).json()["id"],
        "model": notebook,
        "token": answer["citations"][0]["url"].rpartition("/")[2],
        "run_id": answer["run_id"],
        "key_id": keyed.run(keyed.book.owners.list_keys())[0].id,
        "name": "a.md",
        "page": "1",
        "owner": "root",
    }


PLAIN = {"name", "page", "owner"}
"""What stands in an address and is no id."""


def call(server: Served, route: str, ids: dict[str, str], headers: Any = None) -> httpx.Response:
    return server.http.send(_request(server, route, ids, headers))


def head_of(server: Served, route: str, ids: dict[str, str], headers: Any = None) -> httpx.Response:
    """The same without the body, which may be a stream that never ends."""
    answer = server.http.send(_request(server, route, ids, headers), stream=True)
    answer.close()
    return answer


def _request(server: Served, route: str, ids: dict[str, str], headers: Any) -> httpx.Request:
    method, path = route.split()
    extra = dict(BODIES.get(route, {}))
    if "json" in extra:
        replaced = {"notebooks": [ids["notebook_id"]], "model": ids["notebook_id"]}
        extra["json"] = {k: replaced.get(k, v) for k, v in extra["json"].items()}
    return server.http.build_request(method, path.format(**ids), headers=headers, **extra)


def test_every_route_is_in_the_table_and_the_gate_agrees() -> None:
    assert set(ROUTES) == set(TABLE)
    assert {r: permission_for(*r.split()) for r in ROUTES} == TABLE


def test_every_route_that_reaches_something_by_id_is_tried() -> None:
    assert len(WITH_IDS) > 20
    assert all("{" not in r or r in WITH_IDS or "/open/" in r for r in ROUTES)


@pytest.mark.parametrize("route", [r for r in ROUTES if TABLE.get(r)])
def test_without_a_credential_every_route_is_closed(keyed: Served, of_ada: dict[str, str], route: str) -> None:
    answer = call(keyed, route, of_ada)
    assert answer.status_code == 401
    if not route.startswith("HEAD"):
        is_refusal(answer, 401, "unauthenticated")


@pytest.mark.parametrize("route", sorted(r for r in WITH_IDS if r not in ADMIN))
def test_what_is_anothers_looks_exactly_like_nothing(
    keyed: Served, of_ada: dict[str, str], ada: dict[str, str], bob: dict[str, str], route: str
) -> None:
    nothing = {name: value if name in PLAIN else value[:-3] + "000" for name, value in of_ada.items()}
    theirs, none = call(keyed, route, of_ada, bob), call(keyed, route, nothing, bob)
    assert theirs.status_code == none.status_code == 404
    if route.startswith("HEAD"):
        return
    code = "model_not_found" if " /v1/" in route else "not_found"
    problems = [is_refusal(a, 404, code) for a in (theirs, none)]
    for problem in problems:
        said = "detail" if "detail" in problem else "message"
        problem[said] = re.sub(r"[\w-]{26,}", "ID", problem[said])
        del problem["request_id"]
    assert problems[0] == problems[1]


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if TABLE.get(r)))
def test_a_key_without_the_permission_is_refused_whatever_else_it_has(
    keyed: Served, of_ada: dict[str, str], route: str
) -> None:
    others = [p for p in ("read", "write", "admin") if p != TABLE[route]]
    answer = call(keyed, route, of_ada, keyed.key("ada", *others))
    assert answer.status_code == 403
    if not route.startswith("HEAD"):
        refusal = is_refusal(answer, 403, "forbidden")
        assert refusal.get("needed", TABLE[route]) == TABLE[route]


CARRIERS: Mapping[str, Callable[[str], Any]] = {
    "bearer": lambda secret: {"Authorization": f"Bearer {secret}"},
    "bearer in lower case": lambda secret: {"authorization": f"bearer {secret}"},
    "x-api-key": lambda secret: {"X-API-Key": secret},
}
NO_CARRIERS: Mapping[str, Callable[[str], Any]] = {
    "basic": lambda secret: {"Authorization": f"Basic {secret}"},
    "bare": lambda secret: {"Authorization": secret},
    "cookie": lambda secret: {"Cookie": f"authorization={secret}; x-api-key={secret}"},
    "twice": lambda secret: [("Authorization", f"Bearer {secret}"), ("Authorization", "Bearer other")],
    "truncated": lambda secret: {"Authorization": f"Bearer {secret[:-1]}"},
    "null": lambda secret: {"Authorization": "Bearer null"},
    "empty": lambda secret: {"Authorization": "Bearer", "X-API-Key": ""},
}


@pytest.fixture(scope="module")
def held(keyed: Served) -> dict[str, dict[str, str]]:
    """Ada's secrets: with each permission alone, with all, and with all but no longer valid."""

    def secret(*permissions: str) -> str:
        return keyed.key("ada", *permissions)["Authorization"].split()[1]

    every = ("read", "write", "admin")
    revoked, expired = secret(*every), secret(*every)
    found = keyed.run(keyed.book.owners.list_keys())
    keyed.run(keyed.book.owners.revoke(found[-2].id))

    async def expire() -> None:
        async with keyed.book.database.write() as c:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await c.execute(keys.update().where(keys.c.id == found[-1].id).values(expires_at=past))

    keyed.run(expire())
    alone = {permission: secret(permission) for permission in every}
    return {"good": {**alone, "all": secret(*every)}, "bad": {"revoked": revoked, "expired": expired}}


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if TABLE.get(r)))
def test_every_carrier_and_permission_is_told_the_same(
    keyed: Served, of_ada: dict[str, str], held: dict[str, dict[str, str]], route: str
) -> None:
    """Of what is not there, so that nothing changes: 403 is the gate's, 401 the credential's; all else got through."""
    nothing = {name: value if name in PLAIN else value[:-3] + "000" for name, value in of_ada.items()}
    made = ("keys", "notebooks", "notebooks/example", "conversations")
    creates = route in {f"POST /api/v1/{one}" for one in made}
    for name, carried in CARRIERS.items():
        for permission, secret in held["good"].items():
            if creates and permission in ("all", TABLE[route]):
                continue
            got = call(keyed, route, nothing, carried(secret)).status_code
            allowed = permission in ("all", TABLE[route])
            assert (got not in (401, 403)) == allowed, (name, permission, got)
        for why, secret in held["bad"].items():
            assert call(keyed, route, nothing, carried(secret)).status_code == 401, (name, why)
    for name, carried in NO_CARRIERS.items():
        assert call(keyed, route, nothing, carried(held["good"]["all"])).status_code == 401, name


def test_nothing_of_the_owner_was_touched(keyed: Served, of_ada: dict[str, str], ada: dict[str, str]) -> None:
    notebook = keyed.http.get(f"/api/v1/notebooks/{of_ada['notebook_id']}", headers=ada).json()
    assert (notebook["title"], notebook["version"]) == ("Test", 1)
    sources = keyed.http.get(f"/api/v1/notebooks/{of_ada['notebook_id']}/sources", headers=ada).json()["items"]
    assert [s["id"] for s in sources] == [of_ada["source_id"]]


def test_lists_hold_nothing_of_others(keyed: Served, of_ada: dict[str, str], bob: dict[str, str]) -> None:
    for path in ("/api/v1/notebooks", "/api/v1/conversations"):
        assert keyed.http.get(path, headers=bob).json() == {"items": [], "next_cursor": None}


def test_a_conversation_of_another_cannot_be_joined(keyed: Served, of_ada: dict[str, str], bob: dict[str, str]) -> None:
    mine = keyed.notebook(bob)
    for body in ({"notebooks": [mine]}, {}):
        asked = {"question": "When?", "conversation_id": of_ada["conversation_id"], **body}
        is_problem(keyed.http.post("/api/v1/chat", json=asked, headers=bob), 404, "not_found")


def test_naming_the_sources_of_another_finds_nothing(
    keyed: Served, of_ada: dict[str, str], bob: dict[str, str]
) -> None:
    asked = {"question": "harbour", "notebooks": [keyed.notebook(bob)], "sources": [of_ada["source_id"]]}
    assert keyed.http.post("/api/v1/search", json=asked, headers=bob).json()["items"] == []
