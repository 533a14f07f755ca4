"""A real server in a thread, for the tests of plugins that add routes, commands or authentication."""

from __future__ import annotations

import asyncio
import http.client
import json
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.testing.in_process import remove
from sourcebook_api.server import Server

T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """A whole response; `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class TestServer:
    """`with TestServer([my_module]) as server:` - it listens on `server.port` of 127.0.0.1, on an empty data folder.

    `plugins` are modules or objects with hooks; `enabled`, installed distributions to load; `config` holds sections of
    the configuration. Without keys, everybody is the owner `local`; `key` makes one.
    """

    __test__ = False  # pytest takes every class of this name for a test

    def __init__(
        self, plugins: Iterable[Any] = (), *, enabled: Sequence[str] = (), config: Mapping[str, Any] | None = None
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sourcebook-test-"))
        given = dict(config or {})
        layers = {
            **given,
            "storage": {"path": str(self._folder / "data"), **given.get("storage", {})},
            "server": {"port": 0, **given.get("server", {})},
            "plugins": {"enabled": list(enabled), **given.get("plugins", {})},
            "retrievers": {"qdrant": {"idle_seconds": 0}, **given.get("retrievers", {})},
        }
        self.book = Sourcebook(load(environ={}, overrides=layers))
        for plugin in plugins:
            self.book.plugins.add(plugin)
        self.port = 0
        self._server = Server(self.book, on_ready=self._ready)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sourcebook-test-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._begun.wait(60):
            raise RuntimeError("the server did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._thread.join(30)
        remove(self._folder)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the server's own event loop: `server.run(server.book.owners.ensure("zoe"))`."""
        if self._loop is None:
            raise RuntimeError("the server does not run")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def key(self, owner: str, *permissions: str) -> dict[str, str]:
        """Headers with a new key of an owner, who is made if new. From the first key on, everybody needs one."""
        _, secret = self.run(self.book.owners.create_key(owner, permissions or ("read", "write")))
        return {"Authorization": f"Bearer {secret}"}

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Response:
        """One request; `body` is bytes, or anything that JSON has."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, sent = json.dumps(body).encode(), {"Content-Type": "application/json", **sent}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            got = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, got, answer.read())
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The parsed body of a request that must succeed. Raises `RuntimeError` with the problem otherwise."""
        answer = self.request(method, path, body, headers)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {answer.body.decode(errors='replace')}")
        return answer.json()

    def _ready(self, url: str) -> None:
        self.port = int(url.rpartition(":")[2])
        self._loop = asyncio.get_running_loop()
        self._begun.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.run_to_the_end())
        except BaseException as error:  # told to whoever waits for the start
            self._failure = error
        finally:
            self._begun.set()
