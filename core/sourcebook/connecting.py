"""Asks every server that the configuration names whether it is there and does its work, by the cheapest honest call.

Of a model that is one token, of an embedder and a reranker one word, of a store whether it knows us. Nothing is
written, and no data folder is touched. All are asked at once, each within a deadline.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from pydantic import SecretStr

from sourcebook.checkup import Finding
from sourcebook.component_calls import called, model_of
from sourcebook.configuration import Configuration
from sourcebook.database.engine import Database
from sourcebook.database.tables import SCHEMA
from sourcebook.database.upgrade import current
from sourcebook.diagnosis import diagnosed
from sourcebook.documents import Passage
from sourcebook.embeddings import embed
from sourcebook.errors import BlobMissing, SourcebookError, UpstreamError
from sourcebook.http import Http
from sourcebook.interfaces import (
    LLM,
    BlobStore,
    Component,
    ComponentSettings,
    Embedder,
    LLMRequest,
    Message,
    Reranker,
)
from sourcebook.metrics import Metrics
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import Plugins

SECONDS = 10.0
KINDS = ("llms", "embedders", "rerankers", "retrievers", "fetchers", "blob_stores")

_ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WORD = "ping"

Ask = Callable[[], Awaitable[str]]


async def connections(configuration: Configuration, seconds: float = SECONDS) -> list[Finding]:
    """One finding a server, `ok` where it answered; empty where none is configured.

    Of one that did not, `data` has `code` (see `Diagnosis`), `remedy` and `seconds`. Raises `ConfigError` for a
    configuration that is wrong.
    """
    plugins = Plugins(configuration.settings.plugins)
    plugins.load()
    http = Http()
    with tempfile.TemporaryDirectory(prefix="sourcebook-connect-") as folder:
        pipelines = Pipelines(plugins, configuration, Path(folder), http)
        pipelines.check()
        try:
            asked = _everything(configuration, pipelines, http)
            return list(await asyncio.gather(*(_finding(what, ask, seconds) for what, ask in asked)))
        finally:
            await pipelines.close()
            await http.aclose()


def _everything(configuration: Configuration, pipelines: Pipelines, http: Http) -> Sequence[tuple[str, Ask]]:
    settings = configuration.settings
    found: list[tuple[str, Ask]] = []
    if _ADDRESS.match(settings.storage.database) and not settings.storage.database.startswith("sqlite"):
        found.append(("storage.database", partial(_database, settings.storage.database)))
    for kind in KINDS:
        names = sorted({*pipelines.instances(kind), *_wired(configuration, kind)})
        addresses = {name: address_of(pipelines.settings_of(kind, name)) for name in names}
        found += [(f"{kind}.{n}", partial(_component, pipelines, kind, n, a)) for n, a in addresses.items() if a]
    if not settings.limits.counters.startswith("memory://"):
        found.append(("limits.counters", partial(_port, settings.limits.counters)))
    if settings.tracing.endpoint:
        headers = {name: value.get_secret_value() for name, value in settings.tracing.headers.items()}
        found.append(("tracing.endpoint", partial(_collector, settings.tracing.endpoint, headers, http)))
    return found


def _wired(configuration: Configuration, kind: str) -> set[str]:
    """The instances that a pipeline names, configured or not."""
    settings = configuration.settings
    if kind == "blob_stores":
        return {settings.storage.blobs}
    names: set[str] = set()
    for pipeline in settings.pipelines.values():
        named = {
            "llms": pipeline.llm,
            "embedders": (pipeline.embedder,),
            "rerankers": (pipeline.reranker,),
            "retrievers": pipeline.retrievers,
        }
        names |= {name for name in named.get(kind, ()) if name}
    return names


def address_of(settings: ComponentSettings) -> str | None:
    """Where an instance connects to, without credentials; None for one that works on this machine alone."""
    for value in dict(settings).values():
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and _ADDRESS.match(text):
            parts = urlsplit(text)
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return None


async def _finding(what: str, ask: Ask, seconds: float) -> Finding:
    """What became of one question."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(seconds):
            answer = await ask()
    except Exception as error:  # whatever a plugin raises is what its operator has to hear of
        why = diagnosed(error)
        said = error.detail if isinstance(error, SourcebookError) else f"{type(error).__name__}: {error}".rstrip(": ")
        late = isinstance(error, TimeoutError)
        detail = f"{why.words} ({f'{seconds:g} s' if late else said})"
        data = {"code": why.code, "remedy": why.remedy, "seconds": round(time.perf_counter() - began, 2)}
        return Finding(what, False, detail, data)
    spent = round(time.perf_counter() - began, 2)
    return Finding(what, True, f"{answer}, in {spent:.2f} s", {"seconds": spent})


async def _component(pipelines: Pipelines, kind: str, instance: str, address: str) -> str:
    """Open it, have it do a little of what it is for, and close it."""
    component = await pipelines.beside(kind, instance, {})
    try:
        return f"{address} {await _asked(component)}"
    finally:
        await component.close()


async def _asked(component: Component[Any]) -> str:
    """What it did."""
    if isinstance(component, LLM):
        return f"answers as {model_of(component)} ({await _first_delta(component)})"
    if isinstance(component, Embedder):
        vectors = await embed(component, [_WORD], "query")
        sizes = ", ".join(f"{name} {rows.shape[1]}" for name, rows in vectors.items())
        return f"embeds with {model_of(component)} (dimensions: {sizes})"
    if isinstance(component, Reranker):
        passage = Passage("p", "s", "n", "d", "g", 0, 0, len(_WORD), _WORD)
        scores = await component.rerank(_WORD, [passage])
        if len(scores) != 1:
            raise UpstreamError(f"{component.instance} gave {len(scores)} scores for one passage.", transient=False)
        return f"scores with {model_of(component)}"
    await component.ping()
    if isinstance(component, BlobStore) and type(component).ping is Component.ping:
        with suppress(BlobMissing):  # an honest answer
            await component.size(_WORD)
    return "answers"


async def _first_delta(llm: LLM[Any]) -> str:
    """The kind of the first thing that the model says, of one token that it is asked for."""
    request = LLMRequest((Message("user", _WORD),), _WORD, options={"max_tokens": 1})
    async with aclosing(called(llm, request, Metrics())) as deltas:
        async for delta in deltas:
            return type(delta).__name__.lower()
    raise UpstreamError(f"{llm.instance} said nothing.", transient=False)


async def _database(url: str) -> str:
    with tempfile.TemporaryDirectory(prefix="sourcebook-connect-") as folder:
        database = Database(url, Path(folder))
        try:
            async with database.read() as c:
                version = (await c.execute(sa.text("SHOW server_version"))).scalar()
            schema = await current(database)
        finally:
            await database.close()
    where = database.url.render_as_string(hide_password=True)
    return f"{where} is PostgreSQL {version} with schema {schema or 'none yet'} (needed: {SCHEMA})"


async def _port(url: str) -> str:
    """No more than whether something listens there: its protocol is the library's affair."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 6379
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return f"{host}:{port} takes connections"


async def _collector(url: str, headers: dict[str, str], http: Http) -> str:
    """An empty batch, which is a valid one."""
    sent = {**headers, "content-type": "application/x-protobuf"}
    answer = await http.request("POST", url, content=b"", headers=sent)
    if not 200 <= answer.status < 300:
        raise UpstreamError(f"{url} answered {answer.status}.", transient=False, status=answer.status)
    return f"{url} takes traces"
