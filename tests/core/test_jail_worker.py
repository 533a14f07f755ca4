"""Parsers with a process of their own that outlives the document: one at a time, confined but for what is granted."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sourcebook.confinement import JailLimits
from sourcebook.errors import LimitExceeded, ParserDied
from sourcebook.jail import ComponentRef, Jail
from sourcebook.settings import Grant

from .test_jail import HERE, descendants

MODEL = ComponentRef("jail_parsers:Model", {}, "worker", "model")
WORDS = ComponentRef("jail_parsers:Words", {"size": 50})

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is left of a process is read from /proc")


class Worker:
    """A jail and a document to ask it about."""

    def __init__(self, folder: Path, **grant: Any) -> None:
        self.path = folder / "document"
        self.jail = Jail(JailLimits(), search_path=[HERE], grants={"model": Grant(**grant)})

    async def ask(self, text: str, parser: ComponentRef = MODEL, **options: Any) -> list[str]:
        """Process id, how many documents it has read, what came of it."""
        self.path.write_text(text)
        return await self._asked(self.path, parser, **options)

    async def _asked(self, path: Path, parser: ComponentRef, **options: Any) -> list[str]:
        parsed = await self.jail.parse(path, name="a", media_type="text/x-test", parser=parser, **options)
        return parsed.segments[0].text.split(" ", 2)


def with_worker(folder: Path, test: Callable[[Worker], Awaitable[None]], **grant: Any) -> None:
    async def main() -> None:
        before = descendants()  # servers of other tests
        worker = Worker(folder, **grant)
        try:
            await asyncio.wait_for(test(worker), 60)
        finally:
            await worker.jail.close()
        assert descendants() <= before, "a closed jail leaves no process"

    asyncio.run(main())


def test_one_process_reads_many_documents_and_is_built_once(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        first, second = await worker.ask("nothing"), await worker.ask("nothing")
        assert first[0] == second[0]
        assert (first[1], second[1]) == ("1", "2")
        image = await worker.jail.render(
            worker.path, name="a", media_type="text/x-test", parser=MODEL, page=1, boxes=[]
        )
        assert image.endswith(b"2"), "pages are drawn there too"

    with_worker(tmp_path, test)


def test_documents_have_their_turn_one_by_one_and_are_cut_there(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        answers = await asyncio.gather(*(worker.ask("nothing", chunker=WORDS) for _ in range(5)))
        assert len({pid for pid, *_ in answers}) == 1
        assert sorted(int(count) for _, count, _ in answers) == [1, 2, 3, 4, 5]

    with_worker(tmp_path, test)


def test_it_is_replaced_after_so_many_documents(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        answers = [await worker.ask("nothing") for _ in range(5)]
        assert [count for _, count, _ in answers] == ["1", "2", "1", "2", "1"]
        assert len({pid for pid, *_ in answers}) == 3

    with_worker(tmp_path, test, recycle=2)


def test_a_death_fails_that_document_alone(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        before = await worker.ask("nothing")
        with pytest.raises(ParserDied, match="SIGKILL"):
            await worker.ask("die")
        with pytest.raises(ParserDied, match="ValueError: not this one"):
            await worker.ask("fail")
        after = await worker.ask("nothing")
        assert after[0] != before[0]
        assert after[1] == "2", "an exception does not cost the process"

    with_worker(tmp_path, test)


def test_one_that_hangs_is_killed_and_the_next_is_read(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        with pytest.raises(LimitExceeded) as caught:
            await worker.ask("hang")
        assert caught.value.details["what"] == "time"
        assert (await worker.ask("nothing"))[1] == "1"

    with_worker(tmp_path, test, wall=1.5)


def test_a_cancelled_document_ends_the_process(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        before = descendants()
        pid = int((await worker.ask("nothing"))[0])
        assert pid in descendants() - before
        task = asyncio.ensure_future(worker.ask("hang"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pid not in descendants()
        assert (await worker.ask("nothing"))[1] == "1"

    with_worker(tmp_path, test)


def test_its_memory_is_limited(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        with pytest.raises(LimitExceeded) as caught:
            await worker.ask("memory")
        assert caught.value.details["what"] == "memory"

    with_worker(tmp_path, test, memory=512 << 20)


@pytest.mark.parametrize("granted", [False, True])
def test_network_folders_and_environment_are_there_where_they_are_granted(tmp_path: Path, granted: bool) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "weights").write_text("heavy")
    grant = {"network": True, "read": [models], "environment": {"MODEL": "big"}, "threads": 2} if granted else {}

    async def test(worker: Worker) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            said = [
                (await worker.ask(what))[2]
                for what in (
                    f"connect {port}",
                    f"look {models / 'weights'}",
                    "variable MODEL",
                    "variable OMP_NUM_THREADS",
                    f"look {tmp_path / 'document'}",
                )
            ]
        refused = "PermissionError"
        assert said == (
            ["connected", "heavy", "big", "2", refused] if granted else [refused, refused, "None", "1", refused]
        )

    with_worker(tmp_path, test, **grant)


def test_instances_have_processes_of_their_own(tmp_path: Path) -> None:
    async def test(worker: Worker) -> None:
        other = ComponentRef(MODEL.target, {}, "worker", "other")
        one, two = await worker.ask("nothing"), await worker.ask("nothing", other)
        assert one[0] != two[0]

    with_worker(tmp_path, test)
