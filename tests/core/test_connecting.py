"""`connections`: whether every server that is configured does what it is for, and where it does not, why, in words."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from sourcebook.checkup import Finding
from sourcebook.configuration import load
from sourcebook.connecting import connections
from sourcebook.testing.llm_server import DIMENSIONS, FakeLLMServer, Hold, Reply, json_reply
from tests.postgres import Postgres

KEY = "canary-77d0"


def asked(folder: Path, seconds: float = 60.0, **overrides: Any) -> dict[str, Finding]:
    """What is found, by what was asked."""
    settings = {"storage": {"path": str(folder / "data")}, **overrides}
    found = asyncio.run(connections(load(environ={}, overrides=settings), seconds))
    assert not (folder / "data").exists(), "nothing is made"
    return {one.check: one for one in found}


def one_llm(folder: Path, base_url: str, seconds: float = 60.0, **more: Any) -> Finding:
    """What is said of a model at this address."""
    instance = {"use": "openai", "base_url": base_url, "model": "fake-model", "api_key": KEY, **more}
    (found,) = asked(folder, seconds, llms={"mine": instance}).values()
    assert found.check == "llms.mine"
    assert KEY not in found.detail + str(found.data)
    return found


def is_wrong(found: Finding, code: str, words: str) -> None:
    assert not found.ok
    assert found.data["code"] == code, found
    assert words in found.detail
    assert found.data["remedy"]


class Answers(BaseHTTPRequestHandler):
    """A server that answers everything alike, and keeps what came."""

    server: Alike

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.server.seen.append((self.command, self.path, self.rfile.read(length)))
        body = orjson.dumps(self.server.body)
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


class Alike(HTTPServer):
    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body
        self.seen: list[tuple[str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), Answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def alike(status: int, body: Any) -> Iterator[Alike]:
    server = Alike(status, body)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def nobody() -> int:
    """A port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side, with a certificate that nobody has signed."""
    folder = tmp_path_factory.mktemp("tls")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*make, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_what_works_on_this_machine_alone_is_not_asked(tmp_path: Path) -> None:
    assert asked(tmp_path) == {}


def test_everything_that_answers_says_what_it_did(tmp_path: Path) -> None:
    with FakeLLMServer() as server, alike(200, {}) as collector:
        at = {"use": "openai", "base_url": server.url, "model": "fake-model"}
        found = asked(
            tmp_path,
            llms={"mine": at},
            embedders={"mine": {**at, "dimensions": DIMENSIONS}},
            rerankers={"mine": {**at, "use": "rerank"}},
            tracing={"endpoint": f"{collector.url}/v1/traces"},
            limits={"counters": f"redis://127.0.0.1:{collector.server_port}"},
        )
        chat = next(r for r in server.requests if r.path.endswith("/chat/completions"))
        assert (chat.json["max_tokens"], len(server.requests)) == (1, 3)
    assert all(one.ok for one in found.values()), found
    assert f"{server.url} answers as fake-model" in found["llms.mine"].detail
    assert f"embeds with fake-model (dimensions: dense {DIMENSIONS})" in found["embedders.mine"].detail
    assert "scores with fake-model" in found["rerankers.mine"].detail
    assert collector.seen[0] == ("POST", "/v1/traces", b"")
    assert set(found) == {"llms.mine", "embedders.mine", "rerankers.mine", "tracing.endpoint", "limits.counters"}


def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    is_wrong(one_llm(tmp_path, "http://nowhere.invalid/v1"), "dns", "does not resolve")


def test_a_port_where_nothing_listens(tmp_path: Path, nobody: int) -> None:
    is_wrong(one_llm(tmp_path, f"http://127.0.0.1:{nobody}/v1"), "refused", "nothing listens")


def test_a_certificate_that_nobody_signed(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with FakeLLMServer(tls=tls) as server:
        is_wrong(one_llm(tmp_path, server.url), "tls", "certificate is not trusted: self-signed")


@pytest.mark.slow  # it waits for an answer that will not come
def test_https_where_plain_http_is_spoken(tmp_path: Path) -> None:
    with FakeLLMServer() as server:
        is_wrong(one_llm(tmp_path, server.url.replace("http://", "https://")), "tls", "may speak plain HTTP")


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "cut", "hung up before it had answered"),
        (b"220 mail.example ESMTP\r\n\r\n", "not_http", "does not speak plain HTTP"),
    ],
)
def test_something_that_is_no_web_server(tmp_path: Path, said: bytes, code: str, words: str) -> None:
    with FakeLLMServer() as server:
        server.script(*[Reply([said], framing="raw")] * 5)
        is_wrong(one_llm(tmp_path, server.url), code, words)


@pytest.mark.parametrize("status", [401, 403])
def test_a_credential_that_is_refused(tmp_path: Path, status: int) -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"error": {"message": f"bad key {KEY}"}}, status))
        is_wrong(one_llm(tmp_path, server.url), "unauthorized", "does not accept our credential")


def test_a_model_that_the_server_does_not_have(tmp_path: Path) -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"error": {"message": "model 'fake-model' not found"}}, 404))
        found = one_llm(tmp_path, server.url)
        is_wrong(found, "not_found", "does not know this model")
        assert "model 'fake-model' not found" in found.detail, "its own words"


def test_a_server_that_takes_too_long(tmp_path: Path) -> None:
    with FakeLLMServer() as server:
        hold = Hold()
        server.script(Reply([hold]))
        is_wrong(one_llm(tmp_path, server.url, 0.5), "slow", "did not answer in time (0.5 s)")
        hold.release()


def test_an_embedder_of_another_size(tmp_path: Path) -> None:
    with FakeLLMServer() as server:
        instance = {"use": "openai", "base_url": server.url, "model": "fake", "dimensions": DIMENSIONS + 1}
        found = asked(tmp_path, embedders={"mine": instance})["embedders.mine"]
        is_wrong(found, "dimensions", f"{DIMENSIONS} dimensions where {DIMENSIONS + 1} are expected")


def test_one_that_hangs_does_not_keep_the_others(tmp_path: Path) -> None:
    with FakeLLMServer() as hanging, FakeLLMServer() as fine:
        hold = Hold()
        hanging.script(Reply([hold]), path="/v1/embeddings")
        found = asked(
            tmp_path,
            1.0,
            embedders={"mine": {"use": "openai", "base_url": hanging.url, "model": "m"}},
            llms={"mine": {"use": "openai", "base_url": fine.url, "model": "m"}},
        )
        hold.release()
    assert found["llms.mine"].ok
    is_wrong(found["embedders.mine"], "slow", "did not answer in time")


def test_a_qdrant_server_is_asked_and_nothing_is_made_there(tmp_path: Path, nobody: int) -> None:
    there = {"result": {"exists": False}, "status": "ok", "time": 0.0}
    with alike(200, there) as server:
        found = asked(tmp_path, retrievers={"mine": {"use": "qdrant", "url": server.url}})["retrievers.mine"]
        assert found.ok, found
        assert [(method, path) for method, path, _ in server.seen] == [("GET", "/collections/sourcebook/exists")]
    with alike(403, {"status": {"error": "forbidden"}}) as server:
        found = asked(tmp_path, retrievers={"mine": {"use": "qdrant", "url": server.url}})["retrievers.mine"]
        is_wrong(found, "unauthorized", "does not accept our credential")
    instance = {"use": "qdrant", "url": f"http://127.0.0.1:{nobody}"}
    is_wrong(asked(tmp_path, retrievers={"mine": instance})["retrievers.mine"], "refused", "nothing listens")


def test_a_collector_that_wants_a_key(tmp_path: Path) -> None:
    with alike(401, {}) as server:
        found = asked(tmp_path, tracing={"endpoint": server.url})["tracing.endpoint"]
        is_wrong(found, "unauthorized", "does not accept our credential")


def test_postgresql_says_its_version_and_schema(tmp_path: Path, postgres: Postgres) -> None:
    found = asked(tmp_path, storage={"path": str(tmp_path / "data"), "database": postgres.database()})
    assert found["storage.database"].ok, found
    assert "is PostgreSQL 1" in found["storage.database"].detail
    assert "schema none yet" in found["storage.database"].detail


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("postgresql://me:{key}@127.0.0.1:{port}/x", "refused", "nothing listens"),
        ("postgresql://me:{key}@nowhere.invalid/x", "dns", "does not resolve"),
    ],
)
def test_a_postgresql_that_is_not_there(tmp_path: Path, nobody: int, url: str, code: str, words: str) -> None:
    database = url.format(key=KEY, port=nobody)
    found = asked(tmp_path, storage={"path": str(tmp_path / "data"), "database": database})["storage.database"]
    is_wrong(found, code, words)
    assert KEY not in found.detail + str(found.data)


def test_a_database_that_is_not_there(tmp_path: Path, postgres: Postgres) -> None:
    storage = {"path": str(tmp_path / "data"), "database": postgres.url("missing")}
    is_wrong(asked(tmp_path, storage=storage)["storage.database"], "not_found", "no database of that name")


def test_pgvector_is_asked_without_making_a_table(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    found = asked(tmp_path, retrievers={"mine": {"use": "pgvector", "url": url}})["retrievers.mine"]
    assert found.ok, found
    name = url.partition("@/")[2].partition("?")[0]
    assert postgres.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == "0"
