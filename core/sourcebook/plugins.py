"""Discovery, allow-list and isolation of plugins; a typed facade over pluggy.

Built-ins come through the same entry points as everyone else. A plugin that cannot load is off, with its reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from sourcebook import hookspecs
from sourcebook.documents import Passage
from sourcebook.errors import Forbidden, PluginError, Unauthenticated
from sourcebook.hanging import HELD, freed, overrun, within
from sourcebook.hook_calls import HookCalls
from sourcebook.interfaces import LLMRequest
from sourcebook.metrics import Metrics
from sourcebook.plugin_checks import INTERFACES, check_hooks, claims, component_name, deprecations, missing, noun
from sourcebook.settings import PluginSettings

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.owners import Principal

log = logging.getLogger(__name__)

GROUP = "sourcebook"
BUILT_IN = "sourcebook"
_SHUTDOWN = 10.0  # seconds for one plugin, so that none keeps the process from ending


@dataclass
class PluginInfo:
    """One plugin as `sourcebook plugins list` shows it. `state`: active, off (not enabled, or disabled) or failed.

    `import_ms` is what loading its module took. `overrides` names what it is asked for before a built-in, `warnings`
    what it should change (deprecated hooks), `skipped` how often a hook of it failed and was passed over.
    """

    name: str
    distribution: str
    version: str
    state: Literal["active", "off", "failed"]
    reason: str = ""
    hooks: list[str] = field(default_factory=list)
    components: dict[str, list[str]] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    import_ms: float = 0.0

    @property
    def built_in(self) -> bool:
        """Whether it came with Sourcebook."""
        return self.distribution == BUILT_IN


class Plugins:
    """All plugins of one Sourcebook. Nothing is loaded before `load`, and nothing is global."""

    def __init__(
        self,
        settings: PluginSettings,
        deadline: float = 2.0,
        specs: ModuleType | type = hookspecs,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings
        self.infos: dict[str, PluginInfo] = {}
        self.classes: dict[str, dict[str, type]] = {kind: {} for kind in INTERFACES}
        self.calls = HookCalls(deadline, metrics=metrics)
        self._owners: dict[tuple[str, str], PluginInfo] = {}
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(specs)
        self._hooks = {name for name in dir(specs) if hasattr(getattr(specs, name), f"{GROUP}_spec")}

    def load(self, points: Iterable[EntryPoint] | None = None) -> None:
        """Import and register every plugin that may load. A bad one is off with its reason; the rest go on."""
        found = list(entry_points(group=GROUP) if points is None else points)
        # Asked once each: a distribution parses its whole metadata whenever it is asked for its name.
        named = {id(p.dist): (p.dist.name, p.dist.version) if p.dist else ("unknown", "") for p in found}
        for point in sorted(found, key=lambda p: (named[id(p.dist)][0] != BUILT_IN, p.name)):
            distribution, version = named[id(point.dist)]
            name = point.name if distribution == BUILT_IN else distribution
            if name in self.infos:
                name = f"{distribution}.{point.name}"
            info = PluginInfo(name, distribution, version, "off")
            self.infos[name] = info
            if reason := self._kept_off(info, point):
                info.reason = reason
                continue
            began = time.perf_counter()
            try:
                module = self._in_time(info, point.load, "its import")
                info.import_ms = round((time.perf_counter() - began) * 1000, 1)
                info.reason = missing(module)
                if not info.reason:
                    self.add(module, info)
            except (Exception, SystemExit) as error:  # whatever a stranger's module raises at import
                self._fail(info, error)
        self._name_the_missing()

    def add(self, module: ModuleType | object, info: PluginInfo | None = None) -> PluginInfo:
        """Register one plugin object; raises `PluginError` with the reason where it cannot be used."""
        info = info or PluginInfo(getattr(module, "__name__", repr(module)), "local", "", "off")
        self.infos.setdefault(info.name, info)
        check_hooks(module, self._hooks)

        def deprecated(message: str) -> None:
            info.warnings.append(message)
            log.warning("plugin %s: %s", info.name, message)

        try:
            with deprecations(deprecated):
                self._manager.register(module, info.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(str(error).splitlines()[-1]) from error
        try:
            added = self._collect(module)
        except Exception:
            self._manager.unregister(module)
            raise
        info.overrides = [] if info.built_in else sorted(self._overridden(added))
        for kind, classes in added.items():
            self.classes[kind].update(classes)
            self._owners.update({(kind, name): info for name in classes})
        info.components = {kind: sorted(classes) for kind, classes in added.items()}
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
                f"No active plugin has the {noun(kind)} {name!r}; there are: {known}."
                + (f" Not loaded: {'; '.join(off)}." if off else ""),
                remedy="Install the plugin and name its distribution in [plugins] enabled, or correct the name.",
            )
        return found

    def owner(self, kind: str, name: str) -> PluginInfo | None:
        """The plugin that registered a class."""
        return self._owners.get((kind, name))

    def is_built_in(self, kind: str, name: str) -> bool:
        """Whether the class came with Sourcebook: others are asked before it."""
        info = self.owner(kind, name)
        return info is not None and info.built_in

    def shown(self) -> list[PluginInfo]:
        """Every plugin, with how often its hooks were passed over by now."""
        for (plugin, hook), count in self.calls.skipped.items():
            if plugin in self.infos:
                self.infos[plugin].skipped[hook] = count
        return list(self.infos.values())

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

    async def authenticate(self, headers: Mapping[str, str], app: Sourcebook) -> Principal | None:
        """The first principal that a plugin names. Raises `Unauthenticated` where one fails to answer."""
        from sourcebook.owners import Principal

        for impl in self._implementations("authenticate"):
            try:
                principal = await self.calls.bounded(impl, "authenticate", {"headers": headers, "app": app})
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
            asked = {"principal": principal, "action": action, "notebook": notebook}
            try:
                allowed = await self.calls.bounded(impl, "authorize", asked)
            except Exception as error:  # a security hook fails closed, whatever went wrong in it
                log.warning("plugin %s: authorize failed, so it is denied: %r", impl.plugin_name, error)
                allowed = False
            if allowed is not None and allowed is not True:  # 0 is no permission either
                raise Forbidden(f"The plugin {impl.plugin_name} does not allow this.")

    def routes(self, host_for: Any) -> None:
        """Let every plugin add its routes; `host_for(plugin name)` makes its host. One that raises has failed."""
        self._offer("register_routes", lambda plugin: {"host": host_for(plugin)})

    def commands(self, cli: Any, host_for: Any) -> None:
        """Let every plugin add its commands; `host_for(plugin name)` makes its host."""
        self._offer("register_commands", lambda plugin: {"cli": cli, "host": host_for(plugin)})

    def fail(self, plugin: str, error: BaseException) -> None:
        """A plugin has failed after it was loaded; its reason is shown."""
        if info := self.infos.get(plugin):
            self._fail(info, error)

    def _offer(self, hook: str, arguments: Callable[[str], Mapping[str, Any]]) -> None:
        """Call every implementation; one that raises has failed, and the others are called all the same."""
        for impl in self._implementations(hook):
            given = arguments(impl.plugin_name)
            try:
                self._registered(impl, hook, given)
            except Exception as error:  # one plugin's mistake must not cost the server, or the others
                self._fail(self.infos[impl.plugin_name], PluginError(f"{hook}: {type(error).__name__}: {error}"))

    def _registered(self, impl: Any, hook: str, given: Mapping[str, Any]) -> Any:
        return self._in_time(self.infos.get(impl.plugin_name), lambda: self.calls.plain(impl, hook, given), hook)

    def _in_time(self, info: PluginInfo | None, function: Callable[[], Any], what: str) -> Any:
        """A stranger's code is waited for only so long; our own needs no thread."""
        if info is None or info.built_in:
            return function()
        return within(self.settings.import_deadline, function, what)

    def _implementations(self, hook: str) -> Sequence[Any]:
        return list(reversed(getattr(self._manager.hook, hook).get_hookimpls()))  # pluggy's own order of calls

    async def _each(self, hook: str, *, tolerant: bool = False, **arguments: Any) -> None:
        seconds = _SHUTDOWN if tolerant else self.settings.open_deadline
        for impl in self._implementations(hook):
            deadline = asyncio.timeout(seconds)
            try:
                async with deadline:
                    await freed(self.calls.awaited(impl, hook, arguments), seconds)
            except Exception as error:
                if tolerant:
                    log.exception("plugin %s failed at %s", impl.plugin_name, hook)
                    continue
                late = isinstance(error, TimeoutError) and (deadline.expired() or str(error) == HELD)
                why = overrun("it", seconds, "open_deadline") if late else error
                told = PluginError(f"The plugin {impl.plugin_name} failed at {hook}: {why}")
                if info := self.infos.get(impl.plugin_name):
                    self._fail(info, told)
                raise told from error

    async def _fold(self, hook: str, value: Any, valid: Callable[[Any], bool], **arguments: Any) -> Any:
        name = getattr(self._manager.hook, hook).spec.argnames[-1]
        return await self.calls.fold(self._implementations(hook), hook, name, value, valid, arguments)

    def _name_the_missing(self) -> None:
        """A name in `enabled` that nothing answers to is a mistake, and is shown as one."""
        there = {_normal(info.distribution) for info in self.infos.values()}
        for name in self.settings.enabled:
            if _normal(name) not in there:
                reason = "it is enabled, and no such distribution with a plugin is installed"
                self.infos.setdefault(name, PluginInfo(name, name, "", "failed", reason))
                log.warning("plugin %s: %s", name, reason)

    def _kept_off(self, info: PluginInfo, point: EntryPoint) -> str:
        trusted = os.environ.get("SOURCEBOOK_LOAD_PLUGINS")
        if info.built_in:
            return "disabled in [plugins]" if point.name in self.settings.disabled else ""
        enabled = {_normal(n) for n in self.settings.enabled} | {_normal(n) for n in (trusted or "").split(",") if n}
        return "" if _normal(info.distribution) in enabled else "not in [plugins] enabled"

    def _collect(self, module: object) -> dict[str, dict[str, type]]:
        """What it registers, by kind and name."""
        added: dict[str, dict[str, type]] = {}
        for kind in INTERFACES:
            hook = f"register_{kind}"
            mine = [i for i in self._implementations(hook) if i.plugin is module]
            for cls in (cls for impl in mine for cls in self._registered(impl, hook, {})):
                name = component_name(cls, kind)
                if name in self.classes[kind] or name in added.get(kind, {}):
                    other, owner = self.classes[kind].get(name, cls), self.owner(kind, name)
                    whose = f" of {owner.name}" if owner else ""
                    raise PluginError(
                        f"It registers the {noun(kind)} {name!r}, which {other.__module__}{whose} has already.",
                        remedy="Give the class another `name`, or do not enable both.",
                    )
                added.setdefault(kind, {})[name] = cls
        return added

    def _overridden(self, added: Mapping[str, Mapping[str, type]]) -> Iterable[str]:
        """What new classes are asked for before classes that are there."""
        for kind, classes in added.items():
            for name, cls in classes.items():
                for other, theirs in self.classes[kind].items():
                    if self.is_built_in(kind, other) and (shared := claims(kind, cls) & claims(kind, theirs)):
                        yield f"{noun(kind)} {name} before {other}: {', '.join(sorted(shared))}"

    def _fail(self, info: PluginInfo, error: BaseException) -> None:
        info.state = "failed"
        info.reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        log.warning("plugin %s is off: %s", info.name, info.reason)


def _tuple_of(kind: type) -> Callable[[Any], bool]:
    return lambda got: isinstance(got, tuple) and all(isinstance(item, kind) for item in got)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
