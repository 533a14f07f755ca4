"""A whole Sourcebook inside a test, without a server: files in, passages and answers out.

    with InProcess(plugins=[my_module]) as book:
        assert book.ingest("note.mine", b"...").state == "ready"
        assert "dawn" in book.search("When does it open?")[0].text
        assert book.ask("When does it open?").citations

It runs on an event loop in a thread of its own, so that tests need no async. The jail, the index and the job queue are
the real ones; the data folder is gone at the end.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.documents import Passage
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Principal
    from sourcebook.sources import Source

T = TypeVar("T")


class Loop:
    """An event loop in a thread: `run` a coroutine on it from any other."""

    def __init__(self, name: str = "sourcebook-test") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 120.0) -> T:
        """The coroutine's result, or what it raised."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def remove(folder: Path, patience: float = 10.0) -> None:
    """Remove a data folder, as soon as no process writes into it any more: the index's ends a moment after us."""
    until = time.monotonic() + patience
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=time.monotonic() < until)
        time.sleep(0.05)


@dataclass
class Answer:
    """An answer that is complete. `events` are all of the run's, as (type, payload)."""

    text: str
    citations: list[dict[str, Any]]
    events: list[tuple[str, dict[str, Any]]] = field(repr=False)


class InProcess:
    """See the module. `plugins` are modules or objects with hooks; `enabled`, installed distributions to load.

    `config` holds sections of the configuration, as in `config={"pipelines": {"default": {"chunker": "mine"}}}`;
    nothing is read from files or the environment.
    """

    book: Sourcebook
    me: Principal
    notebook: Notebook

    def __init__(
        self,
        plugins: Iterable[Any] = (),
        *,
        enabled: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._plugins = tuple(plugins)
        self._config = dict(config or {})
        self._config["plugins"] = {"enabled": list(enabled), **self._config.get("plugins", {})}
        self._folder = Path(tempfile.mkdtemp(prefix="sourcebook-test-"))
        self._loop = Loop()

    def __enter__(self) -> Self:
        try:
            self.run(self._open())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self.book.close())
        finally:
            self._end()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the Sourcebook's own event loop: `book.run(book.book.notebooks.listing(...))`."""
        return self._loop.run(work)

    def ingest(self, name: str, data: bytes, *, media_type: str = "", timeout: float = 60.0) -> Source:
        """A source that is `ready`, or `failed` with its `problem`."""

        async def chunks() -> Any:
            yield data

        async def main() -> Source:
            source_id, _ = await self.book.sources.accept(self.notebook, name, chunks(), media_type=media_type)
            until = time.monotonic() + timeout
            while (source := await self.book.sources.get(self.me, source_id)).state not in ("ready", "failed"):
                if time.monotonic() > until:
                    raise TimeoutError(f"{name} is still {source.state}")
                await asyncio.sleep(0.02)
            return source

        return self.run(main())

    def text(self, source: Source) -> str:
        """The canonical text of a source's document."""

        async def main() -> str:
            document_id = str(source.document_id)
            length = int((await self.book.reading.document(document_id))["length"])
            return await self.book.reading.text(document_id, 0, length)

        return self.run(main())

    def search(self, question: str, *, limit: int | None = None) -> Sequence[Passage]:
        """The best passages, the best first."""
        return self.run(self.book.search(self.me, question, [self.notebook.id], limit=limit)).passages

    def ask(self, question: str, **options: Any) -> Answer:
        """A whole answer. Raises `RuntimeError` with the problem where it failed."""

        async def main() -> Answer:
            run = await self.book.ask(self.me, question, [self.notebook.id], options=options, grace=0.0)
            events = [(frame.event.type, frame.event.payload()) async for frame in run.follow()]
            for kind, payload in events:
                if kind == "error":
                    raise RuntimeError(f"the answer failed: {payload['problem']}")
            done = events[-1][1]
            return Answer(done["text"], done["citations"], events)

        return self.run(main())

    async def _open(self) -> None:
        from sourcebook.app import Sourcebook
        from sourcebook.configuration import load

        storage = {"path": str(self._folder / "data"), **self._config.get("storage", {})}
        retrievers = {"qdrant": {"idle_seconds": 0}, **self._config.get("retrievers", {})}  # its process ends with us
        configuration = load(environ={}, overrides={**self._config, "storage": storage, "retrievers": retrievers})
        self.book = Sourcebook(configuration)
        for plugin in self._plugins:
            self.book.plugins.add(plugin)
        try:
            await self.book.open()
        except BaseException:
            await self.book.close()
            raise
        self.me = await self.book.owners.local()
        self.notebook = await self.book.create_notebook(self.me, "Test")

    def _end(self) -> None:
        self._loop.close()
        remove(self._folder)
