"""`reparse` and `refresh`: sources read again, beside what was read before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import AskPassword, Json, Owner, asked_password, say
from sourcebook_api.cli.work import Name, line_of, source_json

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Principal
    from sourcebook.sources import Source

_POLL = 0.05
Chosen = Annotated[list[str] | None, typer.Argument(metavar="[SOURCES]...", help="Their names or ids; default: all.")]


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for command in (reparse, refresh):
        cli.command()(command)


def reparse(
    context: typer.Context,
    notebook: Name,
    chosen: Chosen = None,
    password: AskPassword = False,
    owner: Owner = "local",
    json: Json = False,
) -> None:
    """Read sources again, as after a parser's update. What was read before serves until the new reading is ready."""
    secret = asked_password() if password else None

    async def again(book: Sourcebook, principal: Principal, source: Source) -> str | None:
        return await book.sources.reparse(principal, source.id, secret)

    _read_again(context, notebook, chosen or (), owner, json, again)


def refresh(
    context: typer.Context, notebook: Name, chosen: Chosen = None, owner: Owner = "local", json: Json = False
) -> None:
    """Fetch the sources that came from an address again; those whose bytes changed are read anew."""

    async def again(book: Sourcebook, principal: Principal, source: Source) -> str | None:
        if source.url is None and not chosen:
            return None
        return await book.refresh(principal, source.id)

    _read_again(context, notebook, chosen or (), owner, json, again)


def _read_again(
    context: typer.Context,
    notebook: str,
    chosen: Sequence[str],
    owner: str,
    json: bool,
    again: Callable[[Sourcebook, Principal, Source], Awaitable[str | None]],
) -> None:
    """Begin for each source, wait for the jobs, and tell what became of them."""

    async def work(book: Sourcebook) -> tuple[list[Source], bool]:
        principal = await book.owners.operator(owner)
        target = await common.notebook_named(book, principal, notebook)
        found = await _named(book, principal, target, chosen)
        begun = {source.id: await again(book, principal, source) for source in found}
        good = True
        for source in found:
            if (job_id := begun[source.id]) is None:
                say(f"{source.name}: unchanged")
            elif problem := await _outcome(book, principal, job_id):
                good = False
                say(f"{source.name}: failed ({problem.get('code')}: {problem.get('detail')})")
            else:
                say(line_of(await book.sources.get(principal, source.id)))
        return [await book.sources.get(principal, source.id) for source in found], good

    done, good = common.with_book(common.configuration(context), work, workers=None)
    if json:
        common.give([source_json(s) for s in done], as_json=True)
    if not good:
        raise typer.Exit(1)


async def _named(book: Sourcebook, principal: Principal, target: Notebook, names: Sequence[str]) -> list[Source]:
    """The sources of these names or ids, or all. Raises `NotFound` for a name that none has."""
    from sourcebook.errors import NotFound

    found: list[Source] = []
    cursor: str | None = None
    while True:
        part = await book.sources.listing(principal, target.id, 100, cursor)
        found += part.items
        if (cursor := part.next_cursor) is None:
            break
    if missing := [n for n in names if not any(n in (s.id, s.name) for s in found)]:
        raise NotFound(f"There is no source {missing[0]!r} in {target.title!r}.")
    return [s for s in found if not names or s.id in names or s.name in names]


async def _outcome(book: Sourcebook, principal: Principal, job_id: str) -> dict[str, Any]:
    """Why a job failed; empty where it is done."""
    while True:
        job = await book.jobs.get(job_id, principal.owner_id)
        if job.state == "done":
            return {}
        if job.state in ("failed", "cancelled"):
            break
        await asyncio.sleep(_POLL)
    return dict(job.problem or {"code": job.state, "detail": "another reading of this source was begun"})
