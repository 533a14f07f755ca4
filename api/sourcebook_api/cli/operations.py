"""`worker`, `db`, `jobs`, `owners`, `backup`, `restore`, `export` and `import`: running an installation."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import Json, Owner, audited, give, say

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.jobs import Job

db = typer.Typer(help="See and upgrade the database's schema.", no_args_is_help=True)
jobs = typer.Typer(help="See, cancel and retry jobs.", no_args_is_help=True)
owners = typer.Typer(help="Remove an owner with everything that is theirs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="As `jobs list` shows it.")]


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.command()(worker)
    for group, name in ((db, "db"), (jobs, "jobs"), (owners, "owners")):
        cli.add_typer(group, name=name)
    cli.command()(backup)
    cli.command()(restore)
    cli.command("export")(export_notebook)
    cli.command("import")(import_notebook)


def worker(
    context: typer.Context,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Jobs at a time; default [jobs] workers.")] = None,
) -> None:
    """Do jobs until SIGTERM, beside a server: on the same data folder, or anywhere with the same stores."""
    from sourcebook import logs

    settings = common.configuration(context)
    logs.configure(settings)
    count = workers or settings.settings.jobs.workers or 1

    async def work(book: Sourcebook) -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()

        def stop() -> None:
            stopped.set()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)  # a second one ends it as it stands

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: reloads.add(loop.create_task(_reload(book))))
        say(f"{count} jobs at a time from {book.database.url.render_as_string(hide_password=True)}")
        await stopped.wait()

    common.with_book(settings, work, workers=count)


async def _reload(book: Sourcebook) -> None:
    """SIGHUP: jobs that begin from now on go by the new configuration."""
    from sourcebook.errors import SourcebookError

    try:
        done = await book.reload()
    except SourcebookError as error:
        common.complain(error)
    else:
        say(f"Reloaded: changed {', '.join(done.changed) or 'nothing'}; opened {', '.join(done.opened) or 'nothing'}")


@db.command("upgrade")
def upgrade_db(context: typer.Context) -> None:
    """Bring the database to this version's schema. Nothing happens where it is there already."""
    before, after = _with_database(context, upgrade=True)
    say(f"The database has schema {after}." if before == after else f"Upgraded from {before or 'nothing'} to {after}.")


@db.command("current")
def current_db(context: typer.Context, json: Json = False) -> None:
    """Say which schema the database has and which this version needs; exits with 1 where they differ."""
    from sourcebook.database.tables import SCHEMA

    have, _ = _with_database(context, upgrade=False)
    give({"current": have, "needed": SCHEMA} if json else f"{have or 'none'} (needed: {SCHEMA})", as_json=json)
    if have != SCHEMA:
        raise typer.Exit(1)


def _with_database(context: typer.Context, *, upgrade: bool) -> tuple[str | None, str | None]:
    """The schema before and after. Whoever only asks makes neither the folder nor the file."""
    from sourcebook.database import upgrade as schemas
    from sourcebook.database.engine import Database

    storage = common.configuration(context).settings.storage
    folder = storage.path.expanduser().resolve()

    async def run() -> tuple[str | None, str | None]:
        database = Database(storage.database, folder)
        if database.sqlite and not upgrade and not Path(str(database.url.database)).exists():
            return None, None
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            before = await schemas.current(database)
            if upgrade:
                await schemas.upgrade(database)
            return before, await schemas.current(database)
        finally:
            await database.close()

    return asyncio.run(run())


@jobs.command("list")
def list_jobs(
    context: typer.Context,
    state: Annotated[str, typer.Option(help="queued, leased, done, failed or cancelled; without: all but done.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Jobs, at most 1000.")] = 100,
    json: Json = False,
) -> None:
    """Jobs of all owners, the newest first."""
    if state not in ("", "queued", "leased", "done", "failed", "cancelled"):
        raise typer.BadParameter("must be queued, leased, done, failed or cancelled", param_hint="--state")

    async def work(book: Sourcebook) -> list[Job]:
        return await book.jobs.listing(state, limit)

    found = common.with_book(common.configuration(context), work)
    if json:
        give([dataclasses.asdict(j) for j in found], as_json=True)
        return
    for j in found:
        why = (j.problem or {}).get("detail", "")
        typer.echo(f"{j.id}  {j.kind:<7} {j.state:<9} {j.source_id or '-'}  {why}".rstrip())


@jobs.command("cancel")
def cancel_job(context: typer.Context, job_id: JobId) -> None:
    """Stop an ingestion, whoever's it is."""
    job = _on_job(context, job_id, "cancel")
    say(f"{job.id} is {job.state}{', and stops at its next write' if job.state == 'leased' else ''}.")


@jobs.command("retry")
def retry_job(context: typer.Context, job_id: JobId) -> None:
    """Queue a failed or cancelled ingestion again, from the stage that it had reached."""
    say(f"{_on_job(context, job_id, 'retry').id} is queued again; a worker takes it up.")


def _on_job(context: typer.Context, job_id: str, action: str) -> Job:
    from sourcebook.errors import NotFound

    async def work(book: Sourcebook) -> Job:
        try:
            job: Job = await getattr(book.jobs, action)(job_id, None)
        except NotFound as error:
            raise NotFound(error.detail, remedy="`sourcebook jobs list` shows those that there are.") from error
        return job

    return common.with_book(common.configuration(context), work)


@owners.command("remove")
def remove_owner(
    context: typer.Context,
    owner: Annotated[str, typer.Argument(help="Their name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete an owner with keys, notebooks, sources, conversations and notes; wait until all of it is gone."""

    async def work(book: Sourcebook) -> dict[str, Any]:
        await book.owners.find(owner)
        if not yes:
            typer.confirm(f"Delete everything that belongs to {owner!r}, for good?", abort=True, err=True)
        report = await book.delete_owner(owner)
        audited(book, "owners remove", owner=owner)
        return report

    report = common.with_book(common.configuration(context), work, workers=None)
    counts = ", ".join(f"{n} {what}" for what, n in report.items() if n) or "nothing"
    give(report if json else f"{owner!r} is gone. Beside notebooks with their sources: {counts}.", as_json=json)


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write; one that is there is replaced.")],
) -> None:
    """Write everything that cannot be made again into one file, while the server runs."""
    from sourcebook.backup import write_backup

    done = common.with_book(common.configuration(context), lambda book: write_backup(book, file))
    say(f"{file}: {done['sources']} sources, {done['blobs']} files, {done['bytes']} bytes. Restore it with:")
    say(f"sourcebook restore {file}")


def restore(context: typer.Context, file: Annotated[Path, typer.Argument(help="What `backup` wrote.")]) -> None:
    """Fill an empty data folder (and an empty database) from a backup; the index is built again from it."""
    from sourcebook.backup import read_backup

    settings = common.configuration(context)
    done = asyncio.run(read_backup(settings, file))
    say(f"Restored {done['sources']} sources, {done['blobs']} files, from {done['created_at']}.")
    say("`sourcebook serve` builds the index; `sourcebook doctor` checks the result.")


def export_notebook(
    context: typer.Context,
    notebook: Annotated[str, typer.Argument(help="Its title or id.")],
    file: Annotated[Path, typer.Argument(help="The file to write; one that is there is replaced.")],
    owner: Owner = "local",
) -> None:
    """Write a notebook into one portable file: sources, text, passages, vectors, conversations and notes."""
    from sourcebook.portable import export

    async def work(book: Sourcebook) -> dict[str, int]:
        principal = await book.owners.operator(owner)
        return await export(book, await common.notebook_named(book, principal, notebook), file)

    done = common.with_book(common.configuration(context), work)
    say(f"{file}: " + ", ".join(f"{n} {what}" for what, n in done.items()))


def import_notebook(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `export` wrote.")],
    owner: Owner = "local",
) -> None:
    """Make a notebook of such a file. What cannot be used as it is, is made anew from the sources."""
    from sourcebook.portable import import_

    async def work(book: Sourcebook) -> dict[str, Any]:
        return await import_(book, await book.owners.operator(owner), file)

    done = common.with_book(common.configuration(context), work)
    say(f"{done['notebook_id']}: " + ", ".join(f"{n} {what}" for what, n in done["counts"].items()))
    if done["queued"]:
        say(f"{done['queued']} sources are ingested by the next worker that runs.")
