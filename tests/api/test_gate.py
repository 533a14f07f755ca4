"""What every request passes before its body is read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from sourcebook.errors import Forbidden, Unauthenticated
from sourcebook.hookspecs import hookimpl
from sourcebook.owners import Principal
from sourcebook.settings import Server
from sourcebook_api.authentication import Authenticator
from sourcebook_api.hosts import Hosts, host_name, is_loopback
from sourcebook_api.permissions import permission_for

from .support import Served, is_problem

MIB = 1024 * 1024


class Strict:
    """A plugin that denies whatever is done to the notebooks that it lists."""

    __name__ = "strict"

    def __init__(self) -> None:
        self.forbidden: list[str] = []

    @hookimpl
    async def authorize(self, principal: Principal, action: str, notebook: str | None) -> bool | None:
        return False if notebook in self.forbidden else None


@pytest.fixture(scope="module")
def strict() -> Strict:
    return Strict()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, strict: Strict) -> Iterator[Served]:
    """A server with keys, small limits, and one more name and origin."""
    limits = {"max_upload": MIB, "max_body": 4096}
    names = {"allowed_hosts": ["books.example"], "allowed_origins": ["https://app.example"]}
    with Served(tmp_path_factory.mktemp("locked"), {"server": {**limits, **names}}, (strict,)) as server:
        yield server


@pytest.fixture(scope="module")
def key(locked: Served) -> dict[str, str]:
    return locked.key("ada", "read", "write")


def test_a_request_without_a_key_is_answered_with_how_to_send_one(locked: Served, key: dict[str, str]) -> None:
    answer = locked.http.get("/api/v1/notebooks")
    is_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert locked.http.get("/api/v1/notebooks", headers=key).status_code == 200
    secret = key["Authorization"].split()[1]
    assert locked.http.get("/api/v1/notebooks", headers={"X-API-Key": secret}).status_code == 200
    is_problem(locked.http.get("/api/v1/notebooks", headers={"X-API-Key": secret + "x"}), 401, "unauthenticated")


def test_a_revoked_key_opens_nothing(locked: Served) -> None:
    headers = locked.key("bob", "read")
    assert locked.http.get("/api/v1/notebooks", headers=headers).status_code == 200
    newest = locked.run(locked.book.owners.list_keys())[-1]
    locked.run(locked.book.owners.revoke(newest.id))
    is_problem(locked.http.get("/api/v1/notebooks", headers=headers), 401, "unauthenticated")


def test_a_key_lacks_what_it_was_not_given(locked: Served) -> None:
    reader = locked.key("ada", "read")
    problem = is_problem(locked.http.post("/api/v1/notebooks", json={"title": "x"}, headers=reader), 403, "forbidden")
    assert problem["needed"] == "write"
    writer = locked.key("ada", "write")
    is_problem(locked.http.get("/api/v1/notebooks", headers=writer), 403, "forbidden")
    is_problem(locked.http.get("/api/v1/keys", headers=reader), 403, "forbidden")


@pytest.mark.parametrize("query", ["api_key=x", "access_token=x", "API_KEY=", "q=sbk_abcdefgh1234"])
def test_a_key_in_the_address_is_refused(locked: Served, key: dict[str, str], query: str) -> None:
    answer = locked.http.get(f"/api/v1/notebooks?{query}", headers=key)
    is_problem(answer, 400, "key_in_query")
    assert "abcdefgh1234" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:80:80", "a b", ""])
def test_a_foreign_host_is_not_answered(locked: Served, key: dict[str, str], host: str) -> None:
    answer = locked.http.get("/livez", headers={**key, "Host": host})
    is_problem(answer, 421 if host else 400, "host_not_allowed" if host else "no_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.:1", "127.8.9.1:80", "[::1]:9", "books.example:443"])
def test_loopback_and_listed_names_are_answered(locked: Served, host: str) -> None:
    assert locked.http.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://books.example", "http://localhost:1"])
def test_a_foreign_page_may_not_change_anything(locked: Served, key: dict[str, str], origin: str) -> None:
    headers = {**key, "Origin": origin}
    answer = locked.http.post("/api/v1/notebooks", json={"title": "x"}, headers=headers)
    is_problem(answer, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_page_and_a_listed_one_may(locked: Served, key: dict[str, str]) -> None:
    for origin in (locked.url, "https://app.example"):
        headers = {**key, "Origin": origin}
        assert locked.http.post("/api/v1/notebooks", json={"title": "x"}, headers=headers).status_code == 201
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    preflight = locked.http.options("/api/v1/notebooks", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "https://app.example")
    is_problem(
        locked.http.options("/api/v1/notebooks", headers={**asked, "Origin": "https://x.example"}),
        401,
        "unauthenticated",
    )


def test_every_response_has_a_request_id_and_the_security_headers(locked: Served, key: dict[str, str]) -> None:
    for path in ("/livez", "/docs", "/openapi.json", "/api/v1/notebooks", "/api/v1/nothing"):
        for headers in ({}, key):
            answer = locked.http.get(path, headers=headers)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'")
            assert "frame-ancestors 'none'" in policy
            assert "script-src" not in policy
            assert answer.headers["x-request-id"].startswith("req_")
            assert "server" not in answer.headers


def test_a_harmless_request_id_is_kept_and_another_replaced(locked: Served) -> None:
    assert locked.http.get("/livez", headers={"X-Request-ID": "trace-1.a"}).headers["x-request-id"] == "trace-1.a"
    for bad in ("a b", "x" * 65, '"><script>'):
        assert locked.http.get("/livez", headers={"X-Request-ID": bad}).headers["x-request-id"].startswith("req_")


def test_a_body_that_says_it_is_too_large_is_refused_unread(locked: Served, key: dict[str, str]) -> None:
    answer = locked.http.post("/api/v1/notebooks", content=b"x" * 20_000, headers=key)
    problem = is_problem(answer, 413, "too_large")
    assert (problem["limit"], answer.headers["connection"]) == (4096, "close")


def test_a_body_that_grows_too_large_is_cut_off(locked: Served, key: dict[str, str]) -> None:
    def grows(size: int) -> Iterator[bytes]:
        for _ in range(0, size, 1024):
            yield b" " * 1024

    json = {**key, "Content-Type": "application/json"}
    is_problem(locked.http.post("/api/v1/notebooks", content=grows(8192), headers=json), 413, "too_large")
    notebook = locked.notebook(key)
    url = f"/api/v1/notebooks/{notebook}/sources"
    is_problem(locked.http.put(f"{url}/a.txt", content=grows(MIB + 1024), headers=key), 413, "too_large")
    form = {"a": ("a.txt", b"x" * MIB)}
    is_problem(locked.http.post(url, files=form, headers=key), 413, "too_large")
    assert locked.http.get(url, headers=key).json()["items"] == []
    assert not [f for f in Path(locked.book.folder, "blob_stores").rglob("*") if f.is_file() and f.stat().st_size]


def test_an_upload_without_a_key_is_cut_off_early(locked: Served, key: dict[str, str]) -> None:
    sent = 0
    head = f"PUT /api/v1/notebooks/nb_1/sources/a.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: {50 * MIB}\r\n\r\n"
    with socket.socket() as connection:
        # What waits in the client's own kernel buffer, megabytes by default, has not been taken by anybody.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        connection.connect(("127.0.0.1", locked.port))
        connection.sendall(head.encode())
        connection.settimeout(20)
        try:
            while sent < 50 * MIB:
                sent += connection.send(b"x" * 65536)
        except (ConnectionError, TimeoutError):
            pass
    assert sent <= 4 * MIB


def test_a_refused_upload_still_gets_its_answer(locked: Served, key: dict[str, str]) -> None:
    answer = locked.http.put("/api/v1/notebooks/nb_1/sources/a.txt", content=b"x" * 200_000)
    is_problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "/livez", None),
        ("POST", "/livez", "write"),
        ("GET", "/api/v1/notebooks", "read"),
        ("PUT", "/api/v1/x/anything", "write"),
        ("POST", "/api/v1/search", "read"),
        ("POST", "/api/v1/search/more", "write"),
        ("POST", "/api/v1/runs/run_1/cancel", "read"),
        ("GET", "/api/v1/keys", "admin"),
        ("GET", "/api/v1/keys/anything", "admin"),
        ("GET", "/api/v1/keysmith", "read"),
        ("TRACE", "/api/v1/notebooks", "write"),
    ],
)
def test_method_and_address_decide_the_permission(method: str, path: str, permission: str | None) -> None:
    assert permission_for(method, path) == permission


def test_only_loopback_is_recognised_in_every_spelling() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.255.1.2", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "localhost.evil.example")))
    assert (host_name("[::1]:80"), host_name("A.example."), host_name("a/b")) == ("::1", "a.example", None)
    assert Hosts(Server()).only_loopback
    assert not Hosts(Server(host="0.0.0.0")).only_loopback
    assert not Hosts(Server(allowed_hosts=("books.example",))).only_loopback
    assert Hosts(Server(host="192.0.2.7")).allowed("192.0.2.7:8000")


def test_the_first_key_locks_a_loopback_server(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        assert server.http.get("/api/v1/notebooks").status_code == 200
        # A client that always sends some key is served as long as there is none.
        assert server.http.get("/api/v1/notebooks", headers={"Authorization": "Bearer none"}).status_code == 200
        body = {"owner": "ada", "permissions": ["read", "admin"]}
        made = server.http.post("/api/v1/keys", json=body).json()
        is_problem(server.http.get("/api/v1/notebooks"), 401, "unauthenticated")
        headers = {"Authorization": f"Bearer {made['secret']}"}
        listed = server.http.get("/api/v1/keys", headers=headers)
        assert [k["id"] for k in listed.json()["items"]] == [made["id"]]
        assert made["secret"] not in listed.text
        assert server.http.delete(f"/api/v1/keys/{made['id']}", headers=headers).status_code == 204


class _Book:
    """As much of a Sourcebook as the authenticator asks."""

    def __init__(self, plugin: object = None, keys: bool = True) -> None:
        self.plugins = SimpleNamespace(authenticate=plugin or self.nobody)
        self.owners = SimpleNamespace(any_keys=self.any_keys, authenticate=self.refuse, local=self.local)
        self.keys = keys

    async def nobody(self, headers: Mapping[str, str], app: object) -> None:
        return None

    async def any_keys(self) -> bool:
        return self.keys

    async def refuse(self, secret: str) -> Principal:
        raise Unauthenticated("no")

    async def local(self) -> Principal:
        return Principal("own_1", "local", frozenset())


def _ask(book: _Book, server: Server | None = None, headers: Mapping[str, str] | None = None) -> Principal:
    authenticator = Authenticator(book, Hosts(server or Server()))  # type: ignore[arg-type]  # as much as is asked of it
    return asyncio.run(authenticator.principal(headers or {}))


def test_a_failing_plugin_lets_nobody_in() -> None:
    async def broken(headers: Mapping[str, str], app: object) -> Principal:
        raise RuntimeError("broken")

    with pytest.raises(Unauthenticated):
        _ask(_Book(broken, keys=False))


def test_a_plugin_names_the_principal_before_keys_do() -> None:
    async def names(headers: Mapping[str, str], app: object) -> Principal:
        return Principal(headers["x-user"], "ada", frozenset(["read"]))

    assert _ask(_Book(names), headers={"x-user": "own_9"}).owner_id == "own_9"


def test_without_keys_only_loopback_is_local() -> None:
    assert _ask(_Book(keys=False)).name == "local"
    for server in (Server(host="0.0.0.0"), Server(allowed_hosts=("books.example",))):
        with pytest.raises(Unauthenticated):
            _ask(_Book(keys=False), server)
    with pytest.raises(Unauthenticated):
        _ask(_Book(keys=True))


def test_a_plugin_may_deny_a_notebook(locked: Served, strict: Strict, key: dict[str, str]) -> None:
    mine = locked.notebook(key)
    source = locked.source(mine, headers=key)["id"]
    passage = locked.http.get(f"/api/v1/sources/{source}/passages", headers=key).json()["items"][0]["passage_id"]
    strict.forbidden.append(mine)
    asked = {"question": "When?", "notebooks": [mine]}
    answers: list[httpx.Response] = [
        locked.http.get(f"/api/v1/notebooks/{mine}", headers=key),
        locked.http.get(f"/api/v1/sources/{source}/text", headers=key),
        locked.http.get(f"/api/v1/passages/{passage}", headers=key),
        locked.http.post("/api/v1/search", json=asked, headers=key),
        locked.http.post("/api/v1/chat", json=asked, headers=key),
        locked.http.delete(f"/api/v1/sources/{source}", headers=key),
    ]
    for answer in answers:
        is_problem(answer, 403, Forbidden.code)
