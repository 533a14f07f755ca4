"""Opens all of it: the one object that the API and the command line hold."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from sourcebook import readiness
from sourcebook.accepting import pieces_of
from sourcebook.answering import Answering, Question
from sourcebook.configuration import Configuration, load
from sourcebook.conversations import Conversations
from sourcebook.database.engine import Database
from sourcebook.database.upgrade import mismatch, prepare
from sourcebook.errors import ConfigError, Conflict, InvalidInput, SourcebookError
from sourcebook.explaining import Explanation
from sourcebook.filters import parse
from sourcebook.http import Http
from sourcebook.idempotency import Idempotency
from sourcebook.interfaces import Fetched, Message
from sourcebook.jail import Jail
from sourcebook.jobs import Job, Jobs
from sourcebook.links import Links
from sourcebook.metrics import Metrics
from sourcebook.notebooks import Notebook, Notebooks, Scoped
from sourcebook.notes import Notes
from sourcebook.owners import Owners, Principal
from sourcebook.pages import Pages
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import Plugins
from sourcebook.presence import Presence
from sourcebook.progress import Following
from sourcebook.quotas import Quotas
from sourcebook.reading import Reading
from sourcebook.reindexing import Reindexing
from sourcebook.reloading import Reloaded, Reloading
from sourcebook.run import Run
from sourcebook.runs import Runs
from sourcebook.searching import Found, Mode, Searching
from sourcebook.sources import Sources
from sourcebook.specs import Specs
from sourcebook.strays import sweep
from sourcebook.tracing import tracer_of
from sourcebook.turns import Asked
from sourcebook.wiring import Wiring, Wirings
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
        self.workers = self.settings.jobs.workers if workers is None else workers
        self.metrics = Metrics()
        self.tracer: OpenTelemetry | None = None
        self.plugins = Plugins(self.settings.plugins, self.settings.hook_deadline, metrics=self.metrics)
        self.http = Http()
        self.reloading = Reloading(self)
        self._open = False
        self._waiting: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[int] | None = None

    @property
    def is_open(self) -> bool:
        """Whether `open` has succeeded and `close` was not called since."""
        return self._open

    # Of the configuration that serves now. Who awaits more than once of these takes them of one `wirings.used()`.

    @property
    def pipelines(self) -> Pipelines:
        """Its pipelines."""
        return self.wirings.current.pipelines

    @property
    def specs(self) -> Specs:
        """The index specs that notebooks have pinned."""
        return self.wirings.current.specs

    @property
    def searching(self) -> Searching:
        """Its searches."""
        return self.wirings.current.searching

    @property
    def answering(self) -> Answering:
        """Its answers."""
        return self.wirings.current.answering

    @property
    def links(self) -> Links:
        """Its links to citations."""
        return self.wirings.current.links

    @property
    def jail(self) -> Jail:
        """Where it reads files."""
        return self.wirings.current.jail

    @property
    def pages(self) -> Pages:
        """Its pictures of pages."""
        return self.wirings.current.pages

    @property
    def reindexing(self) -> Reindexing:
        """Its reindexing."""
        return self.wirings.current.reindexing

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
        pipelines = self._pipelines = Pipelines(
            self.plugins, self.configuration, self.folder, self.http, metrics=self.metrics
        )
        await pipelines.open()
        self.blobs = await pipelines.blob_store()
        self.owners = Owners(self.database)
        self.idempotency = Idempotency(self.database)
        self.notebooks = Notebooks(self.database)
        self.reading = Reading(self.database)
        self.conversations = Conversations(self.database)
        # Who shares an SQLite file is on this machine, where a lock tells the dead.
        presence = Presence(self.folder / "workers") if self.database.sqlite else None
        self.notes = Notes(self.database)
        self.jobs = Jobs(self.database, self.settings.jobs, presence)
        self.quotas = Quotas(self.settings.limits)
        self.sources = Sources(self.database, self.blobs, self.jobs, self.quotas)
        first = Wiring(self, self.configuration, pipelines)
        await first.open(mending=self._mending)
        self.wirings = Wirings(first)
        several = self.settings.server.workers > 1
        self.runs = Runs(
            self.settings.runs, self.wirings, self.conversations, self.database, self.metrics, several, self.tracer
        )
        self._worker = Worker(self.jobs, self.database, self._handle, self._failed, presence, self.tracer)
        self._open = True
        await self.plugins.startup(self)
        self.runs.open()
        if usable:
            await self._start_workers()
        else:
            self._waiting = asyncio.create_task(self._wait_for_upgrade(), name="schema")

    async def close(self) -> None:
        """Stop the workers, end the runs, close the stores. Idempotent."""
        await self.reloading.close()
        if self._open:
            self._open = False
            await self.stop_working()
            await self.runs.close()
            await self.plugins.shutdown(self)
        if hasattr(self, "wirings"):
            await self.wirings.close()
        elif hasattr(self, "_pipelines"):
            await self._pipelines.close()
        if hasattr(self, "database"):
            await self.database.close()
        await self.http.aclose()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
            self.tracer = None

    async def stop_working(self) -> None:
        """Take no job any more, and hand back those that are being done: others take them up at once. Idempotent."""
        if self._waiting is not None:
            self._waiting.cancel()
        await self._worker.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)

    async def reload(self) -> Reloaded:
        """Read the configuration again, and go over to it whole. Raises, with nothing changed: see `Reloading`."""
        return await self.reloading.reload()

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
        with self.wirings.used() as wiring:
            fetcher = await wiring.pipelines.fetcher(url.partition(":")[0].lower())
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
        with self.wirings.used() as wiring:
            return await wiring.searching.search(
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
        if self.workers:
            await self.reindexing.automatic()
            age = self.settings.storage.stray_age
            self._sweeping = asyncio.create_task(sweep(self.database, self.blobs, age), name="strays")
        self._worker.start(self.workers)

    async def _wait_for_upgrade(self) -> None:
        """What was here before can be read; work that writes new columns waits for them."""
        while problem := await mismatch(self.database):
            log.warning("%s", problem)
            await asyncio.sleep(_UPGRADE_POLL)
        await self._start_workers()

    async def _handle(self, job: Job) -> None:
        with self.wirings.used() as wiring:
            await wiring.doing[job.kind][0](job)

    async def _failed(self, job: Job, error: SourcebookError) -> None:
        with self.wirings.used() as wiring:
            await wiring.doing[job.kind][1](job, error)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"storage.path: {self.folder} cannot be made: {error.strerror}.",
                remedy="Name a folder that this user may write.",
            ) from error
