"""A revoked key opens nothing more, and what it had open ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Response

from sourcebook.database.tables import keys
from sourcebook.errors import StoreError, Unauthenticated
from sourcebook.hookspecs import hookimpl
from sourcebook.hosts import RouteHost
from sourcebook_api import gate
from sourcebook_api.revoking import StillValid
from sourcebook_api.sse import EventStream

from .support import Served, is_problem


class Endless:
    """A plugin with a stream that does not end by itself."""

    __name__ = "endless"

    def __init__(self) -> None:
        self.closed = 0

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        async def streams() -> Response:
            async def frames() -> Any:
                try:
                    while True:
                        yield b": still here\n\n"
                        await asyncio.sleep(0.05)
                finally:
                    self.closed += 1

            return EventStream(frames(), 15)

        host.router.add_api_route("/", streams)


@pytest.fixture(scope="module")
def endless() -> Endless:
    return Endless()


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory, endless: Endless) -> Iterator[Served]:
    before, gate._RECHECK = gate._RECHECK, 0.3
    try:
        with Served(tmp_path_factory.mktemp("streaming"), plugins=(endless,)) as server:
            server.key("root", "admin")
            yield server
    finally:
        gate._RECHECK = before


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_an_open_stream_ends_with_its_key(streaming: Served, endless: Endless, how: str) -> None:
    headers = streaming.key("ada", "read")
    newest = streaming.run(streaming.book.owners.list_keys())[-1].id
    closed, lines = endless.closed, 0
    with streaming.http.stream("GET", "/api/v1/x/endless/", headers=headers) as answer:
        for line in answer.iter_lines():
            lines += bool(line)
            if line and lines == 20:
                if how == "revoked":
                    streaming.run(streaming.book.owners.revoke(newest))
                else:
                    streaming.run(_expire(streaming, newest))
    assert lines > 20
    assert endless.closed == closed + 1
    is_problem(streaming.http.get("/api/v1/notebooks", headers=headers), 401, "unauthenticated")


async def _expire(server: Served, key_id: str) -> None:
    async with server.book.database.write() as c:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await c.execute(keys.update().where(keys.c.id == key_id).values(expires_at=past))


def test_a_good_key_streams_on(streaming: Served) -> None:
    headers = streaming.key("ada", "read")
    lines = 0
    with streaming.http.stream("GET", "/api/v1/x/endless/", headers=headers) as answer:
        for line in answer.iter_lines():
            lines += bool(line)
            if line and lines == 40:  # two seconds, so several looks at the key
                break
    assert lines == 40


def test_a_database_that_does_not_answer_ends_nothing() -> None:
    async def work() -> int:
        looked = 0

        async def broken() -> None:
            nonlocal looked
            looked += 1
            raise StoreError("gone")

        async with StillValid(broken, lambda: True, 0.01) as key:
            await asyncio.sleep(0.2)
        assert not key.revoked
        return looked

    assert asyncio.run(work()) > 1


def test_a_cancel_that_is_not_its_own_is_passed_on() -> None:
    async def refused() -> None:
        raise Unauthenticated("no")

    async def work() -> None:
        async with StillValid(refused, lambda: False, 0.01):
            await asyncio.sleep(10)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_the_last_use_of_a_key_is_stored_to_the_minute(streaming: Served) -> None:
    headers = streaming.key("ada", "read")

    async def used() -> Any:
        async with streaming.book.database.read() as c:
            return (await c.execute(sa.select(keys.c.used_at).order_by(keys.c.id.desc()).limit(1))).scalar()

    assert streaming.run(used()) is None
    streaming.http.get("/api/v1/notebooks", headers=headers)
    first = streaming.run(used())
    assert first is not None
    streaming.http.get("/api/v1/notebooks", headers=headers)
    assert streaming.run(used()) == first
    admin = streaming.key("root", "admin")
    listed = streaming.http.get("/api/v1/keys", params={"limit": 200}, headers=admin).json()["items"]
    assert [k["used_at"] is not None for k in listed if k["owner"] == "ada"][-1]
