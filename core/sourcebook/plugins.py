"""Discovery, allow-list and isolation of plugins; a typed facade over pluggy.

Built-ins come through the same entry points as everyone else. A plugin that cannot load is off, with its reason.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from sourcebook import hookspecs
from sourcebook.documents import Passage
from sourcebook.errors import Forbidden, PluginError, Unauthenticated
from sourcebook.interfaces import (
    LLM,
    BlobStore,
    Chunker,
    Embedder,
    Fetcher,
    LLMRequest,
    Parser,
    Reranker,
    Retriever,
)
from sourcebook.settings import PluginSettings

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.owners import Principal

log = logging.getLogger(__name__)

GROUP = "sourcebook"
BUILT_IN = "sourcebook"
INTERFACES: Mapping[str, type] = {
    "parsers": Parser,
    "chunkers": Chunker,
    "embedders": Embedder,
    "retrievers": Retriever,
    "rerankers": Reranker,
    "llms": LLM,
    "fetchers": Fetcher,
    "blob_stores": BlobStore,
}
_REST_AFTER, _REST = 3, 60.0


@dataclass
class PluginInfo:
    """One plugin as `sourcebook plugins list` shows it. `state`: active, off (not enabled, or disabled) or failed."""

    name: str
    distribution: str
    version: str
    state: Literal["active", "off", "failed"]
    reason: str = ""
    hooks: list[str] = field(default_factory=list)
    components: dict[str, list[str]] = field(default_factory=dict)

    @property
    def built_in(self) -> bool:
        """Whether it came with Sourcebook."""
        return self.distribution == BUILT_IN


@dataclass(frozen=True)
class RouteHost:
    """What `register_routes` gets: `router` (a FastAPI APIRouter) and `app` (the open Sourcebook)."""

    router: Any
    app: Sourcebook
    plugin: str


class Plugins:
    """All plugins of one Sourcebook. Nothing is loaded before `load`, and nothing is global."""

    def __init__(self, settings: PluginSettings, deadline: float = 2.0) -> None:
        self.settings = settings
        self.infos: dict[str, PluginInfo] = {}
        self.classes: dict[str, dict[str, type]] = {kind: {} for kind in INTERFACES}
        self._owners: dict[tuple[str, str], PluginInfo] = {}
        self._deadline = deadline
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)

    def load(self, points: Iterable[EntryPoint] | None = None) -> None:
        """Import and register every plugin that may load. A bad one is off with its reason; the rest go on."""
        found = entry_points(group=GROUP) if points is None else points
        found = sorted(found, key=lambda p: (_distribution(p) != BUILT_IN, p.name))
        for point in found:
            distribution = _distribution(point)
            version = point.dist.version if point.dist else ""
            name = point.name if distribution == BUILT_IN else distribution
            if name in self.infos:
                name = f"{distribution}.{point.name}"
            info = PluginInfo(name, distribution, version, "off")
            self.infos[name] = info
            if reason := self._kept_off(info, point):
                info.reason = reason
                continue
            try:
                self.add(point.load(), info)
            except (Exception, SystemExit) as error:  # whatever a stranger's module raises at import
                self._fail(info, error)

    def add(self, module: ModuleType | object, info: PluginInfo | None = None) -> PluginInfo:
        """Register one plugin object; raises `PluginError` with the reason where it cannot be used."""
        info = info or PluginInfo(getattr(module, "__name__", repr(module)), "local", "", "off")
        self.infos.setdefault(info.name, info)
        _check_hooks(module)
        try:
            self._manager.register(module, info.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(str(error).splitlines()[-1]) from error
        try:
            info.components = self._collect(module)
        except Exception:
            self._manager.unregister(module)
            raise
        for kind, names in info.components.items():
            self._owners.update({(kind, name): info for name in names})
        info.hooks = sorted(h.name for h in self._manager.get_hookcallers(module) or ())
        info.state, info.reason = "active", ""
        return info

    def component(self, kind: str, name: str) -> type[Any]:
        """The class called `name`. Raises `PluginError` naming the known ones, and where the missing one may be."""
        found = self.classes[kind].get(name)
        if found is None:
            known = ", ".join(sorted(self.classes[kind])) or "none"
            off = [f"{i.name} is {i.state}: {i.reason}" for i in self.infos.values() if i.state != "active"]
            raise PluginError(
                f"No active plugin has the {kind[:-1].replace('_', ' ')} {name!r}; there are: {known}."
                + (f" Not loaded: {'; '.join(off)}." if off else ""),
                remedy="Install the plugin and name its distribution in [plugins] enabled, or correct the name.",
            )
        return found

    def owner(self, kind: str, name: str) -> PluginInfo | None:
        """The plugin that registered a class."""
        return self._owners.get((kind, name))

    def is_built_in_parser(self, name: str) -> bool:
        """Whether the parser came with Sourcebook: others are asked before it."""
        info = self.owner("parsers", name)
        return info is not None and info.built_in

    async def startup(self, app: Sourcebook) -> None:
        """Run every `startup` hook, in order; a raising one stops the start."""
        await self._each("startup", app=app)

    async def shutdown(self, app: Sourcebook) -> None:
        """Run every `shutdown` hook; a raising one is logged and does not stop the others."""
        await self._each("shutdown", app=app, tolerant=True)

    async def refine_query(self, question: str, queries: tuple[str, ...]) -> tuple[str, ...]:
        """The queries after every plugin that wished to change them."""
        refined: tuple[str, ...] = await self._fold("refine_query", queries, _tuple_of(str), question=question)
        return refined or queries

    async def refine_passages(self, question: str, passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        """The passages after every plugin that wished to change them."""
        refined: tuple[Passage, ...] = await self._fold(
            "refine_passages", passages, _tuple_of(Passage), question=question
        )
        return refined

    async def refine_prompt(self, question: str, request: LLMRequest) -> LLMRequest:
        """The request after every plugin that wished to change it."""
        refined: LLMRequest = await self._fold(
            "refine_prompt", request, lambda got: isinstance(got, LLMRequest), question=question
        )
        return refined

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """The first principal that a plugin names. Raises `Unauthenticated` where one fails to answer."""
        from sourcebook.owners import Principal

        for impl in self._implementations("authenticate"):
            try:
                async with asyncio.timeout(self._deadline):
                    principal = await _call(impl, {"headers": headers})
                if not isinstance(principal, Principal | None):
                    raise TypeError(f"returned {type(principal).__name__}, not Principal")
            except Exception as error:  # a security hook fails closed, whatever went wrong in it
                log.warning("plugin %s: authenticate failed, so nobody is let in: %r", impl.plugin_name, error)
                raise Unauthenticated(f"The plugin {impl.plugin_name} could not tell who asks.") from error
            if principal is not None:
                return principal
        return None

    async def authorize(self, principal: Principal, action: str, notebook: str | None) -> None:
        """Raise `Forbidden` where a plugin says no, raises or overruns."""
        for impl in self._implementations("authorize"):
            try:
                async with asyncio.timeout(self._deadline):
                    allowed = await _call(impl, {"principal": principal, "action": action, "notebook": notebook})
            except Exception as error:  # a security hook fails closed, whatever went wrong in it
                log.warning("plugin %s: authorize failed, so it is denied: %r", impl.plugin_name, error)
                allowed = False
            if allowed is not None and allowed is not True:  # 0 is no permission either
                raise Forbidden(f"The plugin {impl.plugin_name} does not allow this.")

    def routes(self, host_for: Any) -> None:
        """Let every plugin add its routes; `host_for(plugin name)` makes its host. One that raises has failed."""
        self._offer("register_routes", lambda plugin: {"host": host_for(plugin)})

    def commands(self, cli: Any) -> None:
        """Let every plugin add its commands."""
        self._offer("register_commands", lambda _: {"cli": cli})

    def _offer(self, hook: str, arguments: Callable[[str], Mapping[str, Any]]) -> None:
        """Call every implementation; one that raises has failed, and the others are called all the same."""
        for impl in self._implementations(hook):
            given = arguments(impl.plugin_name)
            try:
                impl.function(*[given[name] for name in impl.argnames])
            except Exception as error:  # one plugin's mistake must not cost the server, or the others
                self._fail(self.infos[impl.plugin_name], PluginError(f"{hook}: {type(error).__name__}: {error}"))

    def _implementations(self, hook: str) -> Sequence[Any]:
        return list(reversed(getattr(self._manager.hook, hook).get_hookimpls()))  # pluggy's own order of calls

    async def _each(self, hook: str, *, tolerant: bool = False, **arguments: Any) -> None:
        for impl in self._implementations(hook):
            try:
                await _call(impl, arguments)
            except Exception as error:
                if not tolerant:
                    raise PluginError(f"The plugin {impl.plugin_name} failed at {hook}: {error}") from error
                log.exception("plugin %s failed at %s", impl.plugin_name, hook)

    async def _fold(self, hook: str, value: Any, valid: Callable[[Any], bool], **arguments: Any) -> Any:
        """Pass `value` through every implementation in turn. One that raises, overruns or returns junk is skipped.

        Pluggy itself would lose the others' results when one raises, and cannot await.
        """
        name = getattr(self._manager.hook, hook).spec.argnames[-1]
        for impl in self._implementations(hook):
            key = (hook, impl.plugin_name)
            failures, rests_until = self._failures.get(key, (0, 0.0))
            if time.monotonic() < rests_until:
                continue
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._deadline):
                    got = await _call(impl, {**arguments, name: value})
                if time.monotonic() - began > self._deadline:
                    raise TimeoutError("held the event loop beyond its deadline")
                if got is not None and not valid(got):
                    raise TypeError(f"returned {got!r:.100}, which is not what the hook is for")
            except Exception as error:  # enrichment fails open, whatever a plugin does
                failures += 1
                rest = time.monotonic() + _REST if failures % _REST_AFTER == 0 else 0.0
                self._failures[key] = (failures, rest)
                log.warning("plugin %s: %s was skipped: %r", impl.plugin_name, hook, error)
                continue
            self._failures.pop(key, None)
            value = value if got is None else got
        return value

    def _kept_off(self, info: PluginInfo, point: EntryPoint) -> str:
        trusted = os.environ.get("SOURCEBOOK_LOAD_PLUGINS")
        if info.built_in:
            return "disabled in [plugins]" if point.name in self.settings.disabled else ""
        enabled = {_normal(n) for n in self.settings.enabled} | {_normal(n) for n in (trusted or "").split(",") if n}
        return "" if _normal(info.distribution) in enabled else "not in [plugins] enabled"

    def _collect(self, module: object) -> dict[str, list[str]]:
        added: dict[str, dict[str, type]] = {}
        for kind, interface in INTERFACES.items():
            mine = [i for i in self._implementations(f"register_{kind}") if i.plugin is module]
            for cls in (cls for impl in mine for cls in impl.function()):
                name = _component_name(cls, interface, kind)
                if name in self.classes[kind] or name in added.get(kind, {}):
                    other = self.classes[kind].get(name, cls)
                    raise PluginError(f"It registers the {kind[:-1]} {name!r}, which {other.__module__} has already.")
                added.setdefault(kind, {})[name] = cls
        for kind, classes in added.items():
            self.classes[kind].update(classes)
        return {kind: sorted(classes) for kind, classes in added.items()}

    def _fail(self, info: PluginInfo, error: BaseException) -> None:
        info.state = "failed"
        info.reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        log.warning("plugin %s is off: %s", info.name, info.reason)


async def _call(impl: Any, arguments: Mapping[str, Any]) -> Any:
    given = [arguments[name] for name in impl.argnames]
    result = impl.function(*given)
    return await result if inspect.isawaitable(result) else result


def _check_hooks(module: object) -> None:
    """Refuse what pluggy would take silently: a hook that is misspelt or not marked, a wrapper, another API version."""
    from sourcebook import API_VERSION

    wanted = getattr(module, "API_VERSION", API_VERSION)
    if wanted != API_VERSION:
        raise PluginError(f"It is written for plugin API {wanted}; this Sourcebook has {API_VERSION}.")
    known = {name for name, value in vars(hookspecs).items() if hasattr(value, "sourcebook_spec")}
    for name in dir(module):
        options = getattr(getattr(module, name, None), "sourcebook_impl", None)
        if not isinstance(options, dict):
            if name in known and name.startswith(("register_", "refine_", "auth")):
                raise PluginError(f"{name} lacks its @hookimpl.")
            continue
        hook = options.get("specname") or name
        if hook not in known:
            near = get_close_matches(hook, known, 1)
            mean = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}."
            raise PluginError(f"There is no hook {hook!r}; {mean}")
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(f"{name} cannot be a wrapper: implementations are called one by one.")


def _component_name(cls: Any, interface: type, kind: str) -> str:
    if not (isinstance(cls, type) and issubclass(cls, interface)):
        raise PluginError(f"register_{kind} returned {cls!r}, which is not a {interface.__name__}.")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"The {kind[:-1]} {cls.__name__} lacks: {missing}.")
    if issubclass(cls, Parser) and cls.isolation != "jail":
        raise PluginError(
            f"The parser {cls.__name__} asks for isolation {cls.isolation!r}; this version has only 'jail'."
        )
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise PluginError(f"The {kind[:-1]} {cls.__name__} needs a `name` such as 'my_{kind[:-1]}'.")
    return name


def _tuple_of(kind: type) -> Callable[[Any], bool]:
    return lambda got: isinstance(got, tuple) and all(isinstance(item, kind) for item in got)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
