"""So many requests are worked on at a time: the others wait in turn, and waiting for others is no work."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sourcebook.settings import Limits
from sourcebook.testing.llm_server import DIMENSIONS, FakeLLMServer, Hold, Reply, json_reply, stream_of
from sourcebook_api.places import Overloaded, Place, Places

from .support import Served, is_problem
from .test_limits import Waits

PATIENT = 60.0


def places(working: int = 1, patience: float = PATIENT) -> Places:
    return Places(Limits(working=working, patience=patience))


async def started(work: Any) -> asyncio.Task[Place]:
    """A task that has come as far as it gets."""
    task: asyncio.Task[Place] = asyncio.ensure_future(work)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


def test_as_many_as_there_is_room_for_are_worked_on_and_the_others_come_in_order() -> None:
    async def main() -> None:
        room = places(2)
        first, second = await room.take("a"), await room.take("a")
        waiting = [await started(room.take("a")) for _ in range(3)]
        assert [task.done() for task in waiting] == [False] * 3
        assert room.waiting == 3
        for place, expected in ((first, [True, False, False]), (second, [True, True, False])):
            place.leave()
            place.leave()  # twice is once
            await asyncio.sleep(0)
            assert [task.done() for task in waiting] == expected
        assert (room.taken, room.waiting) == (2, 1)

    asyncio.run(main())


def test_many_of_one_caller_delay_anothers_by_one() -> None:
    async def main() -> None:
        room, order = places(), list[str]()
        place = await room.take("a")

        async def one(who: str) -> None:
            mine = await room.take(who)
            order.append(who)
            mine.leave()

        waiting = [await started(one(who)) for who in "aaaaabbc"]
        place.leave()
        await asyncio.gather(*waiting)
        assert order == list("abcabaaa")
        assert (room.taken, room.waiting) == (0, 0)

    asyncio.run(main())


def test_a_line_that_does_not_get_on_is_not_made_longer_and_others_are() -> None:
    async def main() -> None:
        room = places(patience=0.01)
        place = await room.take("a")
        first = await started(room.take("a"))
        await asyncio.sleep(0.02)
        with pytest.raises(Overloaded) as caught:
            await room.take("a")
        assert caught.value.details["retry_after"] >= 1
        other = await started(room.take("b"))
        assert not other.done()
        place.leave()
        (await first).leave()
        (await other).leave()
        (await room.take("a")).leave()
        assert (room.taken, room.waiting) == (0, 0)

    asyncio.run(main())


def test_who_waits_for_others_gives_room_and_goes_on_without_asking() -> None:
    async def main() -> None:
        room = places()
        place = await room.take("a")
        waiting = await started(room.take("b"))
        place.rest()
        place.rest()  # two things at once: it goes on when both have come
        second = await waiting
        place.back()
        assert room.taken == 1
        place.back()
        assert room.taken == 2
        third = await started(room.take("b"))
        second.leave()
        await asyncio.sleep(0)
        assert not third.done()
        place.leave()
        (await third).leave()
        assert room.taken == 0

    asyncio.run(main())


@pytest.mark.parametrize("order", ["rest leave back", "leave rest back", "rest back leave", "leave leave"])
def test_however_it_ends_a_place_is_given_back_once(order: str) -> None:
    async def main() -> None:
        room = places()
        place = await room.take("a")
        for step in order.split():
            getattr(place, step)()
        assert room.taken == 0

    asyncio.run(main())


def test_who_is_cancelled_in_the_line_holds_nobody_up() -> None:
    async def main() -> None:
        room = places()
        place = await room.take("a")
        gone, given, last = [await started(room.take("a")) for _ in range(3)]
        gone.cancel()
        await asyncio.wait([gone])
        assert room.waiting == 2
        place.leave()
        given.cancel()  # it was given the place, and has not yet heard of it
        await asyncio.wait([given])
        (await last).leave()
        assert (room.taken, room.waiting) == (0, 0)

    asyncio.run(main())


def test_a_reload_lets_those_in_for_whom_there_is_room_now() -> None:
    async def main() -> None:
        room = places()
        await room.take("a")
        waiting = [await started(room.take("a")) for _ in range(3)]
        room.change(Limits(working=3))
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True, True, False]
        room.change(Limits(working=0))
        await asyncio.sleep(0)
        assert waiting[-1].done()

    asyncio.run(main())


def test_a_client_that_takes_its_time_keeps_no_place() -> None:
    async def main() -> None:
        room, sent = places(), asyncio.Event()
        place = await room.take("a")
        slow = asyncio.ensure_future(place.client(sent.wait()))
        other = await room.take("b")
        sent.set()
        await slow
        assert room.taken == 2
        other.leave()
        place.leave()
        assert room.taken == 0

    asyncio.run(main())


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer, waits: Waits) -> Iterator[Served]:
    """A server that works on one request at a time."""
    asks = {"use": "openai", "base_url": llm.url, "model": "fake"}
    settings = {
        "limits": {"working": 1, "patience": PATIENT},
        "llms": {"fake": asks},
        "embedders": {"fake": {**asks, "dimensions": DIMENSIONS}},
        "pipelines": {
            "model": {"extends": "default", "llm": ["fake"]},
            "embedded": {"extends": "default", "embedder": "fake"},
        },
    }
    with Served(tmp_path_factory.mktemp("narrow"), settings, (waits,)) as server:
        yield server
        assert settled(server)


def places_of(server: Served) -> Places:
    gate: Any = server.server._app.middleware_stack
    while not hasattr(gate, "_limiter"):
        gate = gate.app
    found: Places = gate._limiter.places
    return found


def settled(server: Served) -> bool:
    """Whether every place comes back: an answer may be sent a moment before its request has ended."""
    room = places_of(server)
    for _ in range(400):
        if (room.taken, room.waiting) == (0, 0):
            return True
        time.sleep(0.01)
    return False


def is_served(server: Served) -> bool:
    return server.http.get("/api/v1/notebooks", timeout=20).status_code == 200


def test_what_finds_no_place_waits_and_what_watches_or_relieves_does_not(narrow: Served, waits: Waits) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(narrow.http.get, "/api/v1/x/waits/")
        assert waits.there.acquire(timeout=20)
        waiting = pool.submit(narrow.http.get, "/api/v1/notebooks")
        assert narrow.http.get("/livez").status_code == 200
        assert narrow.http.get("/metrics").status_code == 200
        is_problem(narrow.http.post("/api/v1/runs/run_none/cancel"), 404, "not_found")
        assert not waiting.done()
        waits.go.set()
        assert (running.result().status_code, waiting.result().status_code) == (200, 200)


def test_too_long_a_line_is_503_with_when_to_come_back(tmp_path_factory: pytest.TempPathFactory, waits: Waits) -> None:
    settings = {"limits": {"working": 1, "patience": 0.01}}
    with Served(tmp_path_factory.mktemp("hasty"), settings, (waits,)) as server, ThreadPoolExecutor(2) as pool:
        running = pool.submit(server.http.get, "/api/v1/x/waits/")
        assert waits.there.acquire(timeout=20)
        waiting = pool.submit(server.http.get, "/api/v1/notebooks")
        while places_of(server).waiting == 0:
            time.sleep(0.01)
        time.sleep(0.02)
        refused = server.http.get("/api/v1/notebooks")
        is_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert "connection" not in refused.headers, "a refused client need not connect anew"
        waits.go.set()
        assert (running.result().status_code, waiting.result().status_code) == (200, 200)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_waits_for_its_model_keeps_no_place(narrow: Served, llm: FakeLLMServer, stream: bool) -> None:
    notebook = narrow.notebook(pipeline="model")
    narrow.source(notebook)
    hold = Hold()
    llm.script(Reply([hold, *stream_of(["Ten [1]."])]))
    with ThreadPoolExecutor(1) as pool:
        asked = {"question": "When does the harbour close?", "notebooks": [notebook], "stream": stream}
        running = pool.submit(narrow.http.post, "/api/v1/chat", json=asked)
        assert hold.reached.wait(20)
        assert is_served(narrow)
        hold.release()
        assert "Ten [1]." in running.result().text


def test_a_search_that_waits_for_another_server_keeps_no_place(narrow: Served, llm: FakeLLMServer) -> None:
    notebook = narrow.notebook(pipeline="embedded")
    narrow.source(notebook)
    hold, vector = Hold(), [0.1] * DIMENSIONS
    data = {"object": "list", "model": "fake", "data": [{"object": "embedding", "index": 0, "embedding": vector}]}
    whole = json_reply(data)
    llm.script(Reply([hold, *whole.steps], 200, whole.headers), path="/v1/embeddings")
    with ThreadPoolExecutor(1) as pool:
        asked = {"question": "harbour", "notebooks": [notebook]}
        running = pool.submit(narrow.http.post, "/api/v1/search", json=asked)
        assert hold.reached.wait(20)
        assert is_served(narrow)
        hold.release()
        assert running.result().status_code == 200


def test_a_stream_that_only_tells_keeps_no_place(narrow: Served) -> None:
    notebook = narrow.notebook()
    with narrow.http.stream("GET", f"/api/v1/notebooks/{notebook}/events") as answer:
        assert answer.status_code == 200
        assert is_served(narrow)


def test_an_upload_that_dribbles_in_keeps_no_place(narrow: Served) -> None:
    url = f"/api/v1/notebooks/{narrow.notebook()}/sources/a.txt"
    head = f"PUT {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345"
    with socket.create_connection(("127.0.0.1", narrow.port), 20) as connection:
        connection.sendall(head.encode())
        assert is_served(narrow)
        connection.sendall(b"67890")
        assert connection.recv(65536).startswith(b"HTTP/1.1 202")


def test_a_download_that_nobody_takes_keeps_no_place(narrow: Served) -> None:
    source = narrow.source(narrow.notebook(), "big.txt", b"All is well.\n" * 2_000_000)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", narrow.port))
        connection.sendall(f"GET /api/v1/sources/{source['id']}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert is_served(narrow)


def test_a_refused_request_without_a_large_body_keeps_its_connection(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Served(tmp_path_factory.mktemp("refusing")) as server:
        key = server.key("ada", "read")["Authorization"]
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for method, body in (("GET", None), ("POST", b'{"title": "A"}')):
            connection.request(method, "/api/v1/notebooks", body)
            refused = connection.getresponse()
            assert (refused.status, refused.getheader("connection")) == (401, None)
            refused.read()
            kept = connection.sock
            assert kept is not None
            connection.request("GET", "/api/v1/notebooks", headers={"Authorization": key})
            answer = connection.getresponse()
            assert (answer.status, connection.sock) == (200, kept)
            answer.read()
        connection.close()
