"""What is wrong with instances, pipelines and the names of plugins, all at once. Opens nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from sourcebook import settings
from sourcebook.config_errors import error_of, issue, line_of
from sourcebook.errors import ConfigError, PluginError, SourcebookError
from sourcebook.fusion import kind_of
from sourcebook.plugins import Plugins
from sourcebook.setting_checks import near

# What the legs of our own retrievers are called; a third party's may have others.
_LEGS = ("lexical", "dense")
_MEASURES = ("words", "dense", "rerank")

Resolve = Callable[[str, str], tuple[type[Any], Any]]
Asked = tuple[str, str, Callable[[], Any]]
"""A key, the instance that it hangs on, and what raises where it is wrong."""


class Mistakes:
    """Of one configuration with these plugins. `resolve` gives the class of an instance, as `Pipelines` does."""

    def __init__(
        self, configured: settings.Settings, origins: Mapping[str, str], plugins: Plugins, resolve: Resolve
    ) -> None:
        self._settings = configured
        self._origins = origins
        self._plugins = plugins
        self._resolve = resolve

    def all(self, told: Collection[str] = ()) -> list[SourcebookError]:
        """Each once, but for those that hang on keys which are `told` already."""
        wrong: dict[str, SourcebookError] = {}
        for key, instance, ask in self._instances():
            if any(_within(one, key) or _within(one, instance) for one in told):
                continue
            try:
                ask()
            except ConfigError as error:
                wrong.setdefault(error.detail, error)
            except PluginError as error:
                found = issue(key, self._origins, error.detail)
                named = ConfigError(line_of(found), remedy=error.remedy, issues=[found])
                wrong.setdefault(error.detail, named)
        named_wrong = [*self._names_of_plugins(), *self._names_of_legs()]
        issues = [issue(k, self._origins, what) for k, what in named_wrong if not any(_within(one, k) for one in told)]
        return [*wrong.values(), *([error_of(issues)] if issues else [])]

    def _instances(self) -> Iterator[Asked]:
        """Whatever names an instance, or is one."""
        for kind in settings.KINDS:
            for instance in getattr(self._settings, kind):
                key = f"{kind}.{instance}"
                yield key, key, partial(self._resolve, kind, instance)
        blobs = self._settings.storage.blobs
        yield "storage.blobs", f"blob_stores.{blobs}", partial(self._resolve, "blob_stores", blobs)
        for instance in self._settings.jail.grants:
            yield f"jail.grants.{instance}", f"parsers.{instance}", partial(self._check_grant, instance)
        for name, wiring in self._settings.pipelines.items():
            for key, kind, instance in _named(wiring):
                of = f"pipelines.{name}.{key}"
                yield of, f"{kind}.{instance}", partial(self._resolve, kind, instance)

    def _check_grant(self, instance: str) -> None:
        cls, _ = self._resolve("parsers", instance)
        if cls.isolation != "worker":
            raise ConfigError(
                f"jail.grants.{instance}: the parser {cls.name} runs in the jail, where nothing can be granted.",
                remedy='Only parsers with isolation = "worker" take grants; the limits of [jail] hold for the others.',
            )

    def _names_of_plugins(self) -> Iterator[tuple[str, str]]:
        """Key and message of each plugin in `[plugins]` that there is not."""
        infos = self._plugins.infos
        built_in = {name for name, info in infos.items() if info.built_in}
        # Ours that have a mount by default need not be there to be at it.
        there = {*infos, *settings.PluginSettings().mount}
        for name in self._settings.plugins.mount:
            if name not in there:
                yield f"plugins.mount.{name}", f"there is no plugin {name!r}; {near(name, there)}"
        for name in self._settings.plugins.disabled:
            if name in infos and name not in built_in:
                yield (
                    "plugins.disabled",
                    f"{name!r} did not come with Sourcebook: take it out of [plugins] enabled instead",
                )
            elif name not in built_in:
                yield "plugins.disabled", f"there is no built-in plugin {name!r}; {near(name, built_in)}"

    def _names_of_legs(self) -> Iterator[tuple[str, str]]:
        """Key and message of each leg and measure that no search of its pipeline has."""
        for name, wiring in self._settings.pipelines.items():
            place, strange = f"pipelines.{name}.search", not self._all_built_in(wiring)
            for leg in wiring.search.weights:
                retriever = leg.partition("@")[2]
                if not (strange or kind_of(leg) in _LEGS):
                    yield f"{place}.weights", f"there is no leg {leg!r}; {near(leg, _LEGS)}"
                elif "@" in leg and retriever not in wiring.retrievers:
                    asked = near(retriever, wiring.retrievers)
                    yield f"{place}.weights", f"{leg!r} names no retriever of this pipeline; {asked}"
            for measure in wiring.search.relevance:
                if measure == "lexical" or not (strange or measure in _MEASURES):
                    yield f"{place}.relevance", f"nothing is measured by {measure!r}; {near(measure, _MEASURES)}"

    def _all_built_in(self, wiring: settings.Pipeline) -> bool:
        """Whether the names of all its legs are known."""
        tables = self._settings.retrievers
        classes = [str(tables.get(name, {}).get("use", name)) for name in wiring.retrievers]
        return all(self._plugins.is_built_in("retrievers", cls) for cls in classes)


def _named(wiring: settings.Pipeline) -> list[tuple[str, str, str]]:
    """Key, kind and name of every instance that a pipeline names."""
    single = (("chunker", "chunkers", wiring.chunker), ("embedder", "embedders", wiring.embedder))
    found = [one for one in (*single, ("reranker", "rerankers", wiring.reranker)) if one[2]]
    found += [("retrievers", "retrievers", name) for name in wiring.retrievers]
    found += [("llm", "llms", name) for name in wiring.llm]
    found += [(f"parsers.{of}", "parsers", name) for of, names in wiring.parsers.items() for name in names]
    return found


def _within(key: str, of: str) -> bool:
    """Whether one of two keys lies in the other, or both are one."""
    return f"{key}.".startswith(f"{of}.") or f"{of}.".startswith(f"{key}.")
