"""Starting, stopping, and refusing to start."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.errors import ConfigError
from sourcebook.testing.llm_server import DIMENSIONS, FakeLLMServer, Hold, Reply, chunk, stream_of
from sourcebook_api.app import create_app
from sourcebook_api.server import bind, serve, url_of

from .support import Served, events, is_problem

PROGRAM = """
import sys
from pathlib import Path
from sourcebook.configuration import load
from sourcebook_api.server import serve
serve(load(Path(sys.argv[1]), environ={}), port=0, on_ready=lambda url: print(url, flush=True))
"""


@contextmanager
def process(folder: Path, llm: FakeLLMServer, more: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as a process, and its address."""
    config = folder / "sourcebook.toml"
    config.write_text(
        f"""
{more}
storage.path = "{folder / "data"}"
server.shutdown_grace = 120
llms.fake = {{use = "openai", base_url = "{llm.url}", model = "fake"}}
pipelines.default = {{llm = ["fake"]}}
"""
    )
    command = [sys.executable, "-c", PROGRAM, str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, running.stdout.readline().strip()
        finally:
            if running.poll() is None:
                running.kill()


@contextmanager
def open_stream(url: str, llm: FakeLLMServer, hold: Hold | None = None) -> Iterator[tuple[Any, Iterator[Any]]]:
    """An answer that has begun; without a `hold` that the test releases, it will not end by itself."""
    with httpx.Client(base_url=url, timeout=20) as client:
        notebook = client.post("/api/v1/notebooks", json={"title": "x"}).json()["id"]
        client.put(f"/api/v1/notebooks/{notebook}/sources/a.txt", content=b"Ten is the hour.")
        llm.script(Reply([chunk({"content": "Ten "}), hold or Hold(), *stream_of(["it is."])]))
        asked = {"question": "When?", "notebooks": [notebook], "stream": True}
        with client.stream("POST", "/api/v1/chat", json=asked) as answer:
            coming = events(answer)
            yield next(e for e in coming if e.type == "content"), coming


def stops(url: str) -> None:
    """Wait until the server says that it takes nothing new."""
    for _ in range(500):
        if httpx.get(f"{url}/readyz").status_code == 503:
            return
        time.sleep(0.02)
    raise AssertionError("the server does not stop")


@pytest.mark.slow
def test_a_start_loads_nothing_that_only_some_requests_need(tmp_path: Path) -> None:
    slow = ("alembic", "mcp.server", "numpy", "pypdfium2", "prometheus_client")
    said = f"print([m for m in {slow!r} if m in sys.modules], flush=True)"
    program = PROGRAM.replace("print(url, flush=True)", said)
    config = tmp_path / "sourcebook.toml"
    config.write_text(f'storage.path = "{tmp_path / "data"}"\n')
    for loaded in ("['alembic']", "[]"):  # the first start makes the tables
        with subprocess.Popen([sys.executable, "-c", program, str(config)], stdout=subprocess.PIPE, text=True) as one:
            try:
                assert one.stdout is not None
                assert one.stdout.readline().strip() == loaded
            finally:
                one.terminate()


def test_after_sigterm_an_answer_comes_to_its_end_and_nothing_new_is_taken(tmp_path: Path) -> None:
    hold = Hold()
    with (
        FakeLLMServer() as llm,
        process(tmp_path, llm) as (running, url),
        open_stream(url, llm, hold) as (first, coming),
    ):
        running.send_signal(signal.SIGTERM)
        stops(url)
        assert httpx.get(f"{url}/readyz").json()["parts"]["server"] == "stopping"
        assert httpx.get(f"{url}/livez").status_code == 200
        refused = httpx.post(f"{url}/api/v1/search", json={"question": "x", "notebooks": ["nb"]})
        is_problem(refused, 503, "stopping")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        run = first.data["run_id"]
        assert httpx.get(f"{url}/api/v1/runs/{run}").json()["state"] == "running"
        with httpx.stream("GET", f"{url}/api/v1/runs/{run}/events", timeout=20) as again:  # resumed meanwhile
            hold.release()
            for seen in (list(coming), list(events(again))):
                assert (seen[-1].type, seen[-1].data["finish"], seen[-1].data["text"]) == ("done", "stop", "Ten it is.")
        assert running.wait(30) == 0
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()


@pytest.mark.slow
def test_an_answer_that_does_not_end_while_the_server_drains_is_interrupted(tmp_path: Path) -> None:
    with FakeLLMServer() as llm:
        with (
            process(tmp_path, llm, "server.drain = 0.3") as (running, url),
            open_stream(url, llm) as (first, coming),
        ):
            running.send_signal(signal.SIGTERM)
            *_, error, done = coming
            assert (error.type, error.data["problem"]["code"]) == ("error", "interrupted")
            assert error.data["retryable"]
            assert (done.type, done.data["finish"], done.data["text"]) == ("done", "error", "Ten ")
            assert running.wait(30) == 0
            assert running.stderr is not None
            assert not [line for line in running.stderr if " ERROR " in line or "Traceback" in line]
        with process(tmp_path, llm) as (_, url):
            shown = httpx.get(f"{url}/api/v1/runs/{first.data['run_id']}").json()
            assert shown["state"] == "failed"
            kept = httpx.get(f"{url}/api/v1/conversations/{shown['conversation_id']}").json()["messages"][-1]
            assert (kept["state"], kept["text"]) == ("incomplete", "Ten ")


@pytest.mark.slow
def test_a_job_is_handed_back_at_the_first_signal(tmp_path: Path) -> None:
    embedding = Hold()
    more = f"""
jobs = {{lease = 300, workers = 1}}
embedders.fake = {{use = "openai", base_url = "URL", model = "fake", dimensions = {DIMENSIONS}}}
pipelines.slow = {{extends = "default", embedder = "fake"}}
"""
    with (
        FakeLLMServer() as llm,
        process(tmp_path, llm, more.replace("URL", llm.url)) as (running, url),
        open_stream(url, llm),
    ):
        slow = httpx.post(f"{url}/api/v1/notebooks", json={"title": "x", "pipeline": "slow"}).json()["id"]
        llm.script(Reply([embedding]), path="/v1/embeddings")
        made = httpx.put(f"{url}/api/v1/notebooks/{slow}/sources/b.txt", content=b"Nine.").json()
        assert embedding.reached.wait(20)
        running.send_signal(signal.SIGTERM)
        stops(url)
        command = [sys.executable, "-m", "sourcebook_api", "--config", str(tmp_path / "sourcebook.toml"), "worker"]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as worker:
            try:
                # The first server still drains, and its lease would last for minutes.
                until(lambda: state_of(tmp_path, made["job_id"]) == "done")
                assert running.poll() is None
            finally:
                worker.terminate()
                assert worker.wait(30) == 0


def state_of(folder: Path, job_id: str) -> str:
    """Of a job, in the database."""
    with closing(sqlite3.connect(folder / "data" / "sourcebook.db")) as database:
        return str(database.execute("SELECT state FROM jobs WHERE id = ?", [job_id]).fetchone()[0])


def until(happened: Callable[[], bool]) -> None:
    for _ in range(1500):
        if happened():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


@pytest.mark.slow
def test_a_second_signal_ends_a_drain_at_once(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm) as (running, url), open_stream(url, llm):
        running.send_signal(signal.SIGTERM)
        stops(url)
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        running.wait(20)  # the drain would last longer


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm) as (running, url):
        stuck = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        with stuck:
            # A body that never ends holds the first signal's shutdown up, for as long as the grace lasts.
            stuck.sendall(b"POST /api/v1/notebooks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            assert httpx.get(f"{url}/livez").status_code == 200
            running.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(1)
            running.send_signal(signal.SIGTERM)
            running.wait(30)


def test_a_job_stream_is_kept_alive_and_ends_with_the_server(tmp_path: Path) -> None:
    with Served(tmp_path, {"jobs": {"workers": 0}, "runs": {"heartbeat": 0.05}}) as server:
        made = server.http.put(f"/api/v1/notebooks/{server.notebook()}/sources/a.md", content=b"# A").json()
        with server.http.stream("GET", f"/api/v1/jobs/{made['job_id']}/events") as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("data:")).count('"state":"queued"') == 1
            assert [next(line for line in lines if line) for _ in range(2)] == [": keep-alive"] * 2
            server.server.stop()
            assert {line for line in lines if line} <= {": keep-alive"}


def test_other_machines_need_keys(tmp_path: Path) -> None:
    configuration = load(environ={}, overrides={"storage": {"path": str(tmp_path)}})
    with pytest.raises(ConfigError, match="no keys") as refused:
        serve(configuration, host="0.0.0.0", port=0)
    assert (refused.value.problem_code, "sourcebook keys create" in refused.value.remedy) == ("keys_needed", True)


def test_with_a_key_other_machines_are_served(tmp_path: Path) -> None:
    async def make_key() -> None:
        configuration = load(environ={}, overrides={"storage": {"path": str(tmp_path / "data")}})
        async with Sourcebook(configuration, workers=0) as book:
            await book.owners.create_key("ada", ["read"])

    asyncio.run(make_key())
    with Served(tmp_path, {"server": {"host": "0.0.0.0"}}) as server:
        assert server.http.get("/livez").status_code == 200
        assert server.http.get("/api/v1/notebooks").status_code == 401


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=f"127.0.0.1:{taken.getsockname()[1]}: Address already in use"):
            bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot listen"):
        bind("host.invalid", 0)


def test_addresses_are_given_as_this_machine_opens_them() -> None:
    assert url_of("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert (url_of("::1", 80), url_of("::", 80)) == ("http://[::1]:80", "http://[::1]:80")


def test_the_application_opens_and_closes_its_sourcebook(tmp_path: Path) -> None:
    book = Sourcebook(load(environ={}, overrides={"storage": {"path": str(tmp_path)}}), workers=0)
    app = create_app(book)

    async def use() -> None:
        async with app.router.lifespan_context(app):
            assert book.is_open
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                assert (await client.get("/readyz")).json()["status"] == "ok"
        assert not book.is_open

    asyncio.run(use())


def test_readiness_names_the_part_that_fails_to_those_who_may_know(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = served.http.get("/readyz")
    assert whole.json() == {"status": "ok", "parts": {"database": "ok", "index": "ok", "plugins": "ok"}}

    async def broken() -> dict[str, str]:
        return {"database": "ok", "index": "qdrant: at 10.0.0.7 is down", "plugins": "x: ImportError"}

    monkeypatch.setattr(served.book, "ready", broken)
    failed = served.http.get("/readyz")
    assert (failed.status_code, failed.json()["parts"]["index"]) == (503, "qdrant: at 10.0.0.7 is down")
    assert served.http.get("/livez").status_code == 200


def test_a_stranger_hears_only_which_part_fails(keyed: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> dict[str, str]:
        return {"database": "ok", "index": "qdrant: at 10.0.0.7 is down"}

    monkeypatch.setattr(keyed.book, "ready", broken)
    failed = keyed.http.get("/readyz")
    assert failed.json()["parts"] == {"database": "ok", "index": "failed"}
    assert "10.0.0.7" not in failed.text
    assert "10.0.0.7" in keyed.http.get("/readyz", headers=keyed.key("ada", "read")).text


def test_the_first_page_says_what_this_is(served: Served) -> None:
    about = served.http.get("/").json()
    assert (about["name"], about["documentation"]) == ("Sourcebook", "/docs")
    assert served.http.get(about["documentation"]).status_code == 200
    assert served.http.get(about["openapi"]).json()["info"]["version"] == about["version"]
