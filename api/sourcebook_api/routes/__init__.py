"""The routes, one module a resource."""

from __future__ import annotations

from fastapi import APIRouter

from sourcebook_api.routes import (
    chat,
    content,
    conversations,
    exports,
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


def api() -> APIRouter:
    """Everything below `/api/v1`."""
    router = APIRouter(prefix="/api/v1")
    library = (notebooks, indexing, shares, uploads, sources, content, reading)
    for module in (*library, chat, runs, conversations, notes, exports, jobs, keys, system):
        router.include_router(module.router)
    return router
