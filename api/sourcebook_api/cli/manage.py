"""`notebooks`, `keys`, `config` and `doctor`: looking after an installation."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import Json, Owner, audited, give, say

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.configuration import Configuration
    from sourcebook.doctor import Finding
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Key
    from sourcebook.plugins import Plugins
    from sourcebook.specs import Standing

notebooks = typer.Typer(help="List and remove notebooks.", no_args_is_help=True)
keys = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True)
config = typer.Typer(help="Begin, check and show the configuration.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its title or id.")]


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for group, name in ((notebooks, "notebooks"), (keys, "keys"), (config, "config")):
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


@config.command("check")
def check_config(context: typer.Context) -> None:
    """Read every layer and validate every instance; starts nothing. Names all mistakes at once."""
    from sourcebook.config_check import check
    from sourcebook.configuration import Layers, read
    from sourcebook.http import Http
    from sourcebook.pipelines import Pipelines

    settings, wrong = read(Layers(context.find_root().obj))
    check(settings, wrong, Pipelines(_loaded(settings), settings, settings.settings.storage.path, Http()))
    say("The configuration is valid: " + (", ".join(map(str, settings.files)) or "packaged defaults"))


@config.command("schema")
def schema_of_config(context: typer.Context) -> None:
    """The JSON schema of the configuration, with the settings of every installed component, for an editor."""
    from sourcebook.config_schema import config_schema

    give(config_schema(_loaded(common.configuration(context)).classes), as_json=True)


@config.command("init")
def init_config(
    folder: Annotated[Path, typer.Argument(help="Where the two files are written.")] = Path(),
) -> None:
    """Write sourcebook.toml, which names every key with its default, and secrets.toml, which only you may read."""
    from sourcebook.errors import Conflict

    secrets = "".join(line if line[0] in "#\n" else f"#{line}" for line in _example("secrets.example.toml"))
    texts = {"sourcebook.toml": ("".join(_example("sourcebook.toml")), 0o644), "secrets.toml": (secrets, 0o600)}
    if there := [str(folder / name) for name in texts if (folder / name).exists()]:
        raise Conflict(f"There is already {' and '.join(there)}.", remedy="Move it away, or name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (text, mode) in texts.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        say(f"Wrote {folder / name}")


def _example(name: str) -> list[str]:
    """The lines of a file in `config/`, which a wheel has beside this package."""
    packaged = Path(__file__).parents[1] / "config" / name
    checkout = Path(__file__).parents[3] / "config" / name
    return (packaged if packaged.exists() else checkout).read_text("utf-8").splitlines(keepends=True)


def _loaded(settings: Configuration) -> Plugins:
    from sourcebook.plugins import Plugins

    found = Plugins(settings.settings.plugins)
    found.load()
    return found


@config.command("show")
def show_config(context: typer.Context, json: Json = False) -> None:
    """Every value with the layer that set it; secrets are masked."""
    settings = common.configuration(context)
    if json:
        give(settings.shown(), as_json=True)
        return
    for path, value in _flat(settings.shown(), ""):
        origin = settings.origins.get(path, "default")
        typer.echo(f"{path} = {value!r}  {common.dim(f'# {origin}')}")


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{path}.{key}" if path else key)]
    return [(path, value)]


def doctor(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended, and wait until it is.")] = False,
    json: Json = False,
) -> None:
    """Check the stores against each other, and this machine.

    Exits with 1 where something is wrong; with --repair, where something is that could not be mended.
    """

    async def work(book: Sourcebook) -> list[Finding]:
        from sourcebook.doctor import examine

        return [finding async for finding in examine(book, repair=repair)]

    findings = common.with_book(common.configuration(context), work, workers=None if repair else 0)
    if json:
        give([dataclasses.asdict(f) for f in findings], as_json=True)
    else:
        for f in findings:
            word = "ok  " if f.ok else "DONE" if f.repaired else "FAIL"
            typer.echo(f"{word}  {f.check}: {f.detail}" + (f" - {f.repaired}" if f.repaired else ""))
    if not all(f.ok or f.repaired for f in findings):
        raise typer.Exit(1)
