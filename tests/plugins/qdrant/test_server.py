"""The index on a Qdrant server keeps the same contract as the embedded one.

With SOURCEBOOK_TEST_QDRANT_URL set (and SOURCEBOOK_TEST_QDRANT_API_KEY where it wants one) the whole contract runs on
that server. Else it runs on qdrant-client's in-memory mode, which is another implementation of the same API in Python.
That shows that our requests are right and mean the same as those to the embedded index. It cannot show: payload indexes
(they do nothing there), graphs and quantisation, gRPC, authentication, time-outs, shards, replicas and consistency, and
what a server says when it fails; some of that is shown against a made-up server below.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sourcebook.errors import IndexUnavailable, PluginError, StoreError
from sourcebook.interfaces import SearchQuery, Space
from sourcebook.testing.indexes import SCOPE, SPACE, IndexContract, context, point, vectors
from sourcebook_plugins.qdrant import Qdrant
from sourcebook_plugins.qdrant.server import Server

URL = os.environ.get("SOURCEBOOK_TEST_QDRANT_URL", "")
KEY = os.environ.get("SOURCEBOOK_TEST_QDRANT_API_KEY")

# In-memory mode says of every payload index, and of how to search, that it does nothing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


class Lasting:
    """A client whose `close` keeps the memory: a restart of ours is none of the server's."""

    def __init__(self) -> None:
        from qdrant_client import AsyncQdrantClient

        self._client = AsyncQdrantClient(":memory:")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def close(self) -> None:
        pass


class InMemory(Qdrant):
    """One memory a folder, as a server keeps the data of two collections apart."""

    memories: dict[Path, Lasting] = {}  # noqa: RUF012 - shared on purpose: it stands for the server

    folder: Path

    def connect(self) -> Any:
        return self.memories.setdefault(self.folder, Lasting())


def made(folder: Path, **settings: Any) -> Qdrant:
    """An index on the server, or on what stands for it, with a collection of its own."""
    name = "test_" + hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    values = {"url": URL or "http://in-memory.invalid", "api_key": KEY, "collection": name, **settings}
    index = (Qdrant if URL else InMemory)(Qdrant.Settings.model_validate(values))
    if isinstance(index, InMemory):
        index.folder = folder
    return index


class TestServer(IndexContract):
    async def open_index(self, folder: Path) -> Qdrant:
        index = made(folder)
        await index.open(context(folder))
        return index

    def child(self) -> tuple[type[IndexContract], dict[str, Any]]:
        if not URL:
            pytest.skip("what stands for the server lives in the memory of this process")
        return type(self), {}


def check(folder: Path, test: Callable[[Qdrant], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        index = made(folder, **settings)
        try:
            await index.open(context(folder))
            await test(index)
        finally:
            await index.close()

    asyncio.run(run())


def test_both_engines_rank_and_score_alike(tmp_path: Path) -> None:
    texts = ["green tea and tea leaves", "black tea", "coffee beans", "Grüner Tee", "tea, coffee, water", "a cup"]
    rows = [[1, i / 10, 0, 1 - i / 10] for i in range(len(texts))]
    query = SearchQuery(("green tea", "coffee"), SCOPE, 10, vectors([1, 0.2, 0, 0.5]))

    async def legs(index: Qdrant) -> dict[str, list[tuple[str, float]]]:
        await index.ensure([SPACE])
        await index.upsert(SCOPE, [point(i, text) for i, text in enumerate(texts)], vectors(*rows))
        return {k: [(h.passage_id, h.score) for h in hits] for k, hits in (await index.search(query)).items()}

    async def run() -> None:
        embedded = Qdrant(Qdrant.Settings.model_validate({"idle_seconds": 0}))
        (tmp_path / "embedded").mkdir()
        await embedded.open(context(tmp_path / "embedded"))
        server = made(tmp_path)
        await server.open(context(tmp_path))
        try:
            here, there = await legs(embedded), await legs(server)
        finally:
            await embedded.close()
            await server.close()
        assert here.keys() == there.keys()
        for leg, hits in here.items():
            assert [i for i, _ in hits] == [i for i, _ in there[leg]]
            assert [s for _, s in hits] == pytest.approx([s for _, s in there[leg]], abs=1e-4)

    asyncio.run(run())


def test_a_space_with_another_distance_is_refused(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        await index.ensure([Space("x", 3)])
        await index.ensure([Space("x", 3), Space("y", 2, distance="dot")])
        with pytest.raises(PluginError, match="distance cosine"):
            await index.ensure([Space("x", 3, distance="dot")])

    check(tmp_path, test)


def test_a_collection_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        client: Any = index.connect()
        from qdrant_client import models

        config = models.VectorParams(size=2, distance=models.Distance.DOT)
        await client.create_collection("theirs", {"x": config})
        try:
            with pytest.raises(PluginError, match="not made by Sourcebook"):
                await index.ensure([])
        finally:
            await client.delete_collection("theirs")

    check(tmp_path, test, collection="theirs")


def test_shards_replicas_quantisation_and_the_tenant_are_asked_for(tmp_path: Path) -> None:
    asked: list[tuple[str, Any, Any]] = []

    class Watched(Lasting):
        async def create_collection(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(("collection", args, kwargs))
            return await self._client.create_collection(*args, **kwargs)

        async def create_payload_index(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(("index", args, kwargs))
            return await self._client.create_payload_index(*args, **kwargs)

    index = InMemory(
        Qdrant.Settings.model_validate({"url": "http://x", "shards": 3, "replicas": 2, "write_consistency": 2})
    )
    index.folder = tmp_path
    index.memories[tmp_path] = Watched()

    async def run() -> None:
        await index.open(context(tmp_path))
        await index.ensure([SPACE], {"year": "number", "author": "text"})

    asyncio.run(run())
    kwargs = next(k for what, _, k in asked if what == "collection")
    assert (kwargs["shard_number"], kwargs["replication_factor"], kwargs["write_consistency_factor"]) == (3, 2, 2)
    assert kwargs["quantization_config"].scalar.type == "int8"
    settings = Qdrant.Settings.model_validate({"url": "http://x", "quantization": "turbo4"})
    lasting: Any = Watched()
    turbo = Server(lasting, settings, logging.getLogger())._quantization()
    assert (turbo.turbo.bits, turbo.turbo.memory) == ("bits4", "pinned")
    indexed = {args[1]: args[2] for what, args, _ in asked if what == "index"}
    assert indexed["owner"].is_tenant is True
    assert indexed["scope"].is_tenant is None
    assert {"owner", "scope", "source", "generation", "analyzer", "f.year", "f.author"} == set(indexed)
    assert indexed["f.year"] == "float"


async def answering(status: int, seen: list[bytes]) -> asyncio.Server:
    """A server that says the same to everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"status":{"error":"no"},"time":0}'
        head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("status", "error", "transient"),
    [
        (401, IndexUnavailable, False),
        (403, IndexUnavailable, False),
        (503, IndexUnavailable, True),
        (400, StoreError, False),
    ],
)
# The client warns of a key over plain HTTP, also to this machine.
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection:UserWarning")
def test_what_a_server_refuses_is_told_with_what_to_do(status: int, error: type[Exception], transient: bool) -> None:
    seen: list[bytes] = []

    async def run() -> None:
        server = await answering(status, seen)
        port = server.sockets[0].getsockname()[1]
        values = {"url": f"http://127.0.0.1:{port}", "api_key": "sesame"}
        index = Qdrant(Qdrant.Settings.model_validate(values))
        await index.open(context(Path()))
        try:
            with pytest.raises(error) as refused:
                await index.count(SCOPE)
            assert isinstance(refused.value, StoreError)
            assert refused.value.transient is transient
            assert "sesame" not in str(refused.value.problem())
            assert status not in (401, 403) or "api_key" in refused.value.remedy
        finally:
            await index.close()
            server.close()

    asyncio.run(run())
    assert b"api-key: sesame" in seen[0].lower()


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async def run() -> None:
        index = Qdrant(Qdrant.Settings.model_validate({"url": "http://127.0.0.1:9"}))
        await index.open(context(tmp_path))
        try:
            with pytest.raises(IndexUnavailable, match=r"127\.0\.0\.1:9"):
                await index.ensure([])
        finally:
            await index.close()

    asyncio.run(run())


def test_a_url_that_is_none_is_refused_and_the_key_is_never_shown() -> None:
    with pytest.raises(ValidationError, match="http"):
        Qdrant.Settings.model_validate({"url": "localhost:6333"})
    assert "sesame" not in repr(Qdrant.Settings.model_validate({"api_key": "sesame"}))
