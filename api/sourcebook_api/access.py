"""What a route gets: who asks, and through that the things that they may reach."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from sourcebook.app import Sourcebook
from sourcebook.callers import Caller as Caller
from sourcebook.errors import Unauthenticated
from sourcebook.wiring import Wiring


def book_of(request: Request) -> Sourcebook:
    """The Sourcebook behind this application."""
    book: Sourcebook = request.app.state.book
    return book


async def caller(request: Request) -> Caller:
    """A dependency: who asks. Raises `Unauthenticated` on a route that is open to all, where nobody can be told."""
    if request.state.principal is None:
        raise Unauthenticated("This request carries no key.")
    return Caller(book_of(request), request.state.principal)


async def wired(request: Request) -> AsyncIterator[Wiring]:
    """A dependency: the configuration that serves, which stays open until this request is answered."""
    with book_of(request).wirings.used() as wiring:
        yield wiring


Wired = Annotated[Wiring, Depends(wired)]

Asking = Annotated[Caller, Depends(caller)]
"""The gate has established who asks before any route runs."""
