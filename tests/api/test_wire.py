"""Requests as bytes: heads that never end, upgrades that are not taken, and what is no HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sourcebook_api.wire import Wire

from .support import Served

BODY = b'{"title": "kept"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("wire")) as served:
        yield served


def said(server: Served, *parts: bytes) -> tuple[int, dict[str, str], Any]:
    """What is answered to these bytes, sent part by part, until the server hangs up: status, headers, body."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as one:
        for part in parts:
            one.sendall(part)
        heard = b""
        while more := one.recv(65536):
            heard += more
    head, _, body = heard.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "Host: 127.0.0.1", "", ""]).encode()


@pytest.mark.parametrize("begin", ["GET / HTTP/1.1\r\nX-Long: ", "GET /"], ids=["header", "address"])
def test_a_head_that_never_ends_is_refused_at_64_kib(server: Served, begin: str) -> None:
    status, headers, body = said(server, begin.encode(), *[b"a" * 1024] * 65)
    assert (status, body["code"]) == (431, "head_too_large")
    assert headers["content-type"] == "application/problem+json"


def test_a_head_that_does_not_come_loses_its_connection(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wire, "head_seconds", 0.1)
    for sent in (b"", b"GET /livez HTTP/1.1\r\nHost: 127"):
        with socket.create_connection(("127.0.0.1", server.port), 10) as one:
            one.sendall(sent)
            assert one.recv(100) == b""


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"HELLO\r\n\r\n", head("CONNECT a:443 HTTP/1.1")])
def test_what_is_no_request_is_a_problem(server: Served, sent: bytes) -> None:
    status, headers, body = said(server, sent)
    assert (status, body["code"]) == (400, "bad_request")
    assert headers["content-type"] == "application/problem+json"
    assert body["request_id"].startswith("req_")


def test_who_asks_for_http_2_is_served_without_it(server: Served) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    kind = ("Content-Type: application/json", f"Content-Length: {len(BODY)}")
    asked = head("POST /api/v1/notebooks HTTP/1.1", *upgrade, *kind)
    last = head("GET /livez HTTP/1.1", "Connection: close")
    for parts in ([asked + BODY + last], [asked, BODY, last], [asked[:70], asked[70:] + BODY[:4], BODY[4:] + last]):
        with socket.create_connection(("127.0.0.1", server.port), 10) as one:
            for part in parts:
                one.sendall(part)
            heard = b"".join(iter(lambda: one.recv(65536), b""))
        assert heard.startswith(b"HTTP/1.1 201 ")
        assert b'"title":"kept"' in heard
        assert heard.count(b"HTTP/1.1 200 ") == 1  # and the connection serves the next


def test_who_asks_for_http_2_and_to_hang_up_is_served_and_hung_up_on(server: Served) -> None:
    status, headers, _ = said(server, head("GET /livez HTTP/1.1", "Connection: Upgrade, close", "Upgrade: h2c"))
    assert (status, headers["connection"]) == (200, "close")


def test_an_answer_that_runs_is_not_written_into(server: Served) -> None:
    ask = head("GET /api/v1/notebooks HTTP/1.1")
    with socket.create_connection(("127.0.0.1", server.port), 10) as one:
        one.sendall(ask + b"\x00nothing\r\n\r\n")
        heard = b"".join(iter(lambda: one.recv(65536), b""))
    assert heard == b""  # not even begun: what cannot be read after it ends the connection
