"""What plugins get that add routes or commands: all they need, so that they import neither FastAPI nor our API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sourcebook.errors import PluginError

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.callers import Caller
    from sourcebook.configuration import Configuration
    from sourcebook.owners import Permission

T = TypeVar("T")

_SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Needed:
    """What the gate asks of a request to one route: a permission, or None for what is open to all."""

    method: str
    path: str
    permission: Permission | None


@dataclass(frozen=True)
class RouteHost:
    """What `register_routes` gets.

    `router` is a FastAPI APIRouter, `app` the open Sourcebook, `plugin` the plugin's name. `caller` is a dependency: a
    route with the parameter `caller=host.caller` gets who asks, a `Caller`, whose methods raise what a client should
    see. `problems(404, 409)` gives a route's `responses` for its documentation.
    """

    router: Any
    app: Sourcebook
    plugin: str
    caller: Any = None
    problems: Any = None
    needed: list[Needed] = field(default_factory=list)

    def needs(self, permission: Permission | None, method: str, path: str) -> None:
        """Say what a key needs for a route, where it is not what its method says: read for GET, else write.

        None opens it to all, without a key; only what reads can be opened. Raises `PluginError`.
        """
        if permission is None and method not in _SAFE:
            raise PluginError(f"{method} {path} cannot be open to all: it may change something.")
        self.needed.append(Needed(method, path, permission))


@dataclass(frozen=True)
class CommandHost:
    """What `register_commands` gets beside the Typer application: the configuration that `--config` names."""

    configuration: Configuration
    plugin: str

    def run(self, work: Callable[[Sourcebook], Coroutine[Any, Any, T]], *, workers: int | None = 0) -> T:
        """Open the Sourcebook, await `work(book)`, close it. `workers`: those that do jobs, None as configured."""
        return with_book(self.configuration, work, workers=workers)

    async def caller(self, book: Sourcebook, owner: str = "local", key: str = "") -> Caller:
        """An owner who is made if new, or whom a key stands for. Raises `Unauthenticated` for a key that is none."""
        from sourcebook.callers import Caller

        return Caller(book, await (book.owners.authenticate(key) if key else book.owners.operator(owner)))


def with_book(
    configuration: Configuration,
    work: Callable[[Sourcebook], Coroutine[Any, Any, T]],
    *,
    workers: int | None = 0,
    mending: bool = False,
) -> T:
    """Open Sourcebook, do `work`, close it again."""
    from sourcebook.app import Sourcebook

    async def run() -> T:
        async with Sourcebook(configuration, workers=workers, mending=mending) as book:
            return await work(book)

    return asyncio.run(run())
