"""A secret of the configuration comes out nowhere: canaries are put in, and everything that comes out is searched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sourcebook.testing.llm_server import FakeLLMServer, json_reply

from .support import CANARY, IN_SECRETS, Served


def answers(server: Served, llm: FakeLLMServer, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """What a client can get: pages that describe, errors of every kind, and answers of models that fail."""
    get, post = server.http.get, server.http.post
    for path in (
        "/",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/api/v1/config",
        "/api/v1/plugins",
        "/api/v1/keys",
        "/none",
    ):
        yield get(path, headers=headers)
    yield get("/api/v1/config")
    yield post("/api/v1/notebooks", json={"title": 1}, headers=headers)
    for pipeline in ("secret", "plain"):
        notebook = server.notebook(headers, pipeline=pipeline)
        for status in (401, 500):
            llm.script(*[json_reply({"error": {"message": "The server is out of order."}}, status)] * 6)
            for stream in (False, True):
                asked = {"question": "When?", "notebooks": [notebook], "stream": stream}
                yield post("/api/v1/chat", json=asked, headers=headers)
            llm._scripts.clear()


def test_a_secret_comes_out_nowhere(keyed: Served, llm: FakeLLMServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        headers = keyed.key("ada", "read", "write", "admin")
        seen = list(answers(keyed, llm, headers))
    key = headers["Authorization"].split()[1]
    assert any(r.headers.get("authorization") == f"Bearer {IN_SECRETS}" for r in llm.requests), "the canary is in use"
    assert any(answer.status_code >= 500 for answer in seen)
    for answer in seen:
        for secret in (CANARY, key):
            assert secret not in answer.text, answer.url
            assert secret not in str(answer.headers)
    for record in caplog.records:
        text = record.getMessage() + str(record.exc_info or "")
        assert CANARY not in text, record.name
        assert key not in text, record.name


def test_the_configuration_shows_that_there_is_a_secret(keyed: Served) -> None:
    headers = keyed.key("ada", "admin")
    shown = keyed.http.get("/api/v1/config", headers=headers).json()
    assert shown["settings"]["llms"]["secret"]["api_key"] == "********"
    assert shown["settings"]["llms"]["plain"]["api_key"] == "********"
    assert shown["settings"]["llms"]["secret"]["model"] == "fake"
    assert shown["origins"]["llms.secret.api_key"].endswith("secrets.toml")


def test_no_key_is_stored_in_the_clear(keyed: Served) -> None:
    secret = keyed.key("eve", "read")["Authorization"].split()[1]
    files = [f for f in Path(keyed.book.folder).rglob("*") if f.is_file()]
    assert files
    assert all(secret.encode() not in f.read_bytes() for f in files)
