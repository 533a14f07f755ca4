"""A real server on a free port, in a thread of its own, and what tests ask of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import orjson

from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook_api.server import Server

T = TypeVar("T")

CANARY = "canary-7f3b9e51"
IN_SECRETS, IN_PLAIN = f"{CANARY}-secrets", f"{CANARY}-plain"
"""Keys of models, as they stand in `secrets.toml` and, where they should not, in `sourcebook.toml`."""

HANDBOOK = """# Harbour

The harbour closes at ten in the evening. The lamp on the mole is green.

## Tides

High water comes twelve hours and twenty-five minutes after the last one.
"""


class Served:
    """`with Served(folder) as server:` - a client is at `server.http`, the Sourcebook at `server.book`."""

    def __init__(
        self,
        folder: Path,
        overrides: Mapping[str, Any] | None = None,
        plugins: tuple[object, ...] = (),
        path: Path | None = None,
    ) -> None:
        settings = {
            "storage": {"path": str(folder / "data")},
            "server": {"port": 0},
            "runs": {"grace": 0.0},
            "limits": {"requests": 0, "failures": 0},  # a test asks more in a second than a client in a minute
            "retrievers": {"qdrant": {"idle_seconds": 0}},  # its process ends with the test
        }
        self.book = Sourcebook(load(path, environ={}, overrides=merged(settings, overrides or {})))
        for plugin in plugins:
            self.book.plugins.add(plugin)
        self.server = Server(self.book, on_ready=self._ready)
        self.url = ""
        self.http = httpx.Client()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(60)
        if self.failure is not None:
            raise self.failure
        self.http = httpx.Client(base_url=self.url, timeout=30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.http.close()
        self.server.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the server's own event loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def key(self, owner: str, *permissions: str, limits: Mapping[str, int] | None = None) -> dict[str, str]:
        """Headers with a new key."""
        _, secret = self.run(self.book.owners.create_key(owner, permissions, limits=limits))
        return {"Authorization": f"Bearer {secret}"}

    def notebook(self, headers: Mapping[str, str] | None = None, **values: Any) -> str:
        """A new notebook's id."""
        answer = self.http.post("/api/v1/notebooks", json={"title": "Test", **values}, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def source(
        self, notebook: str, name: str = "handbook.md", data: bytes = HANDBOOK.encode(), headers: Any = None
    ) -> Any:
        """A source that has been ingested."""
        put = self.http.put(f"/api/v1/notebooks/{notebook}/sources/{name}", content=data, headers=headers)
        assert put.status_code in (200, 202), put.text
        return self.ready(put.json()["id"], headers)

    def ready(self, source_id: str, headers: Any = None) -> Any:
        """The source, once its job is over."""
        for _ in range(600):
            shown = self.http.get(f"/api/v1/sources/{source_id}", headers=headers).json()
            if shown["state"] in ("ready", "failed"):
                return shown
            time.sleep(0.05)
        raise AssertionError(f"{source_id} is not ready: {shown}")

    def _ready(self, url: str) -> None:
        self.url = url
        self._loop = asyncio.get_running_loop()
        self._begun.set()

    def _run(self) -> None:
        try:
            asyncio.run(self.server.run_to_the_end())
        except BaseException as error:  # told to the test, whatever it is
            self.failure = error
        finally:
            self._begun.set()


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


class Event:
    """One server-sent event."""

    def __init__(self, lines: list[str]) -> None:
        fields = dict(line.split(": ", 1) for line in lines)
        self.id, self.type = fields["id"], fields["event"]
        self.data: Any = orjson.loads(fields["data"])


def events(answer: httpx.Response) -> Iterator[Event]:
    """The events of a streamed response, as they come."""
    lines: list[str] = []
    for line in answer.iter_lines():
        if line and not line.startswith(":"):
            lines.append(line)
        elif not line and lines:
            yield Event(lines)
            lines = []


def is_problem(answer: httpx.Response, status: int, code: str) -> Any:
    """Check the one shape of errors; the problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(problem)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem
