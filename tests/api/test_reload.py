"""A reload goes over to the new configuration whole, or not at all, while the server serves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from sourcebook.errors import ConfigError
from sourcebook.events import Delta, Finish, Text
from sourcebook.hookspecs import hookimpl
from sourcebook.interfaces import LLM, ComponentSettings, Context, LLMRequest
from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, chunk, stream_of

from .support import Event, Served, events, is_problem
from .test_server import process

SECRET = "hunter2-7c1f"


class WatchedSettings(ComponentSettings):
    """What the test wants of it."""

    word: str = "one"
    broken: bool = False
    slow: bool = False
    token: str = ""


class Watched(LLM[WatchedSettings]):
    """A model that says its word, and writes down when it is opened and closed."""

    name = "watched"
    Settings = WatchedSettings
    context_window = 4096
    generates = True
    seen: list[str]
    opening: threading.Event

    async def open(self, context: Context) -> None:
        self.seen.append(f"open {self.settings.word}")
        self.opening.set()
        if self.settings.slow:
            await asyncio.sleep(600)
        if self.settings.broken:
            raise ConfigError("the model is not there")

    async def close(self) -> None:
        self.seen.append(f"close {self.settings.word}")

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta]:
        yield Text(self.settings.word)
        yield Finish("stop")

    def count(self, text: str) -> int:
        return len(text)


class Plugin:
    """Brings a class of its own, so that each test sees its own doings."""

    __name__ = "watching"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.opening = threading.Event()

    @hookimpl
    def register_llms(self) -> list[type[Any]]:
        return [type("Watched", (Watched,), {"seen": self.seen, "opening": self.opening})]


class Room:
    """A server whose file can be edited, and what was opened in it."""

    def __init__(self, folder: Path, llm: FakeLLMServer) -> None:
        self.main = folder / "sourcebook.toml"
        self.llm = llm
        self.plugin = Plugin()
        self.write()
        self.server = Served(folder, plugins=(self.plugin,), path=self.main)

    def write(self, watched: str = 'word = "one"', *, model: str = "old", more: str = "") -> None:
        """The file, with these settings of the one model, and this name of the other."""
        self.main.write_text(f"""
{more}
[llms.watched]
{watched}
[llms.fake]
use = "openai"
base_url = "{self.llm.url}"
model = "{model}"
[pipelines.default]
llm = ["watched"]
[pipelines.held]
extends = "default"
llm = ["fake", "watched"]
""")

    def reload(self) -> httpx.Response:
        return self.server.http.post("/api/v1/config/reload")

    def ask(self, pipeline: str = "default") -> Any:
        """The whole answer to a question."""
        asked = {"question": "When?", "notebooks": [self.server.notebook(pipeline=pipeline)]}
        return self.server.http.post("/api/v1/chat", json=asked).json()

    def until(self, happened: Callable[[], bool]) -> None:
        for _ in range(400):
            if happened():
                return
            time.sleep(0.02)
        raise AssertionError(f"it did not happen; seen: {self.plugin.seen}")


@pytest.fixture
def room(tmp_path: Path, llm: FakeLLMServer) -> Iterator[Room]:
    room = Room(tmp_path, llm)
    with room.server:
        yield room


def begun(room: Room, client: httpx.Client, hold: Hold, url: str = "") -> Iterator[Event]:
    """The events of an answer that goes on when the hold is released; the first word has come."""
    notebook = client.post(f"{url}/api/v1/notebooks", json={"title": "x", "pipeline": "held"}).json()["id"]
    room.llm.script(Reply([chunk({"content": "Ten "}), hold, *stream_of(["o'clock."])]))
    asked = {"question": "When?", "notebooks": [notebook], "stream": True}
    with client.stream("POST", f"{url}/api/v1/chat", json=asked) as answer:
        yield from events(answer)


def test_a_run_ends_with_what_it_began_with_and_the_next_takes_the_new(room: Room) -> None:
    hold = Hold()
    coming = begun(room, room.server.http, hold)
    run = next(coming)
    assert next(e for e in coming if e.type == "content").data["delta"] == "Ten "
    with httpx.Client(base_url=room.server.url) as other:
        room.write('word = "two"', model="new")
        done = other.post("/api/v1/config/reload")
        assert done.status_code == 200, done.text
        told = done.json()
        assert told["changed"] == ["llms.fake.model", "llms.watched.word"]
        assert (told["opened"], told["number"], told["in_use"]) == (["llms.fake", "llms.watched"], 2, 2)
        notebook = other.post("/api/v1/notebooks", json={"title": "y", "pipeline": "held"}).json()["id"]
        room.llm.script(Reply(stream_of(["New."])))
        asked = {"question": "When?", "notebooks": [notebook]}
        assert other.post("/api/v1/chat", json=asked).json()["text"] == "New."
        assert room.llm.requests[-1].json["model"] == "new"
        assert "close one" not in room.plugin.seen
        assert "sourcebook_open_configurations 2.0" in other.get("/metrics").text
        hold.release()
        last = list(coming)[-1]
        assert (last.type, last.data["finish"], last.data["text"]) == ("done", "stop", "Ten o'clock.")
        assert run.data["run_id"] == last.data["run_id"]
        room.until(lambda: room.plugin.seen[-1] == "close one")
        assert "sourcebook_open_configurations 1.0" in other.get("/metrics").text


def test_what_did_not_change_is_not_opened_again(room: Room) -> None:
    room.write(more="[limits]\nin_flight = 99")
    told = room.reload().json()
    assert (told["changed"], told["opened"]) == (["limits.in_flight"], [])
    assert room.plugin.seen == ["open one"]
    assert room.ask()["text"] == "one"
    for _ in range(2):
        again = room.reload().json()
        assert (again["changed"], again["opened"]) == ([], [])
    assert room.plugin.seen == ["open one"]


def test_every_mistake_is_told_at_once_and_nothing_is_changed(room: Room) -> None:
    before = room.server.http.get("/api/v1/config").json()
    room.write('wrod = "two"', more='[server]\nprot = 1\n[rerankers.x]\nuse = "ghost"')
    problem = is_problem(room.reload(), 422, "config_refused")
    assert {i["key"] for i in problem["issues"]} == {"server.prot", "rerankers.x", "llms.watched.wrod"}
    assert room.server.http.get("/api/v1/config").json() == before
    assert room.ask()["text"] == "one"
    assert "last reload failed" in room.server.http.get("/readyz").json()["parts"]["configuration"]
    room.write('word = "two"')
    assert room.reload().status_code == 200
    assert "configuration" not in room.server.http.get("/readyz").json()["parts"]


def test_a_file_that_is_no_toml_is_refused(room: Room) -> None:
    room.main.write_text("[llms")
    assert "not valid TOML" in is_problem(room.reload(), 422, "config_refused")["detail"]


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('[server]\nhost = "127.0.0.2"', "server.host"),
        ('[plugins]\nenabled = ["x"]', "plugins.enabled"),
        ("[jobs]\nworkers = 7", "jobs.workers"),
        ('[blob_stores.files]\nfolder = "elsewhere"', "blob_stores.files.folder"),
        ('[limits]\ncounters = "redis://x"', "limits.counters"),
    ],
)
def test_what_needs_a_restart_is_refused_by_name(room: Room, more: str, key: str) -> None:
    room.write('word = "two"', more=more)
    problem = is_problem(room.reload(), 409, "restart_needed")
    assert problem["keys"] == [key]
    assert "Restart" in problem["remedy"]
    assert room.ask()["text"] == "one"
    assert room.plugin.seen == ["open one"]


def test_a_component_that_does_not_open_leaves_all_as_it_was(room: Room) -> None:
    room.write('word = "two"\nbroken = true', model="new")
    problem = is_problem(room.reload(), 422, "config_refused")
    assert "llms.watched did not open: the model is not there" in problem["detail"]
    assert room.plugin.seen == ["open one", "open two", "close two"]
    assert room.ask()["text"] == "one"
    shown = room.server.http.get("/api/v1/config").json()["settings"]["llms"]
    assert (shown["watched"]["word"], shown["fake"]["model"]) == ("one", "old")


def test_two_at_once_take_turns(room: Room) -> None:
    room.write('word = "two"')
    with ThreadPoolExecutor(4) as threads:
        answers = [a.result() for a in [threads.submit(room.reload) for _ in range(4)]]
    assert [a.status_code for a in answers] == [200] * 4
    told = [a.json() for a in answers]
    assert sorted(t["changed"] for t in told) == [[], [], [], ["llms.watched.word"]]
    assert sorted(t["number"] for t in told) == [2, 3, 4, 5]
    room.until(lambda: room.plugin.seen == ["open one", "open two", "close one"])


def test_one_under_way_is_given_up_when_the_server_stops(tmp_path: Path, llm: FakeLLMServer) -> None:
    room = Room(tmp_path, llm)
    with room.server, ThreadPoolExecutor(1) as threads:
        room.plugin.opening.clear()
        room.write('word = "two"\nslow = true')
        answer = threads.submit(room.reload)
        assert room.plugin.opening.wait(20)
        room.server.server.stop()
        is_problem(answer.result(30), 503, "stopping")
    assert room.plugin.seen == ["open one", "open two", "close two", "close one"]


def test_while_the_server_drains_nothing_is_reloaded(tmp_path: Path, llm: FakeLLMServer) -> None:
    room, hold = Room(tmp_path, llm), Hold()
    with room.server:
        coming = begun(room, room.server.http, hold)
        assert next(e for e in coming if e.type == "content").data["delta"] == "Ten "
        room.server.server.stop()
        with httpx.Client(base_url=room.server.url) as other:
            room.until(lambda: other.get("/readyz").status_code == 503)
            is_problem(other.post("/api/v1/config/reload"), 503, "stopping")
        hold.release()
        assert list(coming)[-1].data["finish"] == "stop"


def test_a_notebook_whose_pipeline_moved_on_is_stale(room: Room) -> None:
    notebook = room.server.notebook()
    room.server.source(notebook)
    assert room.server.http.get(f"/api/v1/notebooks/{notebook}").json()["stale"] is False
    room.write(more="[chunkers.markdown]\nsize = 100")
    assert room.reload().json()["changed"] == ["chunkers.markdown.size"]
    shown = room.server.http.get(f"/api/v1/notebooks/{notebook}/index").json()
    assert (shown["stale"], shown["changed"]) == (True, ["chunker"])
    found = room.server.http.post("/api/v1/search", json={"question": "harbour lamp", "notebooks": [notebook]})
    assert found.json()["items"]


def test_limits_and_names_hold_from_the_next_request_on(room: Room) -> None:
    named = {"Host": "notes.example"}
    is_problem(room.server.http.get("/api/v1/notebooks", headers=named), 421, "host_not_allowed")
    room.write(more='[server]\nallowed_hosts = ["notes.example"]\nmax_body = 20\n[limits]\nsources = 1')
    assert room.reload().status_code == 200
    # Another name than a loopback one: now it takes a key.
    is_problem(room.server.http.get("/api/v1/notebooks", headers=named), 401, "unauthenticated")
    key = room.server.key("ada", "read", "write")
    assert room.server.http.get("/api/v1/notebooks", headers={**named, **key}).status_code == 200
    is_problem(room.server.http.post("/api/v1/notebooks", json={"title": "x" * 30}, headers=key), 413, "too_large")
    notebook = room.server.notebook(key)
    base = f"/api/v1/notebooks/{notebook}/sources"
    assert room.server.http.put(f"{base}/a.md", content=b"# A", headers=key).status_code == 202
    is_problem(room.server.http.put(f"{base}/b.md", content=b"# B", headers=key), 413, "storage_quota_exceeded")


def test_only_an_admin_reloads_and_no_secret_is_told(room: Room) -> None:
    (room.main.with_name("secrets.toml")).write_text(f'[llms.watched]\ntoken = "{SECRET}"\n')
    reader, admin = room.server.key("ada", "read", "write"), room.server.key("root", "admin")
    is_problem(room.server.http.post("/api/v1/config/reload", headers=reader), 403, "forbidden")
    done = room.server.http.post("/api/v1/config/reload", headers=admin)
    assert done.json()["changed"] == ["llms.watched.token"]
    assert SECRET not in done.text
    file = room.server.book.folder / "audit.log"
    room.until(lambda: len(file.read_text().splitlines()) == 2)  # a line is written once its answer is sent
    entries = [orjson.loads(line) for line in file.read_text().splitlines()]
    assert [(e["owner"], e["status"]) for e in entries] == [("ada", 403), ("root", 200)]
    assert entries[-1]["action"] == "POST /api/v1/config/reload"


def test_outcomes_are_counted(room: Room) -> None:
    def counted(outcome: str) -> int:
        name = f'sourcebook_config_reloads_total{{outcome="{outcome}"}} '
        lines = room.server.http.get("/metrics").text.splitlines()
        return next((int(float(line.removeprefix(name))) for line in lines if line.startswith(name)), 0)

    room.reload()
    room.write('word = "two"')
    room.reload()
    room.write('word = "three"\nbroken = true')
    room.reload()
    room.write(more='[server]\nhost = "127.0.0.2"')
    room.reload()
    assert [counted(o) for o in ("unchanged", "done", "refused", "failed")] == [1, 1, 2, 0]


def entries(folder: Path) -> list[Any]:
    """What the signals to the server of this folder did."""
    file = folder / "data" / "audit.log"
    lines = file.read_text().splitlines() if file.exists() else []
    return [e for e in map(orjson.loads, lines) if e["address"] == "signal"]


@pytest.mark.slow
def test_sighup_reloads_while_an_answer_streams(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm) as (running, url):
        hold = Hold()
        llm.script(Reply([chunk({"content": "Ten "}), hold, *stream_of(["o'clock."])]))
        with httpx.Client(base_url=url, timeout=20) as client:
            notebook = client.post("/api/v1/notebooks", json={"title": "x"}).json()["id"]
            asked = {"question": "When?", "notebooks": [notebook], "stream": True}
            with client.stream("POST", "/api/v1/chat", json=asked) as answer:
                coming = events(answer)
                assert next(e for e in coming if e.type == "content")
                main = tmp_path / "sourcebook.toml"
                main.write_text(main.read_text().replace('model = "fake"', 'model = "new"'))
                running.send_signal(signal.SIGHUP)
                wait_for(lambda: len(entries(tmp_path)) == 1)
                assert entries(tmp_path)[0]["changed"] == ["llms.fake.model"]
                hold.release()
                assert list(coming)[-1].data["text"] == "Ten o'clock."
            client.post("/api/v1/chat", json={**asked, "stream": False})
            assert llm.requests[-1].json["model"] == "new"
            main.write_text("[server]\nprot = 1\n")
            running.send_signal(signal.SIGHUP)
            wait_for(lambda: len(entries(tmp_path)) == 2)
            assert entries(tmp_path)[1]["refused"] == "config_invalid"
            assert client.get("/readyz").status_code == 200


@pytest.mark.slow
def test_sighup_reloads_a_worker(tmp_path: Path) -> None:
    main = tmp_path / "sourcebook.toml"
    text = f'[storage]\npath = "{tmp_path / "data"}"\n[retrievers.qdrant]\nidle_seconds = 0\n'
    main.write_text(text)
    command = [sys.executable, "-m", "sourcebook_api", "--config", str(main), "worker"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SOURCEBOOK_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as running:
        try:
            assert running.stderr is not None
            assert next(line for line in running.stderr if "jobs at a time" in line)
            main.write_text(text + "[chunkers.markdown]\nsize = 100\n")
            running.send_signal(signal.SIGHUP)
            assert next(line for line in running.stderr if "changed chunkers.markdown.size; opened nothing" in line)
            main.write_text(text + "[jobs]\nlease = 99\n")
            running.send_signal(signal.SIGHUP)
            assert next(line for line in running.stderr if "jobs.lease: read when a process starts" in line)
            running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0
        finally:
            if running.poll() is None:
                running.kill()


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happened():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")
