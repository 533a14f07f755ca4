"""The routes, one module a resource."""

from __future__ import annotations

from starlette.routing import BaseRoute

from sourcebook_api.routes import (
    chat,
    content,
    conversations,
    indexing,
    jobs,
    keys,
    notebooks,
    notes,
    reading,
    runs,
    shares,
    sources,
    system,
    uploads,
)


def api() -> list[BaseRoute]:
    """Everything below `/api/v1`, in one flat list, what is asked most first: a request looks through it in order.

    Routers in routers would be searched twice at every level.
    """
    library = (notebooks, indexing, shares, uploads, sources, content, reading)
    modules = (chat, runs, *library, conversations, notes, jobs, keys, system)
    return [route for module in modules for route in module.router.routes]
