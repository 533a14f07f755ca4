"""What a route gets: who asks, and the things that they may reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Request

from sourcebook.app import Sourcebook
from sourcebook.notebooks import Notebook, Scoped
from sourcebook.owners import Permission, Principal
from sourcebook.sources import Source


class Caller:
    """A principal before an open Sourcebook. What is not theirs raises `NotFound`, as if it did not exist.

    Plugins that authorize are asked about the notebook of everything that is reached through here.
    """

    def __init__(self, book: Sourcebook, principal: Principal) -> None:
        self.book = book
        self.principal = principal

    async def notebook(self, notebook_id: str, permission: Permission = "read") -> Notebook:
        """One notebook. Raises `NotFound` or `Forbidden`."""
        notebook = await self.book.notebooks.get(self.principal, notebook_id, permission)
        await self.book.plugins.authorize(self.principal, permission, notebook.id)
        return notebook

    async def own_notebook(self, notebook_id: str) -> Notebook:
        """One of this owner's own notebooks; one that is shared with them is not. Raises `NotFound` or `Forbidden`."""
        await self.notebook(notebook_id, "write")
        return await self.book.notebooks.own(self.principal, notebook_id)

    async def notebooks(self, notebook_ids: Sequence[str]) -> Scoped:
        """Check several before they are searched; what was found goes on. Raises `NotFound` or `Forbidden`."""
        scoped = await self.book.notebooks.scope(self.principal, notebook_ids)
        for notebook_id in dict.fromkeys(notebook_ids):
            await self.book.plugins.authorize(self.principal, "read", notebook_id)
        return scoped

    async def source(self, source_id: str, permission: Permission = "read") -> Source:
        """One source. Raises `NotFound` or `Forbidden`."""
        source = await self.book.sources.get(self.principal, source_id, permission)
        await self.book.plugins.authorize(self.principal, permission, source.notebook_id)
        return source


def book_of(request: Request) -> Sourcebook:
    """The Sourcebook behind this application."""
    book: Sourcebook = request.app.state.book
    return book


async def caller(request: Request) -> Caller:
    """A dependency: who asks."""
    return Caller(book_of(request), request.state.principal)


Asking = Annotated[Caller, Depends(caller)]
"""The gate has established who asks before any route runs."""
