"""`notebooks`, `keys` and `doctor`: looking after an installation."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from sourcebook_api.cli import common, configuring
from sourcebook_api.cli.common import Json, Owner, audited, give, say
from sourcebook_api.cli.configuring import UNREACHABLE, Connect, answers, list_findings

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.doctor import Finding
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Key
    from sourcebook.specs import Standing

notebooks = typer.Typer(help="List and remove notebooks.", no_args_is_help=True)
keys = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its title or id.")]


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for group, name in ((notebooks, "notebooks"), (keys, "keys"), (configuring.config, "config")):
        cli.add_typer(group, name=name)
    cli.command()(doctor)


@notebooks.command("list")
def list_notebooks(context: typer.Context, owner: Owner = "local", json: Json = False) -> None:
    """Every notebook, newest first."""

    async def work(book: Sourcebook) -> tuple[list[Notebook], dict[str, Standing]]:
        principal = await book.owners.operator(owner)
        found: list[Notebook] = []
        cursor: str | None = None
        while True:
            part = await book.notebooks.listing(principal, 100, cursor)
            found += part.items
            cursor = part.next_cursor
            if cursor is None:
                return found, await book.specs.standing(found)

    found, standings = common.with_book(common.configuration(context), work)
    if json:
        give([{**dataclasses.asdict(n), "stale": standings[n.id].stale} for n in found], as_json=True)
        return
    for n in found:
        changed = " and ".join(standings[n.id].changed)
        typer.echo(
            f"{n.id}  {n.title}" + (f"  (stale: {changed} changed; see `sourcebook reindex`)" if changed else "")
        )


@notebooks.command("remove")
def remove_notebook(context: typer.Context, notebook: Name, owner: Owner = "local") -> None:
    """Delete a notebook and everything in it."""

    async def work(book: Sourcebook) -> None:
        principal = await book.owners.operator(owner)
        found = await common.notebook_named(book, principal, notebook)
        await book.sources.delete_notebook(principal, found)
        audited(book, "notebooks remove", owner=owner, ids=[found.id])

    common.with_book(common.configuration(context), work)
    say(f"{notebook!r} is gone; its sources are removed by the next worker that runs.")


@notebooks.command("share")
def share_notebook(
    context: typer.Context,
    notebook: Name,
    other: Annotated[str, typer.Argument(help="The other owner.")],
    owner: Owner = "local",
    write: Annotated[bool, typer.Option("--write", help="Let them write into it too.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Share it no longer.")] = False,
) -> None:
    """Let another owner read a notebook, by its id or title, or write into it."""

    async def work(book: Sourcebook) -> None:
        principal = await book.owners.operator(owner)
        found = await common.notebook_named(book, principal, notebook)
        other_id = await book.owners.find(other)
        if stop:
            await book.notebooks.unshare(principal, found.id, other_id)
        else:
            await book.notebooks.share(principal, found.id, other_id, "write" if write else "read")
        audited(book, "notebooks share", owner=owner, ids=[found.id], other=other, write=write, stop=stop)

    common.with_book(common.configuration(context), work)
    how = "no longer shared" if stop else "shared for writing" if write else "shared for reading"
    say(f"{notebook!r} is {how} with {other}.")


@keys.command("create")
def create_key(
    context: typer.Context,
    owner: Owner = "local",
    permission: Annotated[
        list[str] | None, typer.Option(help="read, write or admin; may be repeated; without: read and write.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; without: never.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    requests: Annotated[int | None, typer.Option(min=0, help="Requests a minute; without: the server's limit.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=0, help="Requests at a time; without: the server's.")] = None,
    json: Json = False,
) -> None:
    """Make a key. Its secret is shown once, here. A key for `local` has what was made without keys."""
    given = {"requests": requests, "concurrent": concurrent}
    limits = {limit: value for limit, value in given.items() if value is not None}
    expires = datetime.now(UTC) + timedelta(days=days) if days else None

    async def work(book: Sourcebook) -> tuple[Key, str]:
        made = await book.owners.create_key(owner, permission or ["read", "write"], name, expires, limits)
        audited(book, "keys create", owner=owner, key_id=made[0].id, permissions=made[0].permissions)
        return made

    key, secret = common.with_book(common.configuration(context), work)
    if json:
        give({**dataclasses.asdict(key), "secret": secret}, as_json=True)
        return
    say(f"{key.id} for {key.owner}: {', '.join(key.permissions)}. The secret is shown this once:")
    typer.echo(secret)


@keys.command("list")
def list_keys(context: typer.Context, json: Json = False) -> None:
    """Every key, without its secret."""
    found = common.with_book(common.configuration(context), lambda book: book.owners.list_keys())
    if json:
        give([dataclasses.asdict(k) for k in found], as_json=True)
        return
    for k in found:
        state = "revoked" if k.revoked_at else f"expires {k.expires_at:%Y-%m-%d}" if k.expires_at else "active"
        used = f"used {k.used_at:%Y-%m-%d %H:%M}" if k.used_at else "never used"
        typer.echo(f"{k.id}  {k.owner}  {','.join(k.permissions)}  {state}  {used}  {k.name}")


@keys.command("revoke")
def revoke_key(context: typer.Context, key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Switch a key off, for good."""

    async def work(book: Sourcebook) -> None:
        await book.owners.revoke(key_id)
        audited(book, "keys revoke", key_id=key_id)

    common.with_book(common.configuration(context), work)
    say(f"{key_id} is revoked.")


def doctor(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended, and wait until it is.")] = False,
    connect: Connect = False,
    json: Json = False,
) -> None:
    """Check the stores against each other, and this machine.

    Exits with 1 where something is wrong; with --repair, where something is that could not be mended. With --connect,
    every server that the configuration names is asked first; where one does not answer, that is all, with exit code 4.
    """

    async def work(book: Sourcebook) -> list[Finding]:
        from sourcebook.doctor import examine

        return [finding async for finding in examine(book, repair=repair)]

    settings = common.configuration(context)
    findings = answers(settings) if connect else []
    if all(f.ok for f in findings):
        findings += common.with_book(settings, work, workers=None if repair else 0)
        code = 1
    else:
        code = UNREACHABLE
    if json:
        give([dataclasses.asdict(f) for f in findings], as_json=True)
    else:
        list_findings(findings)
    if not all(f.ok or f.repaired for f in findings):
        raise typer.Exit(code)
