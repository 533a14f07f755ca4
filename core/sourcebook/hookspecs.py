"""Every hook that a plugin may implement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import typer

    from sourcebook.app import Sourcebook
    from sourcebook.documents import Passage
    from sourcebook.hosts import CommandHost, RouteHost
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
    from sourcebook.owners import Principal

hookspec = pluggy.HookspecMarker("sourcebook")
hookimpl = pluggy.HookimplMarker("sourcebook")


@hookspec
def register_parsers() -> Iterable[type[Parser[Any]]]:  # type: ignore[empty-body]
    """Return the parser classes that this plugin adds."""


@hookspec
def register_chunkers() -> Iterable[type[Chunker[Any]]]:  # type: ignore[empty-body]
    """Return the chunker classes that this plugin adds."""


@hookspec
def register_embedders() -> Iterable[type[Embedder[Any]]]:  # type: ignore[empty-body]
    """Return the embedder classes that this plugin adds."""


@hookspec
def register_retrievers() -> Iterable[type[Retriever[Any]]]:  # type: ignore[empty-body]
    """Return the retriever and index classes that this plugin adds."""


@hookspec
def register_rerankers() -> Iterable[type[Reranker[Any]]]:  # type: ignore[empty-body]
    """Return the reranker classes that this plugin adds."""


@hookspec
def register_llms() -> Iterable[type[LLM[Any]]]:  # type: ignore[empty-body]
    """Return the language model classes that this plugin adds."""


@hookspec
def register_fetchers() -> Iterable[type[Fetcher[Any]]]:  # type: ignore[empty-body]
    """Return the fetcher classes that this plugin adds."""


@hookspec
def register_blob_stores() -> Iterable[type[BlobStore[Any]]]:  # type: ignore[empty-body]
    """Return the blob store classes that this plugin adds."""


@hookspec
def register_routes(host: RouteHost) -> None:
    """Add HTTP routes to `host.router`; they live under `/api/v1/x/<plugin>/`, behind the same gate as all others."""


@hookspec
def register_commands(cli: typer.Typer, host: CommandHost) -> None:
    """Add commands to the `sourcebook` command line; `host` opens the Sourcebook for them."""


@hookspec
async def startup(app: Sourcebook) -> None:
    """Run once after everything is open; raising stops the start."""


@hookspec
async def shutdown(app: Sourcebook) -> None:
    """Run once before anything is closed."""


@hookspec
async def refine_query(question: str, queries: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return other queries to search with (the first is the one reported), or None to leave them."""


@hookspec
async def refine_passages(question: str, passages: tuple[Passage, ...]) -> tuple[Passage, ...] | None:
    """Return the passages to answer from, reordered, cut or extended, or None to leave them."""


@hookspec
async def refine_prompt(question: str, request: LLMRequest) -> LLMRequest | None:
    """Return the request to send to the model, or None to leave it."""


@hookspec(firstresult=True)
async def authenticate(headers: Mapping[str, str], app: Sourcebook) -> Principal | None:
    """Return who asks, from the lower-cased request headers, or None if this plugin cannot tell. Raising denies."""


@hookspec
async def authorize(principal: Principal, action: str, notebook: str | None) -> bool | None:
    """Return False to deny `action` (read, write, admin) on a notebook; None changes nothing. Raising denies."""
