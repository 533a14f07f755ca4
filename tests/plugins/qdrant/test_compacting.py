"""Compaction changes what a search costs, and nothing else: not while it runs, and not when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sourcebook.interfaces import Scope, SearchQuery, Space
from sourcebook.testing.indexes import MINE, NEIGHBOURS, SCOPE, context, point
from sourcebook_plugins.qdrant import Qdrant
from sourcebook_plugins.qdrant.builder import copy_sparse

pytestmark = pytest.mark.timeout(300)
SIZE = 32
WORDS = ["tide", "harbour", "lantern", "pilot", "quay", "ferry", "storm", "signal"]


def rows(first: int, count: int) -> Any:
    return np.random.default_rng(first).standard_normal((count, SIZE)).astype(np.float32)


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[Qdrant]:
    values = {"idle_seconds": 0, "compact_above": 400, **settings}
    index = Qdrant(Qdrant.Settings.model_validate(values))
    await index.open(context(folder))
    try:
        await index.ensure([Space("x", SIZE)])
        yield index
    finally:
        await index.close()


async def fill(index: Qdrant, first: int, count: int, scope: Scope = SCOPE) -> None:
    for at in range(first, first + count, 100):
        n = scope.notebooks[0]
        own = [point(i, f"{WORDS[i % 8]} {WORDS[i % 7]} n{i}", n, f"s-{i // 100}") for i in range(at, at + 100)]
        await index.upsert(scope, own, {"x": rows(at, 100)})


async def state(index: Qdrant) -> dict[str, Any]:
    return await index._call("state")


async def compacted(index: Qdrant, times: int = 1) -> None:
    deadline = time.monotonic() + 240
    while (await state(index))["compactions"] < times:
        assert time.monotonic() < deadline, await state(index)
        await asyncio.sleep(0.05)


async def answers(index: Qdrant) -> list[Any]:
    """The best by vectors; by words the best one and all scores, since others share theirs."""
    found: list[Any] = []
    for i in range(0, 600, 60):
        query = SearchQuery((f"{WORDS[i % 8]} n{i}",), SCOPE, 10, {"x": rows(i - i % 100, 100)[i % 100][None]})
        legs = await index.search(query)
        words, dense = legs["lexical"], legs["dense:x"]
        found.append((words[0].passage_id, [round(h.score, 3) for h in words], [h.passage_id for h in dense]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("graph", [False, True], ids=["scanned", "with a graph"])
def test_a_compacted_shard_finds_the_same(tmp_path: Path, graph: bool) -> None:
    async def run() -> None:
        async with opened(tmp_path, hnsw_above=500 if graph else 0) as index:
            await fill(index, 0, 600)
            await fill(index, 0, 100, Scope(NEIGHBOURS[1:2]))
            before = await answers(index)
            await compacted(index)
            assert await answers(index) == before
            assert await index.count(SCOPE) == 600
            assert await index.count(Scope(NEIGHBOURS[1:2])) == 100
        async with opened(tmp_path) as index:
            assert (await state(index))["compacted"] == 700
            assert await answers(index) == before
            assert [p.name for p in tmp_path.glob("shard*")] == [p.name for p in tmp_path.glob("shard-*")]

    asyncio.run(run())


@pytest.mark.slow
def test_everything_is_answered_meanwhile_and_what_is_written_is_in_the_new_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as index:
            await fill(index, 0, 600)
            longest, searches, at = 0.0, 0, 600
            while not (await state(index))["compactions"]:
                began = time.monotonic()
                await index.search(SearchQuery(("tide",), SCOPE, 5, {"x": rows(0, 1)}))
                longest, searches = max(longest, time.monotonic() - began), searches + 1
                if (tmp_path / "journal").exists() and at < 1000:
                    await fill(index, at, 100)
                    await index.delete(SCOPE, f"s-{at // 100 - 6}")
                    at += 100
                await asyncio.sleep(0.01)
            assert searches > 10
            assert at > 600, "nothing was written while it was built"
            gone = (at - 600) // 100
            assert await index.count(SCOPE) == at - gone * 100
            for source in range(at // 100):
                assert await index.count(SCOPE, f"s-{source}") == (0 if source < gone else 100)
            last = SearchQuery(("?",), SCOPE, 1, {"x": rows(at - 100, 100)[:1]})
            assert (await index.search(last))["dense:x"][0].score > 0.999

    asyncio.run(run())


@pytest.mark.slow
def test_a_kill_while_it_builds_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as index:
            await fill(index, 0, 600)
            while not (tmp_path / "journal").exists():
                await asyncio.sleep(0.01)
            await fill(index, 600, 100)
            pid = index.pid
            os.kill(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.01)
            assert await index.count(SCOPE) == 700
            await index.ensure([Space("x", SIZE)])
            await compacted(index)
            assert await index.count(SCOPE) == 700
        async with opened(tmp_path) as index:
            assert await index.count(SCOPE) == 700
            assert len(list(tmp_path.glob("shard*"))) == 1

    asyncio.run(run())


@pytest.mark.slow
def test_small_shards_are_left_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, compact_above=0) as index:
            await fill(index, 0, 500)
            await asyncio.sleep(4)
            assert (await state(index))["compactions"] == 0

    asyncio.run(run())


def test_holes_are_not_copied(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"begin")
        file.seek(50_000_000)
        file.write(b"end")
        file.truncate(60_000_000)
    copy_sparse(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").stat().st_blocks * 512 < 1_000_000
    (tmp_path / "empty").touch()
    copy_sparse(str(tmp_path / "empty"), str(tmp_path / "c"))
    assert (tmp_path / "c").stat().st_size == 0
    assert MINE.owner_id
