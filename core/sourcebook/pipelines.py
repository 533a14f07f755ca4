"""Builds what the settings name: component instances, and the pipelines wired from them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import ValidationError

from sourcebook import choosing, settings
from sourcebook.choosing import Candidate
from sourcebook.component_calls import watched
from sourcebook.config_errors import config_error, raise_all, without_booleans
from sourcebook.configuration import Configuration
from sourcebook.errors import ConfigError, PluginError, SourcebookError, StoreError, UnsupportedType
from sourcebook.filters import BUILT_IN
from sourcebook.hanging import HELD, freed, overrun
from sourcebook.http import Http
from sourcebook.interfaces import (
    LLM,
    BlobStore,
    Component,
    ComponentSettings,
    Context,
    Embedder,
    Fetcher,
    Index,
    Parser,
    Reranker,
    Retriever,
    Space,
)
from sourcebook.jail import ComponentRef, JailLimits
from sourcebook.metrics import Metrics
from sourcebook.mistakes import Mistakes
from sourcebook.plugins import Plugins
from sourcebook.sharing import Shared

log = logging.getLogger(__name__)
C = TypeVar("C", bound=Component[Any])


@dataclass(frozen=True)
class Pipeline:
    """A wiring with its open components. `spec` is what an index spec stores: what decides how passages are cut."""

    name: str
    settings: settings.Pipeline
    chunker: ComponentRef
    embedder: Embedder[Any] | None
    retrievers: tuple[Retriever[Any], ...]
    reranker: Reranker[Any] | None
    llms: tuple[LLM[Any], ...]
    spec: Mapping[str, Any]

    @property
    def indexes(self) -> list[Index[Any]]:
        """The retrievers that store: ingestion writes to each."""
        return [r for r in self.retrievers if isinstance(r, Index)]

    @property
    def spaces(self) -> tuple[Space, ...]:
        """What the embedder writes; none for lexical retrieval."""
        return self.embedder.spaces if self.embedder else ()


class Pipelines:
    """Every pipeline of the settings, with its components built once and shared by name.

    What `before` has open with the same class and settings is taken over until `settle` says that all is built: both
    use it then, and it is closed with the later of them.
    """

    def __init__(
        self,
        plugins: Plugins,
        configuration: Configuration,
        data: Path,
        http: Http,
        before: Pipelines | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._plugins = plugins
        self._origins = configuration.origins
        self._settings = configuration.settings
        self._data = data
        self._http = http
        self._before = before
        self._open: dict[tuple[str, str], Shared[Component[Any]]] = {}
        self._opening = asyncio.Lock()
        self._closed = False
        self._pipelines: dict[str, Pipeline] = {}
        self._candidates: dict[str, Candidate] = {}
        self.opened: list[str] = []
        """What was built anew, as `llms.fast`."""

    async def open(self) -> None:
        """Build and open everything that is named. Raises `ConfigError` or `PluginError` naming the instance."""
        self.check()
        for name, wiring in self._settings.pipelines.items():
            self._pipelines[name] = await self._build(name, wiring)
        for pipeline in self._pipelines.values():
            for index in pipeline.indexes:
                await index.ensure(pipeline.spaces, {**self._settings.filters, **BUILT_IN})

    def settle(self) -> None:
        """What is asked for from now on is built here."""
        self._before = None

    async def close(self) -> list[str]:
        """Close every component that nobody else uses, and name them; one that fails leaves none of the others open."""
        self._closed = True
        held, self._open = self._open, {}
        return [f"{kind}.{name}" for (kind, name), one in reversed(held.items()) if await one.let_go()]

    async def _end(self, component: Component[Any]) -> None:
        try:
            await component.close()
        except Exception:  # a plugin's close must not hide the others'
            log.exception("%s did not close", component.instance)

    def check(self) -> None:
        """Validate every instance and wiring without opening anything. Raises one error for all that is wrong."""
        raise_all(self.mistakes())

    def mistakes(self, told: Collection[str] = ()) -> list[SourcebookError]:
        """All that is wrong with instances, wirings and plugins, as far as it does not hang on keys that are `told`."""
        return Mistakes(self._settings, self._origins, self._plugins, self.resolve).all(told)

    def jail_files(self) -> list[Path]:
        """Files that parsers and chunkers read beside their documents, by their instances' settings."""
        found: list[Path] = []
        for kind in ("parsers", "chunkers"):
            for instance in getattr(self._settings, kind):
                cls, ref = self.resolve(kind, instance)
                model: type[ComponentSettings] = cls.Settings
                found += model.model_validate(ref.settings).files()
        return found

    def __getitem__(self, name: str) -> Pipeline:
        """The open pipeline; raises `ConfigError` where a notebook names one that is gone."""
        try:
            return self._pipelines[name]
        except KeyError:
            known = ", ".join(sorted(self._pipelines))
            raise ConfigError(f"There is no pipeline {name!r}; there are: {known}.", code="pipeline_gone") from None

    def __iter__(self) -> Any:
        return iter(self._pipelines.values())

    @property
    def indexes(self) -> list[Index[Any]]:
        """Every open index, once."""
        return [one.thing for one in self._open.values() if isinstance(one.thing, Index)]

    async def blob_store(self) -> BlobStore[Any]:
        """The one that `[storage] blobs` names."""
        return await self.component("blob_stores", self._settings.storage.blobs, cast(type[BlobStore[Any]], BlobStore))

    async def fetcher(self, scheme: str) -> Fetcher[Any]:
        """The fetcher for a URL scheme, third-party before built-in. Raises `UnsupportedType`."""
        classes: dict[str, type[Any]] = self._plugins.classes["fetchers"]
        for name in sorted(classes, key=partial(self._plugins.is_built_in, "fetchers")):
            if scheme in classes[name].schemes:
                return await self.component("fetchers", name, cast(type[Fetcher[Any]], Fetcher))
        raise UnsupportedType(f"No plugin fetches {scheme}: addresses.", remedy="Use http or https, or add a fetcher.")

    def parsers_for(
        self, name: str, media_type: str, choice: Mapping[str, Sequence[str]], head: bytes = b""
    ) -> list[Candidate]:
        """The parsers of a file, the one to try first first; `head` is the file's first bytes, where they are at hand.

        Raises `UnsupportedType` with what is installed.
        """
        classes: dict[str, type[Parser[Any]]] = self._plugins.classes["parsers"]
        is_built_in = partial(self._plugins.is_built_in, "parsers")
        names = choosing.order(classes, is_built_in, name, media_type, choice, head)
        if not names:
            raise choosing.unsupported(name, media_type, classes.values())
        listed = {instance for instances in choice.values() for instance in instances}
        found: list[Candidate] = []
        for candidate in map(self.candidate, names):
            # A class that the pipeline lists with settings of its own is not asked again without them.
            if candidate.instance in listed or candidate.cls not in {c.cls for c in found}:
                found.append(candidate)
        return found

    def parser_for(
        self, name: str, media_type: str, choice: Mapping[str, Sequence[str]], head: bytes = b"", served: str = ""
    ) -> Candidate:
        """The parser that is tried first, or the one that `served`: the identity that its document carries."""
        found = self.parsers_for(name, media_type, choice, head)
        return next((c for c in found if c.identity == served), found[0])

    def candidate(self, instance: str) -> Candidate:
        """One parser by its instance's name. Raises as `resolve` does."""
        if (known := self._candidates.get(instance)) is not None:
            return known
        cls, ref = self.resolve("parsers", instance)
        info = self._plugins.owner("parsers", cls.name)
        origin = "" if info is None or info.built_in else f"{info.distribution} {info.version}".strip()
        made = self._candidates[instance] = Candidate(instance, cls, ref, origin)
        return made

    def resolve(self, kind: str, instance: str) -> tuple[type[Any], ComponentRef]:
        """The class and validated settings of an instance. Raises `ConfigError` with file and key, or `PluginError`."""
        table = dict(getattr(self._settings, kind).get(instance, {}))
        cls = self._plugins.component(kind, str(table.pop("use", instance)))
        validated = self._validated(cls, table, f"{kind}.{instance}.")
        target = f"{cls.__module__}:{cls.__qualname__}"
        isolation: Literal["jail", "worker"] = cls.isolation if kind == "parsers" else "jail"
        safe = _memory_safe(cls, validated)
        return cls, ComponentRef(target, validated.model_dump(mode="json"), isolation, instance, safe)

    def settings_of(self, kind: str, instance: str) -> ComponentSettings:
        """The validated settings of an instance, with its secrets. Raises as `resolve` does."""
        table = dict(getattr(self._settings, kind).get(instance, {}))
        cls = self._plugins.component(kind, str(table.pop("use", instance)))
        return self._validated(cls, table, f"{kind}.{instance}.")

    def reference(self, kind: str, name: str, table: Mapping[str, Any]) -> ComponentRef:
        """A class by its name with these settings. Raises `PluginError` or `ConfigError`."""
        cls = self._plugins.component(kind, name)
        validated = self._validated(cls, table, f"{kind}.{name}.")
        target, safe = f"{cls.__module__}:{cls.__qualname__}", _memory_safe(cls, validated)
        return ComponentRef(target, validated.model_dump(mode="json"), memory_safe=safe)

    def instances(self, kind: str) -> list[str]:
        """The instances of a kind that the settings configure."""
        return list(getattr(self._settings, kind))

    def parser_identities(self) -> set[str]:
        """What a document may carry that is read today: of every class by its name, of every configured instance."""
        names = dict.fromkeys((*self._plugins.classes["parsers"], *self._settings.parsers))
        return {self.candidate(instance).identity for instance in names}

    async def component(self, kind: str, instance: str, interface: type[C]) -> C:
        """The open component called `instance`, built when it is first asked for."""
        async with self._opening:  # some are asked for by requests, several at once
            found = self._open.get((kind, instance))
            if found is None:
                found = await self._made(kind, instance)
                if self._closed:
                    await found.let_go()
                    raise StoreError("The configuration was reloaded meanwhile.", code="reloaded", retry_after=1)
                self._open[kind, instance] = found
        if not isinstance(found.thing, interface):
            raise ConfigError(f"{kind}.{instance} is not a {interface.__name__}.")
        return found.thing

    async def _made(self, kind: str, instance: str) -> Shared[Component[Any]]:
        table = dict(getattr(self._settings, kind).get(instance, {}))
        cls = self._plugins.component(kind, str(table.pop("use", instance)))
        given = self._validated(cls, table, f"{kind}.{instance}.")
        there = self._before._open.get((kind, instance)) if self._before else None
        if there and type(there.thing) is cls and there.thing.settings == given:
            return there.hold()
        made: Component[Any] = cls(given, instance)
        await self._start(kind, instance, made)
        watched(made, kind, self._metrics)
        self.opened.append(f"{kind}.{instance}")
        return Shared(made, self._end)

    async def beside(self, kind: str, instance: str, changes: Mapping[str, Any]) -> Component[Any]:
        """Another component with an instance's settings but for these, which replaces nothing; the caller closes it."""
        table = {**getattr(self._settings, kind).get(instance, {}), **changes}
        cls = self._plugins.component(kind, str(table.pop("use", instance)))
        found: Component[Any] = cls(self._validated(cls, table, f"{kind}.{instance}."), instance)
        await self._start(kind, instance, found)
        return found

    async def _start(self, kind: str, instance: str, component: Component[Any]) -> None:
        folder = self._data / kind / instance
        folder.mkdir(parents=True, exist_ok=True)
        seconds = self._settings.plugins.open_deadline
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                context = Context(logging.getLogger(f"sourcebook.{kind}.{instance}"), folder, self._http)
                await freed(component.open(context), seconds)
        except BaseException as error:  # whatever a plugin's open raises is told with its name
            await self._end(component)
            if isinstance(error, TimeoutError) and (deadline.expired() or str(error) == HELD):
                raise overrun(f"{kind}.{instance} did not open: it", seconds, "open_deadline") from error
            if isinstance(error, SourcebookError):
                error.detail = f"{kind}.{instance} did not open: {error.detail}"
                error.args = (error.detail,)
            elif isinstance(error, Exception):
                raise PluginError(f"{kind}.{instance} did not open: {type(error).__name__}: {error}") from error
            raise

    def _validated(self, cls: type[Any], table: Mapping[str, Any], prefix: str) -> ComponentSettings:
        model: type[ComponentSettings] = cls.Settings
        try:
            return model.model_validate(without_booleans(table, model))
        except ValidationError as error:
            raise config_error(error, model, self._origins, prefix) from error

    async def _build(self, name: str, wiring: settings.Pipeline) -> Pipeline:
        chunker_class, chunker = self.resolve("chunkers", wiring.chunker)
        embedder = await self._maybe("embedders", wiring.embedder, cast(type[Embedder[Any]], Embedder))
        reranker = await self._maybe("rerankers", wiring.reranker, cast(type[Reranker[Any]], Reranker))
        retrievers = [
            await self.component("retrievers", r, cast(type[Retriever[Any]], Retriever)) for r in wiring.retrievers
        ]
        llms = [await self.component("llms", n, cast(type[LLM[Any]], LLM)) for n in wiring.llm]
        spec: dict[str, Any] = {
            "chunker": {"name": chunker_class.name, "version": chunker_class.version, "settings": chunker.settings},
            "embedder": embedder.identity if embedder else "",
            "spaces": [[s.name, s.kind, s.dimensions, s.distance] for s in (embedder.spaces if embedder else ())],
            "indexes": sorted(r.instance for r in retrievers if isinstance(r, Index)),
            "hints": {"embedder": wiring.embedder},
        }
        if wiring.parsers:
            spec["parsers"] = wiring.model_dump(mode="json")["parsers"]
        return Pipeline(name, wiring, chunker, embedder, tuple(retrievers), reranker, tuple(llms), spec)

    async def _maybe(self, kind: str, name: str, interface: type[C]) -> C | None:
        return await self.component(kind, name, interface) if name else None


def _memory_safe(cls: type[Any], validated: ComponentSettings) -> bool:
    """Whether a process may read on after this parser or chunker: not where it reads files of its own too."""
    return bool(getattr(cls, "memory_safe", False)) and not validated.files()


def jail_limits(jail: settings.Jail) -> JailLimits:
    """What one document may cost."""
    return JailLimits(
        wall_seconds=jail.wall, cpu_seconds=jail.cpu, memory=jail.memory, output=jail.output, mode=jail.mode
    )


def preload(plugins: Plugins) -> list[str]:
    """The modules that the jail's parent imports before its first document: parsers, chunkers and what they ask for."""
    modules: dict[str, None] = {}
    for kind in ("parsers", "chunkers"):
        for cls in plugins.classes[kind].values():
            if getattr(cls, "isolation", "jail") == "worker":
                continue  # it has a process of its own, and may be large
            modules[cls.__module__] = None
            for name in getattr(cls, "preload", ()):
                if re.fullmatch(r"[\w.]+", name):
                    modules[name] = None
    return list(modules)
