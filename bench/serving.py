"""A real `sourcebook serve` in a process of its own, for the benchmarks that need one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from measuring import processes_below, until_ended

_PATIENCE = 60.0


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what would make a start slow or strange: bytecode is written, and no setting leaks in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SOURCEBOOK_") and k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **(settings or {})}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """`started` is the time just before exec, `ready_after` the seconds from there to the first 200 of /readyz."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # No index process outlives its server here: the next start has to start its own.
        mine = {"SOURCEBOOK_STORAGE__PATH": str(folder / "data"), "SOURCEBOOK_RETRIEVERS__QDRANT__IDLE_SECONDS": "0"}
        self._log = folder / "server.log"
        with self._log.open("ab") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sourcebook_api", "serve", "--port", str(self.port)],
                cwd=folder,
                env=environment({**mine, **(settings or {})}),
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        self.ready_after = time.perf_counter() - began

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            # A connection is refused at once and for nothing, so that asking often does not slow the start.
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=10):
                    return
            time.sleep(0.005)
        raise SystemExit(f"the server was not ready: {self._log.read_text()[-2000:]}")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request with JSON, and its answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def notebook_with(self, text: str) -> str:
        """The id of a new notebook that holds `text`, ready to be asked."""
        notebook = str(self.call("POST", "/notebooks", {"title": "bench"})["id"])
        source = self.call("POST", f"/notebooks/{notebook}/sources/text", {"name": "bench.md", "text": text})["id"]
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            state = self.call("GET", f"/sources/{source}")["state"]
            if state == "ready":
                return notebook
            if state == "failed":
                break
            time.sleep(0.05)
        raise SystemExit(f"the benchmark's source did not become ready: {state}")

    def stop(self) -> None:
        """End it as a service manager would, and see its index process end too."""
        below = [process.pid for process in processes_below(self.process.pid)]
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        until_ended(below)


@contextlib.contextmanager
def serving(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A ready server, ended afterwards."""
    server = Server(folder, settings)
    try:
        yield server
    finally:
        server.stop()
