"""A real server that is killed while it works, and what must be true after every restart.

Whatever the client does is written down as acknowledged, refused or unknown (the connection broke before the answer).
The seed decides what is done and which death comes when; a run with the same seed tries the same things.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from sourcebook.failpoints import NAMES, VARIABLE
from sourcebook.testing.llm_server import FakeLLMServer

PATIENCE = 120.0
BATCH = 8
STRAY_AGE = 5.0

proof = pytest.mark.skipif(
    not {"SOURCEBOOK_PROOF", "SOURCEBOOK_KILLS"} & os.environ.keys(),
    reason="takes longer than a test should: set SOURCEBOOK_KILLS=25, as .ci/run does, or SOURCEBOOK_PROOF=1",
)
"""For a module that `make test` leaves to `.ci/run` and `make proof`."""

_WORDS = ["tide", "harbour", "lantern", "pilot", "quay", "ferry", "storm", "signal", "ledger", "rope"]


class Server:
    """One `sourcebook serve` (or `worker`) on a data folder, which can be killed and started again."""

    def __init__(self, folder: Path, environment: Mapping[str, str], command: tuple[str, ...] = ("serve",)) -> None:
        self.folder = folder
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("SOURCEBOOK_")} | {**environment}
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{command[0]}.log"
        self.client = httpx.Client(timeout=15, trust_env=False)
        self.url = ""
        self.started = 0.0

    def start(self, failpoints: str = "") -> bool:
        """Start it, and wait until it is ready. False where it died meanwhile, as a failpoint may want."""
        arguments = list(self._command)
        if self._command[0] == "serve":
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            arguments += ["--port", str(port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sourcebook_api", *arguments],
                cwd=self.folder,
                env={**self._environment, VARIABLE: failpoints},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started = time.monotonic()
        deadline = self.started + PATIENCE
        while self._command[0] == "serve" and time.monotonic() < deadline:
            if self.process.poll() is not None:
                assert failpoints, self.log.read_text()[-3000:]
                return False
            with suppress(httpx.TransportError):
                if self.client.get(f"{self.url}/readyz").status_code == 200:
                    return True
            time.sleep(0.03)
        assert self._command[0] != "serve", "the server was not ready in time: " + self.log.read_text()[-3000:]
        return True

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As a power cut would, but for the disk's own cache."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def terminate(self, seconds: float = 60) -> int:
        """As an operator does; the exit code."""
        assert self.process is not None
        if self.alive:
            self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        if self.alive:
            self.terminate()
        self.client.close()

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.client.request(method, f"{self.url}/api/v1{path}", **more)

    def get(self, path: str) -> Any:
        """A read that must succeed."""
        reply = self.call("GET", path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the same installation, beside the server."""
        command = [sys.executable, "-m", "sourcebook_api", *arguments]
        environment = self._environment
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )


@dataclass
class Written:
    """A source in the history. `state`: acknowledged, unknown, deleting (unknown), deleted."""

    name: str
    text: str
    state: str = "unknown"
    id: str = ""


@dataclass
class Torture:
    """One history on one server."""

    server: Server
    seed: int
    fake: FakeLLMServer
    index: Path | None = None
    written: dict[str, Written] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.notebook = ""

    def begin(self) -> None:
        self.server.start()
        reply = self.server.call("POST", "/notebooks", json={"title": "tortured"})
        self.notebook = reply.json()["id"]

    # Deaths.

    def round(self) -> None:
        """Work until something dies, then start again and look."""
        self.counts["rounds"] += 1
        death = self.rng.choices(("server", "failpoint", "index", "jail", "term"), (8, 8, 2, 2, 1))[0]
        if death == "failpoint":
            name, nth = self.rng.choice(NAMES), self.rng.randint(1, 3)
            self.server.kill()
            self.counts["deaths: server"] += 1
            if not self.server.start(f"{name}=kill:{nth}"):
                self._dead(f"failpoint {name}")
        moment = self.rng.uniform(0.05, 1.2)
        timer = threading.Timer(moment, self._strike, (death,)) if death != "failpoint" else None
        if timer:
            timer.start()
        deadline = time.monotonic() + (moment if timer else self.rng.uniform(1, 3))
        while self.server.alive and time.monotonic() < deadline:
            self.operate()
        if timer:
            timer.join()
        if death == "failpoint":
            self._dead("server" if self.server.alive else f"failpoint {name}")
            self.server.kill()  # what was not reached must not be reached while we look
        if not self.server.alive:
            self.server.start()
        self.check()

    def _dead(self, how: str) -> None:
        self.counts[f"deaths: {how}"] += 1

    def _strike(self, death: str) -> None:
        if death == "server":
            self.server.kill()
        elif death == "term":
            self.server.terminate()
        else:
            pid = self._pid_of_index() if death == "index" else self._pid_of_jail()
            if pid is None:
                return
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._dead(death)

    def _pid_of_index(self) -> int | None:
        assert self.index is not None
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.index / "owner.json").read_text())["pid"])
        return None

    def _pid_of_jail(self) -> int | None:
        assert self.server.process is not None
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == self.server.process.pid and b"jail" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
        return None

    # What a client does.

    def operate(self) -> None:
        live = [w for w in self.written.values() if w.state == "acknowledged"]
        if len(live) > 6 and self.rng.random() < (0.6 if len(live) > 20 else 0.3):
            self._delete(self.rng.choice(live))
        else:
            self._upload()
        self._count_paid()

    def _upload(self) -> None:
        number = len(self.written)
        paragraphs = [
            f"Entry {number} part {n}: " + " ".join(self.rng.choices(_WORDS, k=self.rng.randint(60, 120))) + "."
            for n in range(self.rng.choice((1, 2, 3, 12)))
        ]
        one = Written(f"log-{number}.md", f"# Log {number} mark{number}z\n\n" + "\n\n".join(paragraphs))
        self.written[one.name] = one
        try:
            reply = self.server.call("PUT", f"/notebooks/{self.notebook}/sources/{one.name}", content=one.text.encode())
        except httpx.TransportError:
            self.counts["unknown"] += 1
            return
        if reply.status_code in (200, 202):
            one.state, one.id = "acknowledged", reply.json()["id"]
            self.counts["acknowledged"] += 1
        elif reply.status_code in (429, 507):
            one.state = "refused"
            self.counts["refused"] += 1
        else:  # a database that went away may have done it all the same
            assert reply.status_code == 503, reply.text
            self.counts["unknown"] += 1

    def _delete(self, one: Written) -> None:
        one.state = "deleting"
        try:
            reply = self.server.call("DELETE", f"/sources/{one.id}")
        except httpx.TransportError:
            self.counts["unknown"] += 1
            return
        assert reply.status_code in (202, 204, 503), reply.text
        if reply.status_code == 503:
            self.counts["unknown"] += 1
            return
        one.state = "deleted"
        self.counts["deleted"] += 1

    def _count_paid(self) -> None:
        while self.fake.requests:
            request = self.fake.requests.pop(0)
            if request.path.endswith("embeddings"):
                texts = request.json["input"]
                self.paid.update([texts] if isinstance(texts, str) else texts)

    # What must be true.

    def check(self) -> None:
        """After a restart: nothing acknowledged is lost, nothing deleted answers, the unknown is one or the other."""
        there = {s["name"]: s["id"] for s in self._sources()}
        for one in self.written.values():
            if one.state == "acknowledged":
                assert there.get(one.name) == one.id, f"{one.name} was acknowledged, and is lost"
            elif one.state in ("deleted", "refused"):
                assert one.name not in there, f"{one.name} was {one.state}, and is there"
            elif one.name in there:
                one.state, one.id = "acknowledged", there[one.name]
            else:
                one.state = "deleted"
        for one in [w for w in self.written.values() if w.state == "deleted" and w.id][-2:]:
            number = one.name[4:-3]
            found = self.server.call(
                "POST", "/search", json={"question": f"mark{number}z", "notebooks": [self.notebook]}
            )
            if found.status_code == 200:
                assert one.id not in {p["source_id"] for p in found.json()["items"]}, f"{one.name} answers, deleted"
            assert self.server.call("GET", f"/sources/{one.id}").status_code == 404

    def _sources(self) -> Iterable[dict[str, Any]]:
        query = ""
        while True:
            page = self.server.get(f"/notebooks/{self.notebook}/sources?limit=100{query}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            query = f"&cursor={page['next_cursor']}"

    def settle(self) -> None:
        """Everything becomes ready; then the stores agree to the last row and point, and every passage is exact."""
        deadline = time.monotonic() + PATIENCE
        states: dict[str, Any] = {}
        wanted = {w.id: w for w in self.written.values() if w.state == "acknowledged"}
        while time.monotonic() < deadline:
            states = {s["id"]: (s["state"], s["problem"]) for s in self._sources()}
            if all(states.get(i, ("", None))[0] == "ready" for i in wanted):
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"not ready in time: { {i: states.get(i) for i in wanted if states[i][0] != 'ready'} }")
        while True:
            left = json.loads(self.server.command("jobs", "list", "--state", "queued", "--json").stdout)
            left += json.loads(self.server.command("jobs", "list", "--state", "leased", "--json").stdout)
            if not left:
                break
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
        for one in self.rng.sample(list(wanted.values()), min(3, len(wanted))):
            self._exact(one)
        self.doctor()
        self._count_paid()
        self._paid_once()

    def _exact(self, one: Written) -> None:
        for passage in self.server.get(f"/sources/{one.id}/passages?limit=100")["items"]:
            span = self.server.get(f"/sources/{one.id}/text?start={passage['start']}&end={passage['end']}")
            assert span["text"] == passage["text"]

    def doctor(self) -> None:
        """All stores agree, without a repair: bytes of uploads that died before their row are gone by themselves."""
        # They go so long after a start; 15 seconds more for the start itself.
        deadline = self.server.started + STRAY_AGE + 15
        while (findings := self._findings())["blobs"]["data"] and time.monotonic() < deadline:
            time.sleep(0.5)
        for name in ("database", "foreign_keys", "jobs", "documents", "deletions", "blobs", "dimensions", "index"):
            assert findings[name]["ok"], findings[name]
        self.counts["doctor"] += 1

    def _findings(self) -> dict[str, Any]:
        run = self.server.command("doctor", "--json")
        return {f["check"]: f for f in json.loads(run.stdout)}

    def _paid_once(self) -> None:
        """No document is paid for twice beyond one batch a death: what was embedded and not yet kept."""
        deaths = sum(n for what, n in self.counts.items() if what.startswith("deaths"))
        again = sum(n - 1 for n in self.paid.values() if n > 1)
        self.counts["embedded"] = sum(self.paid.values())
        self.counts["embedded again"] = again
        # Two jobs at a time, a batch each.
        assert again <= 2 * BATCH * deaths, (again, deaths)
        by_document: Counter[str] = Counter()
        for text, n in self.paid.items():
            by_document[text.partition(" part ")[0]] += n - 1
        worst = max(by_document.values(), default=0)
        self.counts["embedded again, the worst document"] = worst

    def report(self) -> str:
        lines = [f"seed {self.seed}", *(f"{what}: {n}" for what, n in sorted(self.counts.items()))]
        return "\n".join(lines)


def environment(folder: Path, fake: FakeLLMServer, **more: str) -> dict[str, str]:
    """Settings of a server whose embedder is the fake one, which counts."""
    return {
        "SOURCEBOOK_STORAGE__PATH": str(folder / "data"),
        "SOURCEBOOK_STORAGE__STRAY_AGE": str(STRAY_AGE),
        "SOURCEBOOK_JOBS__LEASE": "3",
        "SOURCEBOOK_JOBS__BATCH": str(BATCH),
        "SOURCEBOOK_JOBS__POLL": "0.2",
        "SOURCEBOOK_JOBS__BACKOFF": "0.2",
        "SOURCEBOOK_JOBS__ATTEMPTS": "50",
        "SOURCEBOOK_PIPELINES__DEFAULT__EMBEDDER": "counted",
        "SOURCEBOOK_EMBEDDERS__COUNTED__USE": "openai",
        "SOURCEBOOK_EMBEDDERS__COUNTED__BASE_URL": fake.url,
        "SOURCEBOOK_EMBEDDERS__COUNTED__MODEL": "counted",
        "SOURCEBOOK_EMBEDDERS__COUNTED__MAX_BATCH": str(BATCH),
        **more,
    }
