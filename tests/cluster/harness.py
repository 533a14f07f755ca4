"""Two servers and two workers on one PostgreSQL behind a real nginx: real processes, on 127.0.0.1 alone."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from sourcebook.testing.llm_server import FakeLLMServer
from tests.postgres import Postgres
from tests.s3 import free_port

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0  # the machine may be busy with others; whatever is late here is not what is tested
BEAT = 0.05


def until(what: str, check: Callable[[], Any]) -> Any:
    """What `check` returns once it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(BEAT)
    pytest.fail(f"{what}: not in {PATIENCE:.0f} seconds")


class Process:
    """One process of ours in a folder of its own, which ends with the test whatever happens."""

    def __init__(self, folder: Path, command: list[str], environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._command = command
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_us,
            )

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


class Api(Process):
    """`sourcebook serve` on a port that it keeps over restarts."""

    def __init__(self, folder: Path, config: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "sourcebook_api", "--config", str(config), "serve", "--port", str(self.port)]
        super().__init__(folder, command, environment)
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def start(self) -> None:
        super().start()
        until(f"{self.folder.name} is ready", self.ready)

    def ready(self) -> bool:
        assert self.alive, self.log
        with suppress(httpx.TransportError):
            return self.http.get("/readyz").status_code == 200
        return False

    def restart(self) -> None:
        """As an upgrade does it, one server after the other."""
        assert self.end() == 0, self.log
        self.start()


class Nginx(Process):
    """The example configuration, with our addresses in it; nothing of the system's nginx is touched."""

    def __init__(self, folder: Path, upstreams: list[str]) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            pytest.skip("nginx is not installed: apt-get install -y nginx")
        folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests = folder / "access.log"
        text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
        (folder / "nginx.conf").write_text(rendered(text, folder, self.port, upstreams), encoding="utf-8")
        command = [program, "-p", f"{folder}/", "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;"]
        super().__init__(folder, command, {"PATH": os.environ["PATH"]})
        subprocess.run([*command[:-2], "-t"], check=True, capture_output=True, cwd=folder)

    def start(self) -> None:
        super().start()

        def answers() -> bool:
            assert self.alive, self.log + (self.folder / "error.log").read_text()
            with suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/livez", trust_env=False).status_code == 200
            return False

        until("nginx answers", answers)

    def take_out(self, port: int, *, out: bool) -> None:
        """Write `down` behind a server, or take it away, as an operator does before a restart and after."""
        path, one = self.folder / "nginx.conf", f"server 127.0.0.1:{port} max_fails"
        text = path.read_text(encoding="utf-8").replace(f"{one.removesuffix('max_fails')}down max_fails", one)
        path.write_text(text.replace(one, f"server 127.0.0.1:{port} down max_fails") if out else text, encoding="utf-8")
        before = self._children()
        self.send(signal.SIGHUP)
        until("nginx has reloaded", lambda: not before & self._children())

    def _children(self) -> set[int]:
        # Those that only end their last requests count: a stream may be sent to the server that was taken out.
        return {int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()}

    def upstreams_of(self, request_id: str) -> list[str]:
        """Who was asked for the last request of this id, the last one last."""
        found = re.findall(rf"id={re.escape(request_id)} upstream=([^ ]+(?:, [^ ]+)*) ", self.requests.read_text())
        return found[-1].split(", ") if found else []


def rendered(text: str, folder: Path, port: int, upstreams: list[str]) -> str:
    """The example for this test: other addresses and paths, and not a directive more or less."""
    changes = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server api1:8000 ": f"server {upstreams[0]} ",
        "server api2:8000 ": f"server {upstreams[1]} ",
        "pid /run/nginx.pid;": "pid nginx.pid;",
        "error_log /var/log/nginx/error.log warn;": "error_log error.log warn;",
        "access_log /var/log/nginx/access.log ": "access_log access.log ",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, f"deploy/nginx.conf should hold {old!r} once"
        text = text.replace(old, new)
    # Compiled in, and the system's: where requests would be spooled, though none is.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    return user + text.replace("http {", f"http {{ {temporary}", 1)


class Cluster:
    """All of it. `a` and `b` are the servers, `url` is nginx's."""

    def __init__(self, folder: Path, postgres: Postgres, fake: FakeLLMServer, blobs: Mapping[str, Any]) -> None:
        self.fake = fake
        self.postgres = postgres
        self.database = postgres.migrated()
        self.config = folder / "sourcebook.toml"
        self._blobs = blobs
        self.configure(model="first")
        mine = {k: v for k, v in os.environ.items() if not k.startswith("SOURCEBOOK_")}

        def of(name: str) -> dict[str, str]:
            # A data folder each, as on machines of their own.
            return {**mine, "SOURCEBOOK_STORAGE__PATH": str(folder / name / "data")}

        self.a, self.b = (Api(folder / name, self.config, of(name)) for name in ("a", "b"))
        command = [sys.executable, "-m", "sourcebook_api", "--config", str(self.config), "worker", "--workers", "2"]
        self.workers = [Process(folder / name, command, of(name)) for name in ("w1", "w2")]
        self.nginx = Nginx(folder / "nginx", [f"127.0.0.1:{api.port}" for api in (self.a, self.b)])
        self.url = self.nginx.url
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def configure(self, model: str) -> None:
        """Write the one configuration of them all."""
        name = self.database.rpartition("://")[2]
        settings: dict[str, dict[str, Any]] = {
            "storage": {"database": self.database, **self._blobs["storage"]},
            "jobs": {"workers": 0, "lease": 5.0, "poll": 0.1, "backoff": 0.1},
            "runs": {"lease": 8.0},  # shorter ones run out where the machine is busy
            "limits": {"requests": 0, "failures": 0},
            "pipelines.default": {"embedder": "counted", "retrievers": ["pgvector"], "llm": ["fast"]},
            "retrievers.pgvector": {"url": f"postgresql://{name}"},
            "embedders.counted": {"use": "openai", "base_url": self.fake.url, "model": "counted", "dimensions": 64},
            "llms.fast": {"use": "openai", "base_url": self.fake.url, "model": model},
            **self._blobs["instances"],
        }
        lines = []
        for section, values in settings.items():
            lines += [f"[{section}]", *(f"{key} = {orjson.dumps(value).decode()}" for key, value in values.items())]
        self.config.write_text("\n".join(lines), encoding="utf-8")

    @contextmanager
    def running(self) -> Iterator[Cluster]:
        try:
            for process in (self.a, self.b, *self.workers, self.nginx):
                process.start()
            yield self
        finally:
            for process in (self.nginx, *self.workers, self.a, self.b):
                process.end(signal.SIGKILL)
            for http in (self.http, self.a.http, self.b.http):
                http.close()

    def psql(self, statement: str) -> str:
        return self.postgres.psql(statement, re.findall(r"/([^/?]+)\?", self.database)[0])

    def notebook(self) -> str:
        return str(self.http.post("/api/v1/notebooks", json={"title": "Cluster"}).json()["id"])

    def put(self, http: httpx.Client, notebook: str, name: str, text: str) -> Any:
        answer = http.put(f"/api/v1/notebooks/{notebook}/sources/{name}", content=text.encode())
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    def ready(self, http: httpx.Client, source_id: str) -> Any:
        def look() -> Any:
            shown = http.get(f"/api/v1/sources/{source_id}").json()
            assert shown["state"] != "failed", shown
            return shown if shown["state"] == "ready" else None

        return until("the source is ready", look)


def events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """What an open stream tells, each as it comes."""
    lines = answer.iter_lines()
    for line in lines:
        if line.startswith("data: {"):
            yield orjson.loads(line[6:])


def _end_with_us() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
