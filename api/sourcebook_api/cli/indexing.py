"""`reindex`, a notebook's way to the index that its pipeline makes by now, and `migrate-index`, to a server."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import Json, Owner, say

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.estimating import Estimate
    from sourcebook.migrating import Migrated
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Principal

_POLL = 0.1
_STEP = 10_000  # points between two words of progress


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.command()(reindex)
    cli.command("migrate-index")(migrate_index)


def reindex(
    context: typer.Context,
    notebook: Annotated[str, typer.Argument(metavar="[NOTEBOOK]", help="Its title or id.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every notebook of this owner that is stale.")] = False,
    pipeline: Annotated[str, typer.Option(help="Move the notebook to this pipeline.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying for embeddings.")] = False,
    skip_failed: Annotated[bool, typer.Option("--skip-failed", help="Switch without what cannot be built.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the index before the last switch.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop building, and remove what was built.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Remove the index before the last switch now.")] = False,
    owner: Owner = "local",
    json: Json = False,
) -> None:
    """Build a notebook's index anew beside the old one, which answers until the new one is whole."""
    if bool(notebook) == every:
        raise typer.BadParameter("name a notebook, or give --all")

    async def work(book: Sourcebook) -> bool:
        principal = await book.owners.operator(owner)
        if every:
            chosen = await _stale(book, principal)
        else:
            chosen = [await common.notebook_named(book, principal, notebook)]
        if not chosen:
            say("No notebook is stale.")
        good = True
        for one in chosen:
            if rollback or cancel or drop:
                good = await _undo(book, principal, one, rollback=rollback, cancel=cancel) and good
                continue
            good = await _one(book, principal, one, pipeline, dry_run, yes, skip_failed, json) and good
        return good

    # Without workers for what only asks; `mending`, since this is what mends vectors that do not fit.
    settings = common.configuration(context)
    if not common.with_book(settings, work, workers=0 if dry_run else None, mending=True):
        raise typer.Exit(1)


def migrate_index(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The server that is to hold the index.")],
    index: Annotated[str, typer.Option(help="The retriever instance that moves.")] = "qdrant",
    collection: Annotated[str, typer.Option(help="The collection there; else as configured.")] = "",
    api_key_file: Annotated[Path | None, typer.Option(help="A file with the server's API key.")] = None,
    json: Json = False,
) -> None:
    """Copy an index to a server while the old one answers, and compare the two. May be repeated and interrupted."""

    async def work(book: Sourcebook) -> Migrated:
        from sourcebook.interfaces import Index
        from sourcebook.migrating import migrate

        changes: dict[str, Any] = {"url": to}
        if collection:
            changes["collection"] = collection
        if api_key_file:
            changes["api_key"] = api_key_file.read_text("utf-8").strip()
        source = await book.pipelines.component("retrievers", index, cast(type[Index[Any]], Index))
        target = cast(Index[Any], await book.pipelines.beside("retrievers", index, changes))
        shown = 0

        def report(count: int) -> None:
            nonlocal shown
            if count >= shown + _STEP:
                shown = count
                say(f"{count:,} points")

        try:
            return await migrate(source, target, report)
        finally:
            await target.close()

    done = common.with_book(common.configuration(context), work)
    if json:
        common.give(dataclasses.asdict(done), as_json=True)
    say(
        f"{done.points:,} points are there ({done.written:,} written, {done.removed:,} removed, {done.passes} passes); "
        f"the counts are equal, and a sample of {done.sampled} is too."
    )
    say(f'Now set it, and restart what serves:\n\n    [retrievers.{index}]\n    url = "{to}"')
    if collection:
        say(f'    collection = "{collection}"')


async def _stale(book: Sourcebook, principal: Principal) -> list[Notebook]:
    found: list[Notebook] = []
    cursor: str | None = None
    while True:
        page = await book.notebooks.listing(principal, 100, cursor)
        standings = await book.specs.standing(page.items)
        found += [n for n in page.items if standings[n.id].stale]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def _one(
    book: Sourcebook,
    principal: Principal,
    notebook: Notebook,
    pipeline: str,
    dry_run: bool,
    yes: bool,
    skip_failed: bool,
    json: bool,
) -> bool:
    standing = (await book.specs.standing([notebook]))[notebook.id]
    estimate = await book.reindexing.estimate(notebook, pipeline)
    if json and dry_run:
        shown = {"notebook": notebook.id, "stale": standing.stale, "changed": standing.changed}
        common.give({**shown, "estimate": dataclasses.asdict(estimate)}, as_json=True)
        return True
    say(f"{notebook.title!r}: {_changed(standing.changed, pipeline)}")
    say(_costs(estimate))
    if dry_run:
        return True
    if estimate.calls and not yes and not typer.confirm("Go on?", err=True):
        return False
    started = await book.reindexing.start(principal, notebook, pipeline=pipeline, skip_failed=skip_failed)
    return await _followed(book, principal, notebook, started.job_id, json)


def _changed(parts: tuple[str, ...], pipeline: str) -> str:
    if pipeline:
        return f"moves to the pipeline {pipeline!r}"
    return f"its {' and '.join(parts)} changed" if parts else "up to date"


def _costs(e: Estimate) -> str:
    read = f"{e.parsed} of {e.sources} sources are read again"
    if not e.embedded:
        return f"{read}; {e.passages} passages are indexed, and no embedding is asked for."
    return f"{read}; {e.embedded} passages ({e.characters:,} characters) are embedded in at most {e.calls} calls."


async def _undo(book: Sourcebook, principal: Principal, notebook: Notebook, *, rollback: bool, cancel: bool) -> bool:
    if rollback:
        found = await book.reindexing.rollback(principal, notebook)
        return await _followed(book, principal, notebook, found.job_id, json=False)
    if cancel:
        await book.reindexing.cancel(principal, notebook)
        say("Stopped; what was built is being removed.")
        return True
    job_id = await book.reindexing.drop(principal, notebook)
    return await _followed(book, principal, notebook, job_id, json=False)


async def _followed(book: Sourcebook, principal: Principal, notebook: Notebook, job_id: str, json: bool) -> bool:
    """Wait for a job, with its progress; a Ctrl-C leaves it to the server's workers, or to the next start."""
    from sourcebook.jobs import ACTIVE

    shown = ""
    while True:
        job = await book.jobs.get(job_id, principal.owner_id)
        progress: dict[str, Any] = dict(job.checkpoint.get("progress", {}))
        if "total" in progress and (line := f"{progress['done']} of {progress['total']} sources") != shown:
            say(line)
            shown = line
        if job.state not in ACTIVE:
            break
        await asyncio.sleep(_POLL)
    last = await book.reindexing.latest(notebook.id)
    if json and last:
        common.give(dataclasses.asdict(last), as_json=True)
    if job.state == "done":
        say(f"{notebook.title!r} is done." + (" `--rollback` goes back." if last and last.state == "switched" else ""))
        return True
    problem = dict(job.problem or {})
    say(f"{notebook.title!r}: {problem.get('detail', job.state)} {problem.get('remedy', '')}".rstrip())
    return False
