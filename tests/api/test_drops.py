"""Clients that go away at any moment leave nothing behind: no task, no socket, no session, no run.

`SOURCEBOOK_DROPS` says how many (`make proof`: 1,000). How long it took to close the model is printed, not asserted.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Recorded, Reply, Step, chunk

from .support import Served

DROPS = int(os.environ.get("SOURCEBOOK_DROPS", "40"))
AT_ONCE = 8
WORDS: list[Step] = [chunk({"role": "assistant"}), 0.05]
for _n in range(60):
    WORDS += [chunk({"reasoning_content" if _n < 5 else "content": f"word{_n} [1] "}), 0.02]
WORDS += [chunk(finish="stop"), b"data: [DONE]\n\n"]


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, FakeLLMServer]]:
    """A server of its own, so that what is counted is ours; grace 0."""
    with FakeLLMServer() as llm:
        overrides = {
            "llms": {"fake": {"use": "openai", "base_url": llm.url, "model": "fake"}},
            "pipelines": {"default": {"llm": ["fake"]}},
            "jobs": {"workers": 1},
        }
        with Served(tmp_path_factory.mktemp("drops"), overrides) as server:
            yield server, llm


def test_nothing_is_left_of_clients_that_go_away(
    dropped: tuple[Served, FakeLLMServer], capsys: pytest.CaptureFixture[str]
) -> None:
    server, llm = dropped
    notebook = server.notebook()
    server.source(notebook)
    server.http.close()  # its connection would be counted
    asyncio.run(_drop_all(server, llm, notebook, AT_ONCE))  # every pool and cache is warm
    before = _quiet(server)
    first = len(llm.requests)
    gone = asyncio.run(_drop_all(server, llm, notebook, DROPS))
    assert _quiet(server) == before
    assert (before["sockets"], before["upstreams"]) == (0, 0)
    assert all(r.finished.is_set() for r in llm.requests[first:])
    late = _lateness(gone, llm.requests[first:])
    assert late, "no client left while a model was being read"
    p50, p99 = (late[min(int(len(late) * share), len(late) - 1)] * 1000 for share in (0.5, 0.99))
    with capsys.disabled():
        print(f"\n{DROPS} drops, {len(late)} in time to close a model: p50 {p50:.0f} ms, p99 {p99:.0f} ms later it was")


async def _drop_all(server: Served, llm: FakeLLMServer, notebook: str, count: int) -> dict[str, float]:
    """So many clients that leave at random; when each left, by its mark."""
    llm.script(*(Reply(WORDS) for _ in range(count)))
    slots, gone = asyncio.Semaphore(AT_ONCE), dict[str, float]()

    async def one(n: int) -> None:
        async with slots:
            mark = f"mark{n}x{random.randrange(10**9)}"
            gone[mark] = await _drop(server, notebook, mark, n)

    await asyncio.gather(*(one(n) for n in range(count)))
    for _ in range(200):  # what was never asked for is taken back
        if all(r.finished.is_set() for r in llm.requests):
            break
        await asyncio.sleep(0.05)
    llm._scripts.clear()
    return gone


async def _drop(server: Served, notebook: str, mark: str, n: int) -> float:
    """Ask in one of the ways, stay for a random while, and go."""
    question = f"When does the harbour close, {mark}?"
    path, body = _ways(notebook, question)[n % 4]
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", "Content-Type: application/json")
    head = "\r\n".join((*lines, f"Content-Length: {len(data)}"))
    writer.write(head.encode() + b"\r\n\r\n" + data)
    streams = n % 4 < 2
    events = random.choice([0, 1, 2, random.randrange(3, 20)]) if streams else 0
    stay = 20.0 if events else random.choice([0.0, random.uniform(0, 0.2), random.uniform(0, 1.5)])
    with suppress(TimeoutError):
        async with asyncio.timeout(stay):
            seen = 0
            while (piece := await reader.read(4096)) and (not events or seen < events):
                seen += piece.count(b"data: ")
    left = time.monotonic()
    if n % 3:
        writer.close()
    else:
        writer.transport.abort()  # a reset
    return left


def _ways(notebook: str, question: str) -> list[tuple[str, Any]]:
    native = {"question": question, "notebooks": [notebook]}
    openai = {"model": notebook, "messages": [{"role": "user", "content": question}]}
    return [
        ("/api/v1/chat", {**native, "stream": True}),
        ("/v1/chat/completions", {**openai, "stream": True}),
        ("/api/v1/chat", {**native, "stream": False}),
        ("/v1/chat/completions", openai),
    ]


def _counts(server: Served) -> dict[str, Any]:
    """What a leak would add to."""

    async def count() -> dict[str, Any]:
        book = server.book
        alive = [run for run in book.runs._runs.values() if run.finished_at is None]
        engines = (book.database._writer, book.database._reader)
        sessions = sum(engine.sync_engine.pool.checkedout() for engine in engines)  # type: ignore[attr-defined]
        followers = sum(run._followers for run in book.runs._runs.values())
        busy = [c for pool in book.http._pools.values() for c in pool.connections if not c.is_idle()]
        return {
            "tasks": _tasks(),
            "runs": len(alive),
            "sessions": sessions,
            "followers": followers,
            "upstreams": len(busy),
            "sockets": _sockets(server.port),
        }

    return server.run(count())


def _tasks() -> list[str]:
    """What this loop's tasks do, but for the counting one, and for the run log: it stays a while after its last run."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return sorted(str(task.get_coro()).split(" at ")[0] for task in others if task.get_name() != "run log")


def _quiet(server: Served) -> dict[str, Any]:
    """The counts once everything that is under way has ended, or what they still are after a minute."""
    deadline = time.monotonic() + 60
    seen: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        seen = [*seen[-4:], _counts(server)]
        busy = any(seen[-1][name] for name in ("runs", "sessions", "followers", "upstreams", "sockets"))
        if not busy and len(seen) == 5 and all(one == seen[-1] for one in seen):
            break
        time.sleep(0.1)
    return seen[-1]


def _sockets(port: int) -> int:
    """Connections that the server has accepted and not closed: those of this process on its port."""
    mine = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            mine.add(str(descriptor.readlink()).removeprefix("socket:["))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(f"{row[9]}]" in mine and row[1].endswith(f":{port:04X}") and row[3] != "0A" for row in rows)


def _lateness(gone: dict[str, float], requests: list[Recorded]) -> list[float]:
    """How long after its client each model's connection was closed, sorted; of those that had not ended before."""
    late = []
    for request in requests:
        mark = next((m for m in gone if m.encode() in request.body), None)
        if mark is not None and request.closed_at:
            late.append(max(request.closed_at - gone[mark], 0.0))
    return sorted(late)
