"""A real server, killed with SIGKILL while it ingests: what it acknowledged is there, and nothing else is."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

KILLS = int(os.environ.get("SOURCEBOOK_KILLS", "5"))
SEED = int(os.environ.get("SOURCEBOOK_SEED", "20261123"))
_PATIENCE = 90.0


class Server:
    """One `sourcebook serve` on a data folder, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.log = (folder / "server.log").open("ab")
        self.client = httpx.Client(timeout=10, trust_env=False)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = dict(os.environ, SOURCEBOOK_STORAGE__PATH=str(self.folder / "data"), SOURCEBOOK_JOBS__LEASE="2")
        command = [sys.executable, "-m", "sourcebook_api", "serve", "--port", str(port)]
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            try:
                if self.client.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        pytest.fail("the server was not ready in time")

    def kill(self) -> None:
        """As a power cut would, but for the disk's own cache."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """As an operator does."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.client.close()
        self.log.close()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A JSON call that must succeed."""
        reply = self.client.post(f"{self.url}/api/v1{path}", json=body)
        assert reply.status_code in (200, 201, 202), reply.text
        result: dict[str, Any] = reply.json()
        return result

    def get(self, path: str) -> dict[str, Any]:
        """A read that must succeed."""
        reply = self.client.get(f"{self.url}/api/v1{path}")
        assert reply.status_code == 200, reply.text
        result: dict[str, Any] = reply.json()
        return result


def _text(rng: random.Random, number: int) -> str:
    words = ["tide", "harbour", "lantern", "pilot", "quay", "ferry", "storm", "signal", "ledger", "rope"]
    paragraphs = [" ".join(rng.choices(words, k=rng.randint(20, 80))) + "." for _ in range(rng.randint(2, 60))]
    return f"# Log {number}\n\n" + "\n\n".join(paragraphs)


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * KILLS)
def test_nothing_acknowledged_is_lost_and_no_point_is_left_over_by_kill_9(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    server = Server(tmp_path)
    acknowledged: dict[str, str] = {}
    try:
        server.start()
        notebook = server.post("/notebooks", {"title": "killed"})["id"]
        for _ in range(KILLS):
            moment = time.monotonic() + rng.uniform(0.1, 1.5)
            while time.monotonic() < moment:
                text = _text(rng, len(acknowledged))
                body = {"name": f"log-{len(acknowledged)}.md", "text": text}
                source = server.post(f"/notebooks/{notebook}/sources/text", body)
                acknowledged[source["id"]] = text
            server.kill()
            server.start()
        _all_ready(server, notebook, acknowledged)
        _deleting_leaves_nothing(server, acknowledged)
        _exact(server, acknowledged)
    finally:
        server.stop()
    _doctor(tmp_path)


def _all_ready(server: Server, notebook: str, acknowledged: dict[str, str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    states: dict[str, str] = {}
    while time.monotonic() < deadline:
        states = _states(server, notebook)
        if all(states.get(i) == "ready" for i in acknowledged):
            return
        time.sleep(0.2)
    lost = {i: states.get(i, "lost") for i in acknowledged if states.get(i) != "ready"}
    pytest.fail(f"not ready in time: {lost}")


def _states(server: Server, notebook: str) -> dict[str, str]:
    found: dict[str, str] = {}
    query = ""
    while True:
        page = server.get(f"/notebooks/{notebook}/sources?limit=100{query}")
        found |= {s["id"]: s["state"] for s in page["items"]}
        if page["next_cursor"] is None:
            return found
        query = f"&cursor={page['next_cursor']}"


def _exact(server: Server, acknowledged: dict[str, str]) -> None:
    """Every passage is the text at its range."""
    for source_id in list(acknowledged)[-3:]:
        for passage in server.get(f"/sources/{source_id}/passages?limit=100")["items"]:
            span = server.get(f"/sources/{source_id}/text?start={passage['start']}&end={passage['end']}")
            assert span["text"] == passage["text"]


def _deleting_leaves_nothing(server: Server, acknowledged: dict[str, str]) -> None:
    gone = next(iter(acknowledged))
    del acknowledged[gone]
    assert server.client.delete(f"{server.url}/api/v1/sources/{gone}").status_code in (200, 202, 204)
    assert server.client.get(f"{server.url}/api/v1/sources/{gone}").status_code == 404
    server.kill()
    server.start()


def _doctor(folder: Path) -> None:
    environment = dict(os.environ, SOURCEBOOK_STORAGE__PATH=str(folder / "data"))
    command = [sys.executable, "-m", "sourcebook_api", "doctor", "--json"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=120, check=False)
    findings = {f["check"]: f for f in json.loads(run.stdout)}
    assert findings["index"]["ok"], findings["index"]
    assert findings["blobs"]["ok"], findings["blobs"]
    assert findings["jobs"]["ok"], findings["jobs"]
