"""A real server in a process of its own, into which hostile files are uploaded, and everything that it may not do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

WALL, CPU = 30, 8
"""Seconds that the server gives one file, by the clock and of processor time."""

MOST_MEMORY = 64 * 1024 * 1024
"""Bytes by which the serving process may grow, whatever it is given."""

INNOCENT = "# Harbour {n}\n\nThe lamp number {n} is green.\n"


class Canary:
    """An address that nobody may ask: it counts who does."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


class Laboratory:
    """`with Laboratory(folder) as lab: lab.outcomes(files)`. What lies in `folder` beside the data must not change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.data = folder / "data"
        (folder / "home").mkdir()
        (folder / "home" / "secret.txt").write_text("canary-of-the-home-folder")
        (folder / "tmp").mkdir()
        (folder / "sourcebook.toml").write_text(
            f'[storage]\npath = "{self.data}"\n[server]\nport = 0\n[retrievers.qdrant]\nidle_seconds = 0\n'
            f"[jail]\nwall = {WALL}\ncpu = {CPU}\n"
        )

    def __enter__(self) -> Laboratory:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder / "home")}
        environment |= {"TMPDIR": str(self._folder / "tmp"), "NO_COLOR": "1"}
        self._log = (self._folder / "data.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sourcebook_api", "--config", str(self._folder / "sourcebook.toml"), "serve"],
            cwd=self._folder / "home",
            env=environment,
            stdout=self._log,
            stderr=self._log,
        )
        self._http = httpx.Client(base_url=self._address(), timeout=120)
        self._notebook = self._http.post("/api/v1/notebooks", json={"title": "Bombs"}).json()["id"]
        self.settle([self.put("warm.md", INNOCENT.format(n=0).encode())["id"]])
        self._before = self._tree()
        self._resident = self._status("VmRSS")
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")  # the peak is counted from here
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def outcomes(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """What became of each file: `ready`, or the code of its problem. Others are uploaded between them, unharmed."""
        self.sources: dict[str, Any] = {}
        refused: dict[str, str] = {}
        innocent: list[str] = []
        for n, (name, data) in enumerate(files.items(), 1):
            answer = self.put(name, data)
            if "id" in answer:
                self.sources[name] = answer
            else:
                refused[name] = answer["code"]
            if n % 5 == 0 or n == len(files):
                innocent.append(self.put(f"innocent{n}.md", INNOCENT.format(n=n).encode())["id"])
        settled = self.settle([s["id"] for s in self.sources.values()])
        self.sources = dict(zip(self.sources, settled, strict=True))
        for source in self.settle(innocent):
            assert (source["state"], source["passages"]) == ("ready", 1), source
            assert "is green." in self.text(source)
        outcomes = {n: "ready" if s["state"] == "ready" else s["problem"]["code"] for n, s in self.sources.items()}
        for name, source in self.sources.items():
            assert source["state"] == "ready" or source["problem"]["remedy"], name
        return {name: (outcomes | refused)[name] for name in files}

    def put(self, name: str, data: bytes) -> Any:
        """Upload it; the source, or the problem."""
        return self._http.put(f"/api/v1/notebooks/{self._notebook}/sources/{quote(name)}", content=data).json()

    def settle(self, ids: list[str]) -> list[Any]:
        """Wait for these sources, and for everything else that is being read."""
        while True:
            shown = [self._http.get(f"/api/v1/sources/{i}").json() for i in ids]
            if all(s["state"] in ("ready", "failed") for s in shown):
                return shown
            time.sleep(0.1)

    def everything(self) -> list[Any]:
        """Every source with its members, once all are read."""
        while True:
            found: list[Any] = []
            params = {"limit": "200"}
            while True:
                page = self._http.get(f"/api/v1/notebooks/{self._notebook}/sources", params=params).json()
                found += page["items"]
                if page["next_cursor"] is None:
                    break
                params["cursor"] = page["next_cursor"]
            if all(s["state"] in ("ready", "failed") for s in found):
                return found
            time.sleep(0.1)

    def text(self, source: Any) -> str:
        """The beginning of what was read from it."""
        return str(self._http.get(f"/api/v1/sources/{source['id']}/text", params={"end": 100_000}).json()["text"])

    def page(self, source: Any) -> httpx.Response:
        """A picture of its first page."""
        return self._http.get(f"/api/v1/sources/{source['id']}/pages/1.png")

    def check_unharmed(self) -> None:
        """The server lives, has not grown, and has changed nothing but its data."""
        assert self._http.get("/livez").status_code == 200
        grown = self._status("VmHWM") - self._resident
        assert grown <= MOST_MEMORY, f"the server grew by {grown / 1024 / 1024:.0f} MiB"
        assert self._tree() == self._before
        for child in self._children():
            assert "jail_server" in child or "qdrant" in child, child

    def _address(self) -> str:
        for _ in range(600):
            found = re.search(r"ready on (http://\S+)", (self._folder / "data.log").read_text())
            if found:
                return found[1]
            assert self._process.poll() is None, (self._folder / "data.log").read_text()
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def _status(self, field: str) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"{field}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def _tree(self) -> dict[str, str]:
        """Every file of the folder but the data's and the log, with its hash."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in sorted(self._folder.rglob("*"))
            if self.data not in (path, *path.parents) and path.name != "data.log"
        }

    def _children(self) -> Iterator[str]:
        """The command lines of the server's child processes."""
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for pid in (task / "children").read_text().split():
                    yield Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
