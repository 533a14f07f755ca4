"""An S3 server for the tests: moto's, in a process of its own on 127.0.0.1, and a proxy before it that goes wrong.

def test_something(s3: S3Server) -> None:
    store = S3(s3.settings(s3.bucket()))      # a new, empty one
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sourcebook_plugins.s3.settings import S3Settings

_PATIENCE = 60.0
_PDEATHSIG = 1
_HOPS = {"transfer-encoding", "connection", "content-length", "host", "server", "date"}


class S3Server:
    """moto's server. What it holds is in its memory: a killed one has forgotten all."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self._environment = {**os.environ, **(environment or {})}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=_end_with_us,
        )
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "moto's server ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        pytest.fail("moto's server did not answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_PATIENCE)
            self._process = None

    def close(self) -> None:
        self.kill()
        self._log.close()

    def bucket(self) -> str:
        """A new one."""
        name = f"test-{uuid.uuid4().hex}"
        self.make(name)
        return name

    def make(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.address}/{name}", method="PUT")).close()

    def settings(self, bucket: str, endpoint: str = "", **more: Any) -> S3Settings:
        """Of a store on this server, or on a proxy before it."""
        given = {"access_key_id": "test", "secret_access_key": "a secret of the tests"}
        return S3Settings.model_validate({"bucket": bucket, "endpoint": endpoint or self.address, **given, **more})

    def uploads(self, bucket: str) -> int:
        """Uploads in parts that were begun and neither ended nor given up."""
        return self._get(f"{bucket}?uploads").count("<Upload>")

    def objects(self, bucket: str) -> list[str]:
        """Names of all that is in the bucket."""
        return [part.split("</Key>")[0] for part in self._get(f"{bucket}?list-type=2").split("<Key>")[1:]]

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.address}/{path}") as answer:
            return str(answer.read().decode())


@dataclass
class Fault:
    """What the proxy answers instead; `cut` breaks the connection in the middle of the body."""

    status: int = 503
    body: bytes = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False
    """Breaks the connection without an answer."""


Choose = Callable[[str, str], Fault | None]
"""Method and path, and what goes wrong with it; `Fault(cut=True, status=0)` cuts the real answer."""


class Proxy:
    """Between a store and its server; `choose` is asked about each request, `seen` has them all."""

    def __init__(self, server: S3Server, choose: Choose) -> None:
        self.seen: list[tuple[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._pass
                raise AttributeError(name)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                proxy.seen.append((self.command, self.path))
                fault = choose(self.command, self.path)
                if fault is not None and fault.silent:
                    self.close_connection = True
                    return
                if fault is None or not fault.status:
                    self._answer(*proxy.passed_on(server, self, body), cut=fault is not None)
                else:
                    self._answer(fault.status, fault.headers, fault.body, cut=fault.cut)

            def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool) -> None:
                if cut and not body:  # the request got through, and nothing comes back
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = self.close_connection or cut

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @staticmethod
    def passed_on(server: S3Server, asked: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", server.port)
        # The Host that was signed goes with it, as a proxy before a bucket must do.
        connection.request(asked.command, asked.path, body or None, dict(asked.headers.items()))
        answer = connection.getresponse()
        read = answer.read()
        keep = _HOPS - ({"content-length"} if asked.command == "HEAD" else set())
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in keep}
        connection.close()
        return answer.status, headers, read

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_us() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


def running(environment: dict[str, str] | None = None) -> Iterator[S3Server]:
    """One of one's own."""
    server = S3Server(environment)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """The session's server."""
    yield from running()


__all__ = ["Fault", "Proxy", "S3Server", "free_port", "running", "s3"]
