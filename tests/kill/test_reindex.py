"""A real server, killed while it reindexes: it answers at every moment, and ends on the new index whole."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from .harness import PATIENCE, Server, proof
from .test_kill import SEED

KILLS = max(2, int(os.environ.get("SOURCEBOOK_KILLS", "2")) // 5)  # each is also a start and two searches
SOURCES = 8

pytestmark = proof


@pytest.mark.slow
@pytest.mark.timeout(240 + 60 * KILLS)
def test_a_reindex_survives_kill_9_and_the_old_index_answers_until_the_new_one_is_whole(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    server = Server(tmp_path, {"SOURCEBOOK_STORAGE__PATH": str(tmp_path / "data"), "SOURCEBOOK_JOBS__LEASE": "2"})
    try:
        server.start()
        notebook = _post(server, "/notebooks", {"title": "moves"})["id"]
        for number in range(SOURCES):
            body = {"name": f"log-{number}.md", "text": _text(rng, number)}
            _post(server, f"/notebooks/{notebook}/sources/text", body)
        before = _passages(server, notebook)
        server.kill()

        # The operator edits the pipeline: smaller passages.
        (tmp_path / "sourcebook.toml").write_text("[chunkers.markdown]\nsize = 200\n")
        server.start()
        standing = server.get(f"/notebooks/{notebook}/index")
        assert (standing["stale"], standing["changed"]) == (True, ["chunker"])
        assert standing["estimate"]["parsed"] == SOURCES
        job = _post(server, f"/notebooks/{notebook}/reindex", {})["job_id"]
        for _ in range(KILLS):
            _answers(server, notebook)
            time.sleep(rng.uniform(0.05, 0.8))
            server.kill()
            server.start()
            _answers(server, notebook)
        deadline = time.monotonic() + PATIENCE
        while server.get(f"/jobs/{job}")["state"] in ("queued", "leased"):
            _answers(server, notebook)
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.get(f"/jobs/{job}")["state"] == "done"
        standing = server.get(f"/notebooks/{notebook}/index")
        assert (standing["stale"], standing["reindex"]["state"]) == (False, "switched")
        after = _passages(server, notebook)
        assert after.keys() == before.keys()
        assert sum(after.values()) > sum(before.values())
        dropping = _post(server, f"/notebooks/{notebook}/reindex/drop", {})["job_id"]
        while server.get(f"/jobs/{dropping}")["state"] != "done":
            assert time.monotonic() < deadline + PATIENCE
            time.sleep(0.1)
        _answers(server, notebook)
    finally:
        server.close()
    _agree(server)


def _post(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A JSON call that must succeed."""
    reply = server.call("POST", path, json=body)
    assert reply.status_code in (200, 201, 202), reply.text
    result: dict[str, Any] = reply.json()
    return result


def _text(rng: random.Random, number: int) -> str:
    words = [
        "harbour",
        "tide",
        "lantern",
        "ledger",
        "storm",
        "compass",
        "rope",
        "anchor",
        "gull",
        "fog",
        "bell",
        "mole",
        "quay",
        "pilot",
    ]
    lines = [" ".join(rng.choices(words, k=30)) for _ in range(12)]
    return f"# Log {number}\n\n" + "\n\n".join(f"## Part {i}\n\n{line}." for i, line in enumerate(lines))


def _answers(server: Server, notebook: str) -> None:
    asked = {"question": "tide harbour lantern", "notebooks": [notebook]}
    assert len(_post(server, "/search", asked)["items"]) == 8


def _passages(server: Server, notebook: str) -> dict[str, int]:
    """Of every source, once all are ready."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = server.get(f"/notebooks/{notebook}/sources?limit=100")["items"]
        if len(found) == SOURCES and all(s["state"] == "ready" for s in found):
            return {s["id"]: s["passages"] for s in found}
        time.sleep(0.1)
    pytest.fail(f"not ready in time: {[s['state'] for s in found]}")


def _agree(server: Server) -> None:
    findings = {f["check"]: f for f in json.loads(server.command("doctor", "--json").stdout)}
    assert findings["index"]["ok"], findings["index"]
