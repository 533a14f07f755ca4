"""Many mixed clients at once: what is served, what is refused, and what memory does.

    python bench/load.py                  200 clients for 60 s, after the peak was measured with fewer
    python bench/load.py --clients 20 --seconds 5

A real server in a process of its own, a new one for every run. Each client reads, searches, asks, lists, edits, uploads
and downloads, at once again after every answer: more than the machine can do. The ratio that matters is goodput under
this load to the peak, which is the best of runs with 2, 8 and 32 clients, each as long: what is stored grows with the
run, and an answer over much costs more than one over little. Every refusal has to be 429 or 503 with
Retry-After, which clients keep to; nothing else may be over 499.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connection import Connection
from measuring import Words, machine, percentile, processes_below, table, workspace
from serving import Server, serving

_PEAK = (2, 8, 32)


@dataclass
class Outcome:
    """What a run of so many clients got."""

    clients: int
    seconds: float
    good: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def goodput(self) -> float:
        """Answers that were served, a second."""
        return self.good / self.seconds


class Load:
    """Clients of one server, which holds one notebook with some sources."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._words = Words(7)
        self._notebook = server.notebook_with(self._words.paragraph(2000))
        self._source = server.call("GET", f"/notebooks/{self._notebook}/sources")["items"][0]["id"]
        self._number = 0

    def run(self, clients: int, seconds: float) -> Outcome:
        """So many clients, for so long."""
        return asyncio.run(self._run(clients, seconds))

    async def _run(self, clients: int, seconds: float) -> Outcome:
        outcome, stop = Outcome(clients, seconds), threading.Event()
        watch = threading.Thread(target=self._watch, args=(outcome, stop))
        watch.start()
        used, mine = self._cpu(), time.process_time()
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._client(n, until, outcome) for n in range(clients)))
        outcome.cpu = {name: value - used.get(name, 0.0) for name, value in self._cpu().items()}
        outcome.cpu["clients"] = time.process_time() - mine
        stop.set()
        watch.join()
        return outcome

    def _cpu(self) -> dict[str, float]:
        """Seconds of processor time so far: of the serving process, and of the index and the jail below it."""
        below = {p.pid: p.cpu for p in processes_below(self._server.process.pid)}
        server = below.pop(self._server.process.pid, 0.0)
        return {"server": server, "below": sum(below.values())}

    def _watch(self, outcome: Outcome, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            found = [p.resident for p in processes_below(self._server.process.pid) if p.pid == self._server.process.pid]
            outcome.resident.extend(found)

    async def _client(self, number: int, until: float, outcome: Outcome) -> None:
        chance, connection = random.Random(number), Connection(self._server.port)
        while (began := time.monotonic()) < until:
            name, method, path, body = self._next(chance)
            try:
                async with asyncio.timeout(60):
                    status, headers, said = await connection.request(method, f"/api/v1{path}", body)
            except (OSError, EOFError) as error:
                outcome.wrong.append(f"{name}: {type(error).__name__}")
                continue
            outcome.statuses[f"{status}"] += 1
            if status < 400:
                outcome.took.append(time.monotonic() - began)
                outcome.good += time.monotonic() < until
                continue
            wait = headers.get("retry-after")
            if status not in (429, 503) or wait is None:
                outcome.wrong.append(f"{name}: {status} {said[:200]!r}")
            await asyncio.sleep(min(float(wait or 1), max(0.0, until - time.monotonic())) * chance.uniform(0.5, 1))
        connection.close()

    def _next(self, chance: random.Random) -> tuple[str, str, str, Any]:
        question = " ".join(self._words.some(6))
        book, asked = f"/notebooks/{self._notebook}", {"question": question, "notebooks": [self._notebook]}
        self._number += 1
        text = {"name": f"n{self._number}.md", "text": f"{self._number} {question}"}
        kinds: Sequence[tuple[float, str, str, str, Any]] = (
            (0.30, "search", "POST", "/search", asked),
            (0.10, "chat", "POST", "/chat", {**asked, "stream": False}),
            (0.05, "stream", "POST", "/chat", {**asked, "stream": True}),
            (0.20, "list", "GET", f"{book}/sources?limit=20", None),
            (0.20, "text", "GET", f"/sources/{self._source}/text?end=2000", None),
            (0.08, "content", "GET", f"/sources/{self._source}/content", None),
            (0.04, "edit", "PATCH", book, {"title": question[:80]}),
            (0.03, "upload", "POST", f"{book}/sources/text", text),
        )
        _, name, method, path, body = chance.choices(kinds, [k[0] for k in kinds])[0]
        return name, method, path, body


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Print every run and the ratio; the last is the overload."""
    rows = []
    for o in outcomes:
        resident = [r / 2**20 for r in o.resident] or [0.0]
        refused = sum(n for s, n in o.statuses.items() if s in ("429", "503"))
        times = o.took or [0.0]
        rows.append(
            [
                f"{o.clients} clients",
                f"{o.goodput:.0f}/s",
                f"{percentile(times, 0.5) * 1000:.0f} ms",
                f"{percentile(times, 0.99) * 1000:.0f} ms",
                *(f"{o.cpu.get(who, 0.0) * 1000 / len(times):.1f} ms" for who in ("server", "below", "clients")),
                str(refused),
                str(len(o.wrong)),
                f"{max(resident):.0f} MiB",
            ]
        )
    print("processor time for each answer, of the server, of what is below it (index, jail) and of the clients")
    table(["", "goodput", "p50", "p99", "server", "below", "clients", "refused", "wrong", "resident"], rows)
    peak, load = max(o.goodput for o in outcomes[:-1]), outcomes[-1]
    half = load.resident[len(load.resident) // 2 :] or [0]
    grown = (max(half) - half[0]) / 2**20
    print(f"\nratio  goodput with {load.clients} clients / peak: {load.goodput / peak:.2f}")
    print(f"memory over the second half of that run: {grown:+.0f} MiB")
    for line, times_seen in Counter(load.wrong).most_common(5):
        print(f"wrong, {times_seen} times: {line}")
    return {"ratio": load.goodput / peak, "grown_mib": grown, "wrong": len(load.wrong), "statuses": dict(load.statuses)}


def _fresh(clients: int, seconds: float) -> Outcome:
    """With a server of its own: what one run uploads would be the next one's to search."""
    with workspace("load") as folder, serving(folder) as server:
        return Load(server).run(clients, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="a size that measures nothing")
    parser.add_argument("--json", action="store_true", help="also print the figures as one line of JSON")
    options = parser.parse_args()
    if options.quick:
        options.clients, options.seconds = 4, 1.0
    print(f"load: {machine()}\n")
    peaks = _PEAK[:1] if options.quick else _PEAK
    outcomes = [_fresh(clients, options.seconds) for clients in (*peaks, options.clients)]
    figures = report(outcomes)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
