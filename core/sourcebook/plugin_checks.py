"""What a plugin must keep to be loaded, beyond what pluggy looks at."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from sourcebook.errors import PluginError
from sourcebook.interfaces import (
    LLM,
    BlobStore,
    Chunker,
    ComponentSettings,
    Embedder,
    Fetcher,
    Parser,
    Reranker,
    Retriever,
)

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


def noun(kind: str) -> str:
    """`blob store` for `blob_stores`."""
    return kind.removesuffix("s").replace("_", " ")


def missing(module: object) -> str:
    """Why a plugin is off where it is installed without what it needs: empty where all is there.

    `NEEDS` of its module names packages that may be absent, each with what to do about it.
    """
    for package, remedy in getattr(module, "NEEDS", {}).items():
        if find_spec(package) is None:
            return f"it needs the package {package!r}, which is not installed: {remedy}"
    return ""


def check_hooks(module: object, hooks: set[str]) -> None:
    """Refuse what pluggy would take silently: a hook that is misspelt or not marked, a wrapper, another API version."""
    from sourcebook import API_VERSION

    wanted = getattr(module, "API_VERSION", API_VERSION)
    if wanted != API_VERSION:
        raise PluginError(
            f"It is written for plugin API {wanted}; this Sourcebook has {API_VERSION}.",
            remedy="Install a version of the plugin, or of Sourcebook, that fits the other.",
        )
    for name in dir(module):
        options = getattr(getattr(module, name, None), "sourcebook_impl", None)
        if not isinstance(options, dict):
            if name in hooks and name.startswith(("register_", "refine_", "auth")):
                raise PluginError(f"{name} lacks its @hookimpl.")
            continue
        hook = options.get("specname") or name
        if hook not in hooks:
            near = get_close_matches(hook, hooks, 1)
            mean = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(hooks))}."
            raise PluginError(f"There is no hook {hook!r}; {mean}")
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(f"{name} cannot be a wrapper: implementations are called one by one.")


def component_name(cls: Any, kind: str) -> str:
    """The name of a class that a plugin registered. Raises `PluginError` for one that cannot be used."""
    interface = INTERFACES[kind]
    if not (isinstance(cls, type) and issubclass(cls, interface)):
        raise PluginError(f"register_{kind} returned {cls!r}, which is not a {interface.__name__}.")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"The {noun(kind)} {cls.__name__} lacks: {missing}.")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise PluginError(f"The {noun(kind)} {cls.__name__} needs a `name` such as 'my_{noun(kind).split()[-1]}'.")
    settings = getattr(cls, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, ComponentSettings)):
        raise PluginError(f"The `Settings` of {cls.__name__} is not derived from ComponentSettings.")
    _check_attributes(cls, kind)
    return name


def _check_attributes(cls: Any, kind: str) -> None:
    """What is asked for before any method is called."""
    texts = {"parsers": ("media_types", "extensions", "preload"), "chunkers": ("preload",), "fetchers": ("schemes",)}
    for attribute in texts.get(kind, ()):
        value = getattr(cls, attribute, None)
        if not isinstance(value, tuple | list) or not all(isinstance(item, str) for item in value):
            raise PluginError(f"`{attribute}` of {cls.__name__} is {value!r}; it must be a tuple of strings.")
        if attribute != "preload" and any(item != item.lower() for item in value):
            raise PluginError(f"`{attribute}` of {cls.__name__} must be lower case.")
    if kind == "parsers":
        if not all(extension.startswith(".") for extension in cls.extensions):
            raise PluginError(f"`extensions` of {cls.__name__} must begin with a dot, as in '.pdf'.")
        if cls.isolation not in ("jail", "worker"):
            raise PluginError(f"`isolation` of {cls.__name__} is {cls.isolation!r}; there are 'jail' and 'worker'.")


def claims(kind: str, cls: type[Any]) -> set[str]:
    """What a class is found by, beside its name: two that claim the same thing compete."""
    if kind == "parsers":
        return {*cls.extensions, *cls.media_types}
    return {f"{scheme}:" for scheme in cls.schemes} if kind == "fetchers" else set()


@contextmanager
def deprecations(tell: Callable[[str], None]) -> Iterator[None]:
    """Pluggy warns of a deprecated hook or argument with the file alone: pass it on, so that it is said whose it is."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, DeprecationWarning | FutureWarning):
            tell(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
