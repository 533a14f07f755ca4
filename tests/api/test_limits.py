"""How much one key, one address, one owner and all together may ask."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sourcebook.errors import SourcebookError
from sourcebook.hookspecs import hookimpl
from sourcebook.hosts import RouteHost
from sourcebook.owners import Principal
from sourcebook.settings import Limits
from sourcebook_api.limits import Limiter, RateLimited
from sourcebook_api.places import Overloaded

from .support import Served, is_problem

LIMITS = {"requests": 0, "failures": 4, "concurrent": 2, "storage": 3000, "sources": 3, "owners": {"rich": 10_000_000}}


class Waits:
    """A plugin with a route that waits until it is let go."""

    __name__ = "waits"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.there = threading.Semaphore(0)

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        async def wait() -> None:
            self.there.release()
            await asyncio.to_thread(self.go.wait, 20)

        host.router.add_api_route("/", wait)


@pytest.fixture(scope="module")
def waits() -> Waits:
    return Waits()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, waits: Waits) -> Any:
    with Served(tmp_path_factory.mktemp("limited"), {"limits": LIMITS}, (waits,)) as server:
        server.key("root", "admin")
        yield server


def test_a_key_is_told_what_is_left_and_stopped_with_when_to_come_back(limited: Served) -> None:
    headers = limited.key("ada", "read", limits={"requests": 3})
    answers = [limited.http.get("/api/v1/notebooks", headers=headers) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers["ratelimit-remaining"] for a in answers[:3]] == ["2", "1", "0"]
    assert {a.headers["ratelimit-limit"] for a in answers[:3]} == {"3"}
    assert all(1 <= int(a.headers["ratelimit-reset"]) <= 60 for a in answers[:3])
    is_problem(answers[3], 429, "rate_limited")
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert limited.http.get("/api/v1/notebooks", headers=limited.key("ada", "read")).status_code == 200


def test_a_key_has_so_many_requests_at_a_time(limited: Served, waits: Waits) -> None:
    headers, others = limited.key("ada", "read"), limited.key("bob", "read")
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(limited.http.get, "/api/v1/x/waits/", headers=headers) for _ in range(2)]
        for _ in running:
            assert waits.there.acquire(timeout=20)
        refused = limited.http.get("/api/v1/notebooks", headers=headers)
        is_problem(refused, 429, "too_many_at_once")
        assert refused.headers["retry-after"] == "1"
        assert limited.http.get("/api/v1/notebooks", headers=others).status_code == 200
        assert limited.http.get("/livez").status_code == 200
        waits.go.set()
        assert all(one.result().status_code == 200 for one in running)
    assert limited.http.get("/api/v1/notebooks", headers=headers).status_code == 200


def test_guessing_is_slowed_down_and_good_keys_are_served_all_the_same(limited: Served) -> None:
    good = limited.key("ada", "read")
    answers = [limited.http.get("/api/v1/notebooks", headers={"X-API-Key": f"sbk_{n}"}) for n in range(6)]
    assert [a.status_code for a in answers] == [401] * 4 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert limited.http.get("/api/v1/notebooks", headers=good).status_code == 200
    is_problem(limited.http.get("/api/v1/notebooks"), 401, "unauthenticated")


def test_an_owner_has_so_much_room(limited: Served) -> None:
    headers = limited.key("poor", "read", "write")
    url = f"/api/v1/notebooks/{limited.notebook(headers)}/sources"
    assert limited.http.put(f"{url}/a.txt", content=b"a" * 2000, headers=headers).status_code == 202
    problem = is_problem(
        limited.http.put(f"{url}/b.txt", content=b"b" * 2000, headers=headers), 413, "storage_quota_exceeded"
    )
    assert (problem["limit"], problem["used"]) == (3000, 2000)
    # The same bytes again take no room.
    assert limited.http.put(f"{url}/a.txt", content=b"a" * 2000, headers=headers).status_code == 200
    for name in ("c", "d"):
        assert limited.http.put(f"{url}/{name}.txt", content=name.encode(), headers=headers).status_code == 202
    is_problem(limited.http.put(f"{url}/e.txt", content=b"e", headers=headers), 413, "storage_quota_exceeded")
    source = limited.http.get(url, headers=headers).json()["items"][0]["id"]
    assert limited.http.delete(f"/api/v1/sources/{source}", headers=headers).status_code == 202
    assert limited.http.put(f"{url}/e.txt", content=b"e", headers=headers).status_code == 202
    stored = [f for f in limited.book.folder.rglob("blob*") if f.is_file()]
    assert stored


def test_an_owner_may_have_more_room_than_others(limited: Served) -> None:
    headers = limited.key("rich", "read", "write")
    url = f"/api/v1/notebooks/{limited.notebook(headers)}/sources"
    assert limited.http.put(f"{url}/a.txt", content=b"a" * 20_000, headers=headers).status_code == 202


def test_a_full_server_says_so_and_counts_down_again() -> None:
    limiter = Limiter(Limits(in_flight=2))
    limiter.admit()
    limiter.admit()
    with pytest.raises(Overloaded) as caught:
        limiter.admit()
    assert caught.value.details["retry_after"] == 1
    limiter.dismiss()
    limiter.admit()


def test_leaving_twice_counts_once_and_nothing_grows() -> None:
    async def work() -> None:
        limiter = Limiter(Limits(requests=0, concurrent=1))
        for n in range(100):
            one = await limiter.enter(Principal("own_1", "ada", frozenset(), f"key_{n}"))
            one.leave()
            one.leave()
        assert not limiter._active
        await limiter.enter(Principal("own_1", "ada", frozenset(), "key_1"))
        with pytest.raises(RateLimited):
            await limiter.enter(Principal("own_1", "ada", frozenset(), "key_1"))

    asyncio.run(work())


def test_a_minute_slides() -> None:
    async def work() -> None:
        limiter = Limiter(Limits(requests=2, concurrent=0))
        who = Principal("own_1", "ada", frozenset(), "key_1")
        for _ in range(2):
            (await limiter.enter(who)).leave()
        with pytest.raises(SourcebookError) as caught:
            await limiter.enter(who)
        assert 50 <= caught.value.details["retry_after"] <= 60
        assert limiter._counting is not None
        await limiter._counting.storage.reset()
        (await limiter.enter(who)).leave()

    began = time.monotonic()
    asyncio.run(work())
    assert time.monotonic() - began < 60


def test_a_queue_that_is_full_says_when_to_come_back(tmp_path: Any) -> None:
    with Served(tmp_path, {"limits": {"queued": 2}, "jobs": {"workers": 0}}) as server:
        url = f"/api/v1/notebooks/{server.notebook()}/sources"
        for name in ("a", "b"):
            assert server.http.put(f"{url}/{name}.txt", content=name.encode()).status_code == 202
        refused = server.http.put(f"{url}/c.txt", content=b"c")
        is_problem(refused, 429, "queue_full")
        assert int(refused.headers["retry-after"]) > 0
        # In a form each file is told on its own; where none is taken, the answer is the problem.
        is_problem(server.http.post(url, files=[("f", ("c.txt", b"c"))]), 429, "queue_full")
        assert len(server.http.get(url).json()["items"]) == 2


def test_a_full_server_answers_503_and_says_when_to_come_back(tmp_path: Any) -> None:
    waits = Waits()
    with Served(tmp_path, {"limits": {"in_flight": 1}}, (waits,)) as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.http.get, "/api/v1/x/waits/")
        assert waits.there.acquire(timeout=20)
        refused = server.http.get("/api/v1/notebooks")
        is_problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        is_problem(server.http.post("/api/v1/notebooks", json={"title": "b"}), 503, "overloaded")
        assert not (server.book.folder / "audit.log").exists(), "nothing was done, and nobody was denied anything"
        assert server.http.get("/livez").status_code == 200
        waits.go.set()
        assert running.result().status_code == 200
        assert server.http.get("/api/v1/notebooks").status_code == 200
