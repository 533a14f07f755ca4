"""Steady mixed load through nginx, which counts what failed and who it was sent to."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from .harness import Cluster, events

CLIENTS = 6
MOST = 3000  # requests; a test that waits longer than it should does not go on for ever


@dataclass
class Failure:
    """One request that did not get what it asked for; times are `time.monotonic`'s."""

    id: str
    what: str
    how: str
    began: float
    ended: float


@dataclass
class Load:
    """`with Load(cluster, notebook) as load:` - searches, questions, uploads, lists and readings, until it ends."""

    cluster: Cluster
    notebook: str
    done: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def total(self) -> int:
        return sum(self.done.values())

    def blameless(self, port: int, since: float, until: float) -> list[Failure]:
        """Failures that were not on their way to the server at `port` between the two moments: there must be none."""
        return [
            f
            for f in self.failures
            if not (
                f.began <= until and f.ended >= since and f"127.0.0.1:{port}" in self.cluster.nginx.upstreams_of(f.id)
            )
        ]

    def report(self) -> str:
        failed = Counter(f"{f.what}: {f.how}" for f in self.failures)
        return f"{self.total()} requests, {len(self.failures)} failed {dict(failed)}"

    def _client(self, number: int) -> None:
        rng = random.Random(number)
        kinds = {"search": 4, "list": 3, "upload": 1, "ask": 2, "read": 2}
        # Without kept connections: nginx closes those when it reloads, which may be just when one is used.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self.cluster.url, timeout=30, trust_env=False, limits=limits) as http:
            while not self._stop.is_set() and self.total() < MOST:
                what = rng.choices(list(kinds), list(kinds.values()))[0]
                self._one(http, what, f"load-{uuid.uuid4().hex}")

    def _one(self, http: httpx.Client, what: str, request_id: str) -> None:
        began, how = time.monotonic(), ""
        try:
            how = getattr(self, f"_{what}")(http, {"X-Request-ID": request_id})
        except httpx.HTTPError as error:
            how = type(error).__name__
        if how:
            self.failures.append(Failure(request_id, what, how, began, time.monotonic()))
        else:
            self.done[what] += 1

    def _search(self, http: httpx.Client, headers: dict[str, str]) -> str:
        asked = {"question": "When does the harbour close?", "notebooks": [self.notebook]}
        answer = http.post("/api/v1/search", json=asked, headers=headers)
        return _wrong(answer) or ("" if answer.json()["items"] else "nothing found")

    def _list(self, http: httpx.Client, headers: dict[str, str]) -> str:
        return _wrong(http.get(f"/api/v1/notebooks/{self.notebook}/sources?limit=5", headers=headers))

    def _upload(self, http: httpx.Client, headers: dict[str, str]) -> str:
        name = f"{headers['X-Request-ID']}.md"
        text = f"# {name}\n\nThe ferry {name} leaves at noon.\n".encode()
        return _wrong(http.put(f"/api/v1/notebooks/{self.notebook}/sources/{name}", content=text, headers=headers))

    def _read(self, http: httpx.Client, headers: dict[str, str]) -> str:
        found = http.get(f"/api/v1/notebooks/{self.notebook}/sources?limit=1", headers=headers)
        if wrong := _wrong(found):
            return wrong
        return _wrong(http.get(f"/api/v1/sources/{found.json()['items'][0]['id']}/content", headers=headers))

    def _ask(self, http: httpx.Client, headers: dict[str, str]) -> str:
        asked = {"question": "When does the harbour close?", "notebooks": [self.notebook], "stream": True}
        with http.stream("POST", "/api/v1/chat", json=asked, headers=headers) as answer:
            if answer.status_code != 200:
                return f"{answer.status_code}"
            *_, last = events(answer)
        return "" if last.get("finish") == "stop" else f"ended with {last.get('type')} {last.get('finish')}"


def _wrong(answer: httpx.Response) -> str:
    if answer.status_code < 400:
        return ""
    kind = answer.headers.get("content-type", "")
    return f"{answer.status_code} {answer.json()['code'] if 'json' in kind else 'of nginx'}"
