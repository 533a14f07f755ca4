"""A call that is sent again under its Idempotency-Key is not done again."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import Response

from sourcebook.database.engine import now
from sourcebook.database.tables import idempotency_keys, notebooks
from sourcebook.hookspecs import hookimpl
from sourcebook.hosts import RouteHost
from sourcebook_api.sse import EventStream

from .support import Served, events, is_problem


class Slow:
    """A plugin whose route waits until it is let go, and one that streams."""

    __name__ = "slow"

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls = 0

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        import asyncio

        async def waits() -> dict[str, int]:
            self.calls += 1
            self.begun.set()
            await asyncio.to_thread(self.go.wait, 20)
            return {"calls": self.calls}

        async def streams() -> Response:
            self.calls += 1

            async def frames() -> Any:
                yield b"id: run_1:1\nevent: done\ndata: {}\n\n"

            answer = EventStream(frames(), 15)
            answer.headers["content-location"] = "/api/v1/runs/run_1/events"
            return answer

        async def large() -> Response:
            self.calls += 1
            return Response(b"x" * (5 * 1024 * 1024), 201)

        for path, route in (("/waits", waits), ("/streams", streams), ("/large", large)):
            host.router.add_api_route(path, route, methods=["POST"])


@pytest.fixture(scope="module")
def slow() -> Slow:
    return Slow()


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory, slow: Slow) -> Any:
    with Served(tmp_path_factory.mktemp("again"), plugins=(slow,)) as server:
        yield server


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def make(server: Served, headers: dict[str, str], title: str = "Once", **more: Any) -> httpx.Response:
    return server.http.post("/api/v1/notebooks", json={"title": title, **more}, headers=headers)


def count(server: Served) -> int:
    async def counted() -> int:
        async with server.book.database.read() as c:
            return int((await c.execute(sa.select(sa.func.count()).select_from(notebooks))).scalar_one())

    return server.run(counted())


def test_the_same_call_again_gets_the_same_answer_and_makes_nothing(again: Served) -> None:
    headers, before = key(), count(again)
    first, second = make(again, headers), make(again, headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert [second.headers[n] for n in ("location", "etag", "content-type")] == [
        first.headers[n] for n in ("location", "etag", "content-type")
    ]
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert count(again) == before + 1
    assert make(again, {}).json()["id"] != first.json()["id"]


def test_the_same_key_with_another_request_is_refused(again: Served) -> None:
    headers = key()
    notebook = make(again, headers).json()["id"]
    is_problem(make(again, headers, "Twice"), 422, "idempotency_key_reused")
    text = {"name": "a.md", "text": "A"}
    other = again.http.post(f"/api/v1/notebooks/{notebook}/sources/text", json=text, headers=headers)
    is_problem(other, 422, "idempotency_key_reused")


def test_what_made_nothing_leaves_the_key_free(again: Served) -> None:
    headers = key()
    is_problem(make(again, headers, pipeline="none"), 422, "no_such_pipeline")
    assert make(again, headers).status_code == 201


def test_while_the_first_is_served_the_second_is_told_to_wait(again: Served, slow: Slow) -> None:
    headers, url = key(), "/api/v1/x/slow/waits"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(again.http.post, url, headers=headers)
        assert slow.begun.wait(20)
        problem = is_problem(again.http.post(url, headers=headers), 409, "idempotency_in_progress")
        assert problem["retry_after"] == 1
        slow.go.set()
        assert first.result().json() == {"calls": 1}
    assert again.http.post(url, headers=headers).json() == {"calls": 1}
    assert slow.calls == 1


def test_twenty_at_once_make_one(again: Served) -> None:
    headers, before = key(), count(again)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: make(again, headers), range(20)))
    assert {a.status_code for a in answers} <= {201, 409}
    assert len({a.json()["id"] for a in answers if a.status_code == 201}) == 1
    assert count(again) == before + 1


def test_a_form_may_come_with_another_boundary(again: Served) -> None:
    notebook, headers = again.notebook(), key()
    url = f"/api/v1/notebooks/{notebook}/sources"
    answers = [again.http.post(url, files=[("f", ("a.md", b"# A" * 5000))], headers=headers) for _ in range(2)]
    assert answers[0].request.headers["content-type"] != answers[1].request.headers["content-type"]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["items"][0]["created"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    other = again.http.post(url, files=[("f", ("b.md", b"# A" * 5000))], headers=headers)
    is_problem(other, 422, "idempotency_key_reused")


def test_a_stream_is_not_kept_but_found_again(again: Served, slow: Slow) -> None:
    headers, calls = key(), slow.calls
    with again.http.stream("POST", "/api/v1/x/slow/streams", headers=headers) as answer:
        assert [e.type for e in events(answer)] == ["done"]
    second = again.http.post("/api/v1/x/slow/streams", headers=headers)
    assert (second.status_code, second.headers["location"]) == (303, "/api/v1/runs/run_1/events")
    assert slow.calls == calls + 1


def test_a_streamed_question_is_asked_once_and_its_run_is_found_again(again: Served) -> None:
    headers = key()
    asked = {"question": "When does the harbour close?", "notebooks": [again.notebook()], "stream": True}
    first = again.http.post("/api/v1/chat", json=asked, headers=headers)
    run_id = first.text.partition("id: ")[2].partition(":")[0]
    assert first.headers["content-location"] == f"/api/v1/runs/{run_id}/events"
    second = again.http.post("/api/v1/chat", json=asked, headers=headers)
    assert (second.status_code, second.headers["location"]) == (303, first.headers["content-location"])
    assert again.http.get(second.headers["location"]).text == first.text
    assert len(again.http.get("/api/v1/conversations").json()["items"]) == 1


def test_an_answer_that_is_too_large_is_not_kept_and_not_made_twice(again: Served, slow: Slow) -> None:
    headers, calls = key(), slow.calls
    assert len(again.http.post("/api/v1/x/slow/large", headers=headers).content) == 5 * 1024 * 1024
    is_problem(again.http.post("/api/v1/x/slow/large", headers=headers), 409, "idempotency_not_kept")
    assert slow.calls == calls + 1


def test_a_key_is_its_owners(keyed: Served) -> None:
    headers = key()
    made = [make(keyed, {**headers, **keyed.key(owner, "read", "write")}).json()["id"] for owner in ("carla", "dora")]
    assert made[0] != made[1]


@pytest.mark.parametrize("bad", ["", "a b", "x" * 256, "é"])
def test_a_key_is_visible_ascii(again: Served, bad: str) -> None:
    answer = again.http.post("/api/v1/notebooks", json={"title": "x"}, headers=[(b"Idempotency-Key", bad.encode())])
    is_problem(answer, 422, "idempotency_key_invalid")


def test_a_secret_is_never_kept_for_a_replay(tmp_path: Any) -> None:
    with Served(tmp_path) as server:
        body = {"owner": "ada", "permissions": ["read"]}
        is_problem(server.http.post("/api/v1/keys", json=body, headers=key()), 422, "idempotency_not_possible")


def test_a_day_later_the_key_is_free_and_a_dead_call_blocks_it_for_half_a_minute(again: Served) -> None:
    headers = key()
    first = make(again, headers).json()["id"]

    def aged(by: timedelta, **values: Any) -> None:
        async def work() -> None:
            mine = idempotency_keys.c.key == headers["Idempotency-Key"]
            async with again.book.database.write() as c:
                await c.execute(idempotency_keys.update().where(mine).values(created_at=now() - by, **values))

        again.run(work())

    aged(timedelta(hours=23))
    assert make(again, headers).json()["id"] == first
    aged(timedelta(hours=25))
    assert make(again, headers).json()["id"] != first
    aged(timedelta(seconds=5), status=None)
    is_problem(make(again, headers), 409, "idempotency_in_progress")
    aged(timedelta(seconds=31), status=None)
    assert make(again, headers).status_code == 201
