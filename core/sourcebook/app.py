"""Opens all of it: the one object that the API and the command line hold."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from sourcebook import readiness
from sourcebook.accepting import pieces_of
from sourcebook.answering import Answering, Question
from sourcebook.configuration import Configuration, load
from sourcebook.conversations import Conversations
from sourcebook.database.engine import Database
from sourcebook.database.upgrade import behind, current, prepare
from sourcebook.deletion import Deletion
from sourcebook.dropping import Dropping
from sourcebook.embeddings import Embeddings, import_numpy
from sourcebook.errors import ConfigError, Conflict, InvalidInput, SourcebookError
from sourcebook.explaining import Explanation
from sourcebook.filters import parse
from sourcebook.generations import Retiring
from sourcebook.http import Http
from sourcebook.idempotency import Idempotency
from sourcebook.ingestion import Ingestion
from sourcebook.interfaces import Fetched, Message
from sourcebook.jail import Jail
from sourcebook.jobs import Job, Jobs
from sourcebook.links import Links
from sourcebook.metrics import Metrics
from sourcebook.notebooks import Notebook, Notebooks, Scoped
from sourcebook.notes import Notes
from sourcebook.owners import Owners, Principal
from sourcebook.pages import Pages
from sourcebook.pipelines import Pipelines, jail_limits, preload
from sourcebook.plugins import Plugins
from sourcebook.presence import Presence
from sourcebook.progress import Following
from sourcebook.quotas import Quotas
from sourcebook.reading import Reading
from sourcebook.reindexing import Reindexing
from sourcebook.run import Run
from sourcebook.runs import Runs
from sourcebook.searching import Found, Mode, Searching
from sourcebook.sources import Sources
from sourcebook.specs import Specs
from sourcebook.strays import sweep
from sourcebook.tracing import tracer_of
from sourcebook.turns import Asked
from sourcebook.workers import Worker

if TYPE_CHECKING:
    from sourcebook.tracing_made import OpenTelemetry

log = logging.getLogger(__name__)

_UPGRADE_POLL = 5.0  # seconds


class Sourcebook:
    """`async with Sourcebook(configuration) as book:` opens database, plugins, pipelines, jail and workers.

    `workers=0` answers and accepts without doing any jobs. `mending` opens although stored vectors do not fit their
    embedder any more, as whatever mends that must. Every part is an attribute; nothing is global.
    """

    def __init__(
        self, configuration: Configuration | None = None, *, workers: int | None = None, mending: bool = False
    ) -> None:
        self._mending = mending
        self.configuration = configuration or load()
        self.settings = self.configuration.settings
        self.folder = self.settings.storage.path.expanduser().resolve()
        self._workers = self.settings.jobs.workers if workers is None else workers
        self.metrics = Metrics()
        self.tracer: OpenTelemetry | None = None
        self.plugins = Plugins(self.settings.plugins, self.settings.hook_deadline, metrics=self.metrics)
        self.http = Http()
        self._open = False
        self._waiting: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[int] | None = None

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
        self.tracer = self.tracer or tracer_of(self.settings.tracing)
        self.plugins.load()
        self.database = Database(self.settings.storage.database, self.folder)
        usable = await prepare(self.database)
        self.pipelines = Pipelines(self.plugins, self.configuration, self.folder, self.http, self.metrics)
        await self.pipelines.open()
        self.blobs = await self.pipelines.blob_store()
        self.owners = Owners(self.database)
        self.idempotency = Idempotency(self.database)
        self.notebooks = Notebooks(self.database)
        self.reading = Reading(self.database)
        self.conversations = Conversations(self.database)
        # Who shares an SQLite file is on this machine, where a lock tells the dead.
        presence = Presence(self.folder / "workers") if self.database.sqlite else None
        self.notes = Notes(self.database)
        self.jobs = Jobs(self.database, self.settings.jobs, presence)
        self.sources = Sources(self.database, self.blobs, self.jobs, Quotas(self.settings.limits))
        self.specs = Specs(self.database, self.pipelines)
        await self.specs.check(mending=self._mending)
        self.searching = Searching(
            self.pipelines,
            self.plugins,
            self.reading,
            self.specs,
            self.settings.filters,
            self.settings.cache.queries,
            self.metrics,
        )
        self.links = Links(self.settings.links, self.database)
        await self.links.open()
        self.answering = Answering(self.pipelines, self.plugins, self.searching, self.reading, self.links, self.metrics)
        self.runs = Runs(
            self.settings.runs, self.answering, self.conversations, self.database, self.metrics, self.tracer
        )
        self._wire_jobs(presence)
        self._open = True
        if any(p.embedder for p in self.pipelines):
            await import_numpy()
        await self.plugins.startup(self)
        self.runs.open()
        if usable:
            await self._start_workers()
        else:
            self._waiting = asyncio.create_task(self._wait_for_upgrade(), name="schema")

    def _wire_jobs(self, presence: Presence | None) -> None:
        """What does the jobs, and the jail that it reads files in; nothing is begun yet."""
        jail = self.settings.jail
        self.jail = Jail(
            jail_limits(jail),
            preload(self.plugins),
            jail.slots,
            grants=jail.grants,
            folder=self.folder,
            readable=self.pipelines.jail_files(),
        )
        self.pages = Pages(self.reading, self.sources, self.pipelines, self.blobs, self.jail)
        self._ingestion = Ingestion(
            self.database,
            self.jobs,
            self.sources,
            self.pipelines,
            self.blobs,
            self.jail,
            self.specs,
            self.settings.filters,
            Embeddings(self.database, self.settings.cache.embeddings),
            self.settings.jail,
            self.metrics,
        )
        self._deletion = Deletion(self.database, self.jobs, self.pipelines, self.blobs)
        self._retiring = Retiring(self.database, self.jobs, self.pipelines, self.blobs)
        self._dropping = Dropping(self.database, self.jobs)
        self.reindexing = Reindexing(
            self.database, self.jobs, self.notebooks, self.pipelines, self.specs, self._dropping
        )
        self._worker = Worker(self.jobs, self.database, self._handle, self._failed, presence, self.tracer)

    async def close(self) -> None:
        """Stop the workers, end the runs, close the stores. Idempotent."""
        if self._open:
            self._open = False
            if self._waiting is not None:
                self._waiting.cancel()
            await self._worker.close()
            if self._sweeping is not None:
                self._sweeping.cancel()
                await asyncio.gather(self._sweeping, return_exceptions=True)
            await self.runs.close()
            await self.plugins.shutdown(self)
            await self.jail.close()
        if hasattr(self, "pipelines"):
            await self.pipelines.close()
        if hasattr(self, "database"):
            await self.database.close()
        await self.http.aclose()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
            self.tracer = None

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

    async def add_url(
        self, notebook: Notebook, url: str, *, tags: Sequence[str] = (), metadata: Mapping[str, Any] | None = None
    ) -> tuple[str, bool]:
        """Fetch an address and accept what it gives. Raises `FetchError`."""
        with tempfile.TemporaryFile(dir=self.folder) as file:
            fetched = await self._fetch(url, file)
            return await self.sources.accept(
                notebook,
                fetched.name,
                pieces_of(file),
                media_type=fetched.media_type,
                url=fetched.url,
                tags=tags,
                metadata={**fetched.metadata, **(metadata or {})},
            )

    async def refresh(self, principal: Principal, source_id: str) -> str | None:
        """Fetch a source's address again. The job that reads new bytes; None where they are those that it has.

        Raises `FetchError`, and `Conflict` (code `no_url`) for a source that came from no address.
        """
        source = await self.sources.get(principal, source_id, "write")
        if source.url is None:
            raise Conflict(
                "This source was uploaded, so there is no address to fetch it from again.",
                code="no_url",
                remedy="Upload the new file.",
            )
        with tempfile.TemporaryFile(dir=self.folder) as file:
            fetched = await self._fetch(source.url, file)
            return await self.sources.replace(
                principal,
                source_id,
                pieces_of(file),
                media_type=fetched.media_type,
                url=fetched.url,
                metadata=fetched.metadata,
            )

    async def _fetch(self, url: str, file: BinaryIO) -> Fetched:
        """What stands at an address, in `file`, at its beginning."""
        fetcher = await self.pipelines.fetcher(url.partition(":")[0].lower())
        fetched = await fetcher.fetch(url, file)
        file.seek(0)
        return fetched

    async def search(
        self,
        principal: Principal,
        question: str,
        notebook_ids: Sequence[str],
        *,
        limit: int | None = None,
        sources: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        weights: Mapping[str, float] | None = None,
        explain: bool = False,
        scoped: Scoped | None = None,
    ) -> Found:
        """The best passages of these notebooks. Raises `NotFound` for one that the principal may not read.

        `scoped` is what `Notebooks.scope` has just said of them, where the caller has asked it already.

        `filters` is what a client writes (`sourcebook.filters`); the rest is as in `Searching.search`.
        """
        scope, notebooks = scoped or await self.notebooks.scope(principal, notebook_ids)
        return await self.searching.search(
            question,
            scope,
            notebooks,
            limit=limit,
            sources=sources,
            filters=filters,
            mode=mode,
            weights=weights,
            explanation=Explanation() if explain else None,
        )

    async def ask(
        self,
        principal: Principal,
        text: str,
        notebook_ids: Sequence[str],
        *,
        conversation_id: str | None = None,
        replaces: str | None = None,
        again: str | None = None,
        history: Sequence[Message] | None = None,
        sources: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        mode: Mode | None = None,
        weights: Mapping[str, float] | None = None,
        options: Mapping[str, Any] | None = None,
        instructions: str = "",
        origin: str = "",
        grace: float | None = None,
        scoped: Scoped | None = None,
    ) -> Run:
        """Begin an answer; follow the run that is returned. All checks are made before anything starts.

        `replaces` and `again`: see `Asked`; `scoped`: see `search`. `history` is what was said before, where the client
        and not the conversation tells it.
        """
        if not notebook_ids:
            raise InvalidInput("A question needs at least one notebook to be answered from.")
        scope, notebooks = scoped or await self.notebooks.scope(principal, notebook_ids)
        if filters:
            parse(filters, self.settings.filters)
        if history is None:
            history = []
            if conversation_id is not None:
                await self.conversations.get(principal, conversation_id)
                history = await self.conversations.history(conversation_id, before=replaces or again)
        chosen: dict[str, Any] = {"sources": sources, "filters": filters, "limit": limit}
        chosen |= {"mode": mode, "weights": dict(weights or {})}
        question = Question(text, scope, notebooks, history, options=options or {}, instructions=instructions, **chosen)
        how = {"notebooks": list(notebook_ids), "options": dict(options or {}), **chosen}
        details = {name: value for name, value in how.items() if value}
        asked = Asked(text, list(notebook_ids), details, conversation_id, replaces, again, origin)
        return await self.runs.start(principal, question, asked, grace=grace)

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
        return await readiness.ready(self)

    async def _start_workers(self) -> None:
        await self.jobs.bury()
        if self._workers:
            await self.reindexing.automatic()
            age = self.settings.storage.stray_age
            self._sweeping = asyncio.create_task(sweep(self.database, self.blobs, age), name="strays")
        self._worker.start(self._workers)

    async def _wait_for_upgrade(self) -> None:
        """What was here before can be read; work that writes new columns waits for them."""
        while problem := behind(await current(self.database)):
            log.warning("%s", problem)
            await asyncio.sleep(_UPGRADE_POLL)
        await self._start_workers()

    async def _handle(self, job: Job) -> None:
        await self._doing()[job.kind][0](job)

    async def _failed(self, job: Job, error: SourcebookError) -> None:
        await self._doing()[job.kind][1](job, error)

    def _doing(self) -> dict[str, tuple[Callable[[Job], Awaitable[None]], Callable[..., Awaitable[None]]]]:
        """Who does the jobs of a kind, and what becomes of one that fails."""
        return {
            "ingest": (self._ingestion.ingest, self._ingestion.failed),
            "delete": (self._deletion.delete, self._deletion.failed),
            "retire": (self._retiring.retire, self._retiring.failed),
            "reindex": (self.reindexing.build, self.reindexing.failed),
            "drop": (self._dropping.drop, self._dropping.failed),
        }

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"storage.path: {self.folder} cannot be made: {error.strerror}.",
                remedy="Name a folder that this user may write.",
            ) from error
