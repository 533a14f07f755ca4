"""Opens all of it: the one object that the API and the command line hold."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sourcebook.answering import Answering, Question
from sourcebook.configuration import Configuration, load
from sourcebook.conversations import Conversations
from sourcebook.database.engine import Database
from sourcebook.database.upgrade import behind, current, prepare
from sourcebook.deletion import Deletion
from sourcebook.embeddings import import_numpy
from sourcebook.errors import ConfigError, InvalidInput, SourcebookError
from sourcebook.http import Http
from sourcebook.ingestion import Ingestion
from sourcebook.jail import Jail, JailLimits
from sourcebook.jobs import Job, Jobs
from sourcebook.notebooks import Notebook, Notebooks
from sourcebook.owners import Owners, Principal
from sourcebook.pipelines import Pipelines, preload
from sourcebook.plugins import Plugins
from sourcebook.presence import Presence
from sourcebook.progress import Following
from sourcebook.reading import Reading
from sourcebook.runs import Run, Runs
from sourcebook.searching import Found, Searching
from sourcebook.sources import Sources
from sourcebook.workers import Worker

log = logging.getLogger(__name__)

_CHUNK = 256 * 1024
_UPGRADE_POLL = 5.0  # seconds


class Sourcebook:
    """`async with Sourcebook(configuration) as book:` opens database, plugins, pipelines, jail and workers.

    `workers=0` answers and accepts without doing any jobs. Every part is an attribute; nothing is global.
    """

    def __init__(self, configuration: Configuration | None = None, *, workers: int | None = None) -> None:
        self.configuration = configuration or load()
        self.settings = self.configuration.settings
        self.folder = self.settings.storage.path.expanduser().resolve()
        self._workers = self.settings.jobs.workers if workers is None else workers
        self.plugins = Plugins(self.settings.plugins, self.settings.hook_deadline)
        self.http = Http()
        self._open = False
        self._waiting: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether `open` has succeeded and `close` was not called since."""
        return self._open

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open every part. Raises the `SourcebookError` that says which one cannot, and what to do."""
        self._make_folder()
        self.plugins.load()
        self.database = Database(self.settings.storage.database, self.folder)
        usable = await prepare(self.database)
        self.pipelines = Pipelines(self.plugins, self.configuration, self.folder, self.http)
        await self.pipelines.open()
        self.blobs = await self.pipelines.blob_store()
        self.owners = Owners(self.database)
        self.notebooks = Notebooks(self.database)
        self.reading = Reading(self.database)
        self.conversations = Conversations(self.database)
        # Who shares an SQLite file is on this machine, where a lock tells the dead.
        presence = Presence(self.folder / "workers") if self.database.sqlite else None
        self.jobs = Jobs(self.database, self.settings.jobs, presence)
        self.sources = Sources(self.database, self.blobs, self.jobs)
        self.searching = Searching(self.pipelines, self.plugins, self.reading, self.settings.filters)
        self.answering = Answering(self.pipelines, self.plugins, self.searching, self.reading)
        self.runs = Runs(self.settings.runs, self.answering, self.conversations)
        self.jail = Jail(self._jail_limits(), preload(self.plugins), self.settings.jail.slots)
        self._ingestion = Ingestion(
            self.database, self.jobs, self.sources, self.pipelines, self.blobs, self.jail, self.settings.filters
        )
        self._deletion = Deletion(self.database, self.jobs, self.pipelines, self.blobs)
        self._worker = Worker(self.jobs, self.database, self._handle, self._failed, presence)
        self._open = True
        if any(p.embedder for p in self.pipelines):
            await import_numpy()
        await self.plugins.startup(self)
        if usable:
            await self._start_workers()
        else:
            self._waiting = asyncio.create_task(self._wait_for_upgrade(), name="schema")

    async def close(self) -> None:
        """Stop the workers, end the runs, close the stores. Idempotent."""
        if self._open:
            self._open = False
            if self._waiting is not None:
                self._waiting.cancel()
            await self._worker.close()
            await self.runs.close()
            await self.plugins.shutdown(self)
            await self.jail.close()
        if hasattr(self, "pipelines"):
            await self.pipelines.close()
        if hasattr(self, "database"):
            await self.database.close()
        await self.http.aclose()

    # What the API and the command line both do.

    async def create_notebook(
        self,
        principal: Principal,
        title: str,
        *,
        pipeline: str = "default",
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Notebook:
        """A notebook on a pipeline of the settings. Raises `ConfigError` (code `pipeline_gone`) for an unknown one."""
        spec = self.pipelines[pipeline].spec
        return await self.notebooks.create(
            principal, title, pipeline=pipeline, spec=spec, description=description, metadata=metadata
        )

    async def add_url(self, notebook: Notebook, url: str) -> tuple[str, bool]:
        """Fetch an address and accept what it gives. Raises `FetchError`."""
        fetcher = await self.pipelines.fetcher(url.partition(":")[0].lower())
        with tempfile.TemporaryFile() as file:
            fetched = await fetcher.fetch(url, file)
            file.seek(0)
            return await self.sources.accept(
                notebook,
                fetched.name,
                _chunks(file),
                media_type=fetched.media_type,
                url=fetched.url,
                metadata=fetched.metadata,
            )

    async def search(
        self,
        principal: Principal,
        question: str,
        notebook_ids: Sequence[str],
        *,
        limit: int | None = None,
        sources: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> Found:
        """The best passages of these notebooks. Raises `NotFound` for one that the principal may not read.

        `filters` is what a client writes (`sourcebook.filters`); `InvalidInput` (code `filter_invalid`) where wrong.
        """
        scope, notebooks = await self.notebooks.scope(principal, notebook_ids)
        return await self.searching.search(question, scope, notebooks, limit=limit, sources=sources, filters=filters)

    async def ask(
        self,
        principal: Principal,
        text: str,
        notebook_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        sources: Sequence[str] | None = None,
        limit: int | None = None,
        options: Mapping[str, Any] | None = None,
        grace: float | None = None,
    ) -> Run:
        """Begin an answer; follow the run that is returned. All checks are made before anything starts."""
        if not notebook_ids:
            raise InvalidInput("A question needs at least one notebook to be answered from.")
        scope, notebooks = await self.notebooks.scope(principal, notebook_ids)
        history = []
        if conversation_id is not None:
            await self.conversations.get(principal, conversation_id)
            history = await self.conversations.history(conversation_id)
        question = Question(text, scope, notebooks, history, sources, limit, dict(options or {}))
        return await self.runs.start(principal, question, conversation_id=conversation_id, grace=grace)

    async def delete_owner(self, name: str) -> dict[str, Any]:
        """Remove an owner with everything that is theirs, and wait until it is gone: what was, by table.

        Needs workers, here or elsewhere. Raises `NotFound`.
        """
        job_id = await self.sources.delete_owner(owner_id := await self.owners.find(name))
        job = await self.jobs.get(job_id, owner_id)
        async for seen in Following(self.database, self.jobs).job(job):
            log.info("deleting the owner %s: %s", name, seen.state)
        return await self.owners.deletion(str(job.payload["deletion_id"]))

    async def ready(self) -> dict[str, str]:
        """Part -> `ok` or what is wrong with it, for `/readyz`."""
        state = {"database": "ok", "index": "ok", "plugins": "ok"}
        try:
            state["database"] = behind(await current(self.database)) or "ok"
        except SourcebookError as error:
            state["database"] = error.detail
        for index in self.pipelines.indexes:
            try:
                await index.ensure(())
            except SourcebookError as error:
                state["index"] = f"{index.instance}: {error.detail}"
        failed = [f"{i.name}: {i.reason}" for i in self.plugins.infos.values() if i.state == "failed"]
        if failed:
            state["plugins"] = "; ".join(failed)
        return state

    async def _start_workers(self) -> None:
        await self.jobs.bury()
        self._worker.start(self._workers)

    async def _wait_for_upgrade(self) -> None:
        """What was here before can be read; work that writes new columns waits for them."""
        while problem := behind(await current(self.database)):
            log.warning("%s", problem)
            await asyncio.sleep(_UPGRADE_POLL)
        await self._start_workers()

    async def _handle(self, job: Job) -> None:
        await {"ingest": self._ingestion.ingest, "delete": self._deletion.delete}[job.kind](job)

    async def _failed(self, job: Job, error: SourcebookError) -> None:
        await {"ingest": self._ingestion.failed, "delete": self._deletion.failed}[job.kind](job, error)

    def _jail_limits(self) -> JailLimits:
        jail = self.settings.jail
        return JailLimits(
            wall_seconds=jail.wall, cpu_seconds=jail.cpu, memory=jail.memory, output=jail.output, mode=jail.mode
        )

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"storage.path: {self.folder} cannot be made: {error.strerror}.",
                remedy="Name a folder that this user may write.",
            ) from error


async def _chunks(file: Any) -> AsyncIterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    """A local file's bytes, for `Sources.accept`."""
    with path.open("rb") as file:
        async for chunk in _chunks(file):
            yield chunk
