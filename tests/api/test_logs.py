"""What a server logs: one line a request by its route, the ids of what it did, and nobody's words."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of
from tests.logged import Log, logged

from .support import Served, is_problem

WORD = "rhinoceros"


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[tuple[Served, Log]]:
    """A server that logs JSON, and what it has logged."""
    overrides = {
        "logging": {"format": "json", "level": "debug"},
        "llms": {"fake": {"use": "openai", "base_url": llm.url, "model": "fake"}},
        "pipelines": {"model": {"extends": "default", "llm": ["fake"]}},
    }
    server = Served(tmp_path_factory.mktemp("heard"), overrides)
    with logged(server.book.configuration) as log, server:
        yield server, log


def line(log: Log, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """A line is written when its answer has been given, so it may still be to come."""
    for _ in range(200):
        if found := [one for one in log.lines if fits(one)]:
            return found[-1]
        time.sleep(0.05)
    raise AssertionError("it was not logged")


def access(log: Log, request_id: str) -> dict[str, Any]:
    return line(log, lambda one: one["logger"] == "sourcebook.access" and one["request_id"] == request_id)


def test_a_request_is_one_line_by_its_route(heard: tuple[Served, Log]) -> None:
    server, log = heard
    notebook = server.notebook(title=WORD)
    answer = server.http.put(
        f"/api/v1/notebooks/{notebook}/sources/{WORD}.md",
        content=f"# {WORD}".encode(),
        headers={"X-Request-ID": "mine-1"},
        params={"tag": WORD},
    )
    told = access(log, "mine-1")
    assert told["message"] == "PUT /api/v1/notebooks/{notebook_id}/sources/{name} 202"
    assert (told["method"], told["status"], told["bytes"]) == ("PUT", 202, len(answer.content))
    assert told["route"] == "/api/v1/notebooks/{notebook_id}/sources/{name}"
    assert str(told["owner_id"]).startswith("own_")
    assert 0 < told["seconds"] < 60
    assert len([one for one in log.of("sourcebook.access") if one["request_id"] == "mine-1"]) == 1


def test_of_an_unknown_address_nothing_is_told(heard: tuple[Served, Log]) -> None:
    server, log = heard
    got = server.http.get(f"/{WORD}/x", params={"q": WORD})
    assert access(log, got.headers["x-request-id"])["message"] == "GET ? 404"


def test_a_stream_is_told_when_it_is_over_with_all_its_bytes(heard: tuple[Served, Log], llm: FakeLLMServer) -> None:
    server, log = heard
    notebook = server.notebook(pipeline="model")
    server.source(notebook)
    llm.script(Reply(stream_of([f"The harbour {WORD} closes at ten [1]."])))
    asked = {"question": f"When does the {WORD} harbour close?", "notebooks": [notebook], "stream": True}
    got = server.http.post("/api/v1/chat", json=asked, headers={"X-Request-ID": "stream-1"})
    told = access(log, "stream-1")
    assert (told["route"], told["status"], told["bytes"]) == ("/api/v1/chat", 200, len(got.content))


def test_what_machines_ask_all_the_time_is_told_at_debug_alone(heard: tuple[Served, Log]) -> None:
    server, log = heard
    got = server.http.get("/livez")
    assert access(log, got.headers["x-request-id"])["level"] == "debug"


def test_a_failed_source_is_told_with_its_id_and_job(heard: tuple[Served, Log]) -> None:
    server, log = heard
    notebook = server.notebook()
    failed = server.source(notebook, "broken.pdf", b"%PDF-1.7\n" + WORD.encode())
    assert failed["state"] == "failed"
    told = line(log, lambda one: one.get("source_id") == failed["id"])
    assert told["job_id"] == failed["job_id"]


def test_a_failing_model_is_told_with_the_run_and_the_request(heard: tuple[Served, Log], llm: FakeLLMServer) -> None:
    server, log = heard
    notebook = server.notebook(pipeline="model")
    server.source(notebook)
    llm.script(Reply([b"nonsense"], status=500), Reply([b"nonsense"], status=500), Reply([b"nonsense"], status=500))
    asked = {"question": "When does the harbour close?", "notebooks": [notebook]}
    got = server.http.post("/api/v1/chat", json=asked, headers={"X-Request-ID": "fails-1"})
    assert got.status_code == 502
    told = line(log, lambda one: one["logger"].startswith("sourcebook.runs") and one["level"] == "warning")
    assert (told["request_id"], told["run_id"][:4]) == ("fails-1", "run_")


def test_an_index_process_that_dies_is_told_with_the_source(heard: tuple[Served, Log]) -> None:
    server, log = heard
    notebook = server.notebook()
    server.source(notebook, "before.md")
    index = server.book.pipelines.indexes[0]
    os.kill(index._client.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    after = server.source(notebook, "after.md", b"# After")
    assert after["state"] == "ready"
    told = line(log, lambda one: "index process is gone" in one["message"])
    assert (told["logger"], told["source_id"]) == ("sourcebook.retrievers.qdrant", after["id"])
    assert "owns" in told["message"], "its own last words"


def test_the_servers_library_is_heard_too(heard: tuple[Served, Log]) -> None:
    server, log = heard
    with pytest.raises(httpx.HTTPError), httpx.Client() as client:
        client.get(f"{server.url}/livez", headers={"Host": ""}, timeout=5).raise_for_status()
    assert any(one["logger"].startswith("uvicorn") for one in log.lines)


def test_nobodys_words_were_logged(heard: tuple[Served, Log]) -> None:
    """After all of the above."""
    server, log = heard
    is_problem(server.http.post("/api/v1/search", json={"question": WORD, "notebooks": ["nb_1"]}), 404, "not_found")
    assert WORD not in log.getvalue()
