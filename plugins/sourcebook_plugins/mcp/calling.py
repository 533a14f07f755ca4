"""What all tools share: how one is described and called, and which notebooks a caller means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from sourcebook import Caller
from sourcebook.errors import InvalidInput, NotFound

Tell = Callable[[str], Awaitable[None]]
"""Notifies whoever waits for the answer of what has been done by now."""


@dataclass(frozen=True)
class Call:
    """Who calls a tool, how to tell them of progress, and the server's address, where it has one: `base`."""

    caller: Caller
    tell: Tell
    base: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool: the models of what it takes and gives, and the function between them. `reads`: it changes nothing."""

    title: str
    function: Callable[[Call, Any], Awaitable[tuple[BaseModel, str]]]
    takes: type[BaseModel]
    gives: type[BaseModel]
    reads: bool = True

    @property
    def description(self) -> str:
        """What it does, in a line."""
        return (self.function.__doc__ or "").strip()

    async def answer(self, call: Call, given: Any) -> tuple[BaseModel, str]:
        """Raises `InvalidInput` naming the first argument that does not fit, and what the function raises."""
        try:
            asked = self.takes.model_validate(given or {})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "arguments"
            known = ", ".join(self.takes.model_fields)
            raise InvalidInput(f"{where}: {first['msg']}.", remedy=f"The arguments are: {known}.") from error
        return await self.function(call, asked)


def uri_of(source_id: str, start: int | None = None, end: int | None = None) -> str:
    """The address of a source as a resource, or of a range of it."""
    return f"sourcebook://sources/{source_id}" + (f"?start={start}&end={end}" if start is not None else "")


async def chosen(caller: Caller, names: Sequence[str]) -> list[str]:
    """The ids of the notebooks that are named by id or title; all of the caller's where none is.

    Raises `NotFound` for a name that none has, and `InvalidInput` where there is nothing to ask.
    """
    if not names:
        found = [notebook.id for notebook in await caller.all_notebooks()]
        if not found:
            raise InvalidInput("There is no notebook yet.", code="no_notebook", remedy="Make one, and add sources.")
        return found
    return [await named(caller, name) for name in dict.fromkeys(names)]


async def named(caller: Caller, name: str) -> str:
    """The id of one notebook. Raises `NotFound`."""
    found = await caller.book.notebooks.find(caller.principal, name)
    if found is None:
        raise NotFound(f"There is no notebook {name!r}.", remedy="`list_notebooks` tells which there are.")
    return found.id
