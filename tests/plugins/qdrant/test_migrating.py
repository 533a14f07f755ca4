"""From the embedded Qdrant to a server, here in-memory mode, while the old one answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sourcebook.errors import Conflict, StoreError
from sourcebook.interfaces import Scope, SearchQuery, Space
from sourcebook.migrating import migrate
from sourcebook.testing.indexes import NEIGHBOURS, SCOPE, context, point
from sourcebook_api.cli import cli
from sourcebook_plugins.qdrant import Qdrant

from .test_server import Lasting, made

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

TENANTS = (SCOPE, Scope(NEIGHBOURS[1:2]))
SPACES = [Space("x", 4), Space("model/with:odd name", 3, distance="dot")]


def word(number: int) -> str:
    """One that no other number has."""
    return "q" + "".join("abcdefghij"[int(digit)] for digit in str(number))


def numbers(count: int, dimensions: int) -> Any:
    return np.random.default_rng(count).standard_normal((count, dimensions)).astype(np.float32)


async def opened(folder: Path) -> tuple[Qdrant, Qdrant]:
    (folder / "embedded").mkdir()
    source = Qdrant(Qdrant.Settings.model_validate({"idle_seconds": 0}))
    await source.open(context(folder / "embedded"))
    await source.ensure(SPACES)
    for scope in TENANTS:
        points = [point(i, f"tea {word(i)}", scope.notebooks[0], f"source-{i % 7}") for i in range(150)]
        await source.upsert(scope, points, {s.name: numbers(150, s.dimensions) for s in SPACES})
    target = made(folder)
    await target.open(context(folder))
    return source, target


async def answers(index: Qdrant) -> list[Any]:
    found = []
    for scope in TENANTS:
        for i in (5, 70, 149):
            rows = {s.name: numbers(150, s.dimensions)[i : i + 1] for s in SPACES}
            legs = await index.search(SearchQuery((f"tea {word(i)}",), scope, 5, rows))
            found.append({leg: [h.passage_id for h in hits] for leg, hits in legs.items() if leg != "lexical"})
            found.append({"lexical": [legs["lexical"][0].passage_id]})
    return found


def test_every_point_moves_with_its_vectors_and_what_is_written_meanwhile_too(tmp_path: Path) -> None:
    async def run() -> None:
        source, target = await opened(tmp_path)
        late = point(1000, "a late cup")
        told: list[int] = []
        meanwhile: list[asyncio.Task[Any]] = []

        def report(count: int) -> None:
            told.append(count)
            if len(told) == 2:
                meanwhile.append(asyncio.create_task(source.upsert(SCOPE, [late], None)))
                meanwhile.append(asyncio.create_task(source.delete(SCOPE, "source-3")))

        try:
            before = await answers(source)
            stale = point(77, "left by an earlier run", source="source-99")
            await target.ensure(SPACES)
            await target.upsert(SCOPE, [stale], None)
            done = await migrate(source, target, report)
            await asyncio.gather(*meanwhile)
            done = await migrate(source, target)
            assert await source.count(SCOPE) == await target.count(SCOPE) == 150 - 21 + 1
            assert done.points == 280
            assert await target.count(SCOPE, "source-99") == 0
            assert (await migrate(source, target)).written == 0
            assert await answers(target) == await answers(source)
            assert before != []
            assert (await source.search(SearchQuery(("late cup",), SCOPE, 1)))["lexical"][0].passage_id == late.id
            assert (await target.search(SearchQuery(("late cup",), SCOPE, 1)))["lexical"][0].passage_id == late.id
        finally:
            await source.close()
            await target.close()

    asyncio.run(run())


def test_a_difference_is_found_and_an_index_that_never_rests_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        source, target = await opened(tmp_path)
        try:
            await migrate(source, target)
            honest = target.restore
            page = [p async for points in source.dump() for p in points]
            wrong = [type(p)(p.id, p.payload, {**p.data, "sparse": [[1], [1.0]]}) for p in page]
            await honest(wrong)
            with pytest.raises(StoreError) as differs:
                await migrate(source, target)
            assert differs.value.problem_code == "migration_differs"

            async def forgets(points: Any) -> None:
                if len(points) > 1:
                    await honest(points[:-1])

            target.restore = forgets  # type: ignore[method-assign]
            await target.remove([p.id for p in page])
            with pytest.raises(Conflict) as never:
                await migrate(source, target)
            assert never.value.problem_code == "index_changing"
        finally:
            await source.close()
            await target.close()

    asyncio.run(run())


def test_the_command_moves_the_index_and_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Lasting()
    monkeypatch.setattr("sourcebook_plugins.qdrant.index.connect", lambda settings: memory)
    config = tmp_path / "sourcebook.toml"
    config.write_text(f'[storage]\npath = "{tmp_path}/data"\n[retrievers.qdrant]\nidle_seconds = 0\n')
    (tmp_path / "tides.md").write_text("# Tides\n\nHigh water at Tolvane is at six.")

    def sourcebook(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["--config", str(config), *arguments])

    assert sourcebook("ingest", "Notes", str(tmp_path / "tides.md")).exit_code == 0
    done = sourcebook("migrate-index", "--to", "http://qdrant.invalid:6333", "--json")
    assert done.exit_code == 0, done.output
    assert '"points": 1' in done.stdout
    assert 'url = "http://qdrant.invalid:6333"' in done.stderr
    config.write_text(f'[storage]\npath = "{tmp_path}/data"\n[retrievers.qdrant]\nurl = "http://qdrant.invalid:6333"\n')
    found = sourcebook("search", "Notes", "high water")
    assert "High water at Tolvane is at six." in found.stdout
