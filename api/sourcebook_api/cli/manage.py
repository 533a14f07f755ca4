"""`notebooks`, `keys`, `plugins`, `config` and `doctor`: looking after an installation."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import Json, Owner, give, say

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.configuration import Configuration
    from sourcebook.doctor import Finding
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Key

notebooks = typer.Typer(help="List and remove notebooks.", no_args_is_help=True)
keys = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True)
plugins = typer.Typer(help="See which plugins there are, and what each adds.", no_args_is_help=True)
config = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for group, name in ((notebooks, "notebooks"), (keys, "keys"), (plugins, "plugins"), (config, "config")):
        cli.add_typer(group, name=name)
    cli.command()(doctor)


@notebooks.command("list")
def list_notebooks(context: typer.Context, owner: Owner = "local", json: Json = False) -> None:
    """Every notebook, newest first."""

    async def work(book: Sourcebook) -> list[Notebook]:
        principal = await common.principal_of(book, owner)
        found: list[Notebook] = []
        cursor: str | None = None
        while True:
            part = await book.notebooks.listing(principal, 100, cursor)
            found += part.items
            cursor = part.next_cursor
            if cursor is None:
                return found

    found = common.with_book(common.configuration(context), work)
    if json:
        give([dataclasses.asdict(n) for n in found], as_json=True)
        return
    for n in found:
        typer.echo(f"{n.id}  {n.title}")


@notebooks.command("remove")
def remove_notebook(context: typer.Context, notebook: str, owner: Owner = "local") -> None:
    """Delete a notebook and everything in it."""

    async def work(book: Sourcebook) -> None:
        principal = await common.principal_of(book, owner)
        await book.sources.delete_notebook(principal, await common.notebook_named(book, principal, notebook))

    common.with_book(common.configuration(context), work)
    say(f"{notebook!r} is gone; its sources are removed by the next worker that runs.")


@keys.command("create")
def create_key(
    context: typer.Context,
    owner: Owner = "local",
    permission: Annotated[list[str] | None, typer.Option(help="read, write or admin; may be repeated.")] = None,
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
        return await book.owners.create_key(owner, permission or ["read", "write"], name, expires, limits)

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
def revoke_key(context: typer.Context, key_id: str) -> None:
    """Switch a key off, for good."""
    common.with_book(common.configuration(context), lambda book: book.owners.revoke(key_id))
    say(f"{key_id} is revoked.")


@plugins.command("list")
def list_plugins(context: typer.Context, json: Json = False) -> None:
    """Every plugin that is installed: active, off or failed, and why."""
    found = _loaded(common.configuration(context))
    if json:
        give([dataclasses.asdict(i) for i in found], as_json=True)
        return
    for i in found:
        parts = ", ".join(f"{kind}: {' '.join(names)}" for kind, names in i.components.items())
        typer.echo(f"{i.name:<14} {i.state:<7} {i.distribution} {i.version}  {parts or i.reason}")


@plugins.command("show")
def show_plugin(context: typer.Context, name: str) -> None:
    """One plugin, whole."""
    for info in _loaded(common.configuration(context)):
        if info.name == name:
            give(dataclasses.asdict(info), as_json=True)
            return
    say(f"There is no plugin {name!r}.")
    raise typer.Exit(1)


def _loaded(settings: Configuration) -> list[Any]:
    from sourcebook.plugins import Plugins

    found = Plugins(settings.settings.plugins)
    found.load()
    return list(found.infos.values())


@config.command("check")
def check_config(context: typer.Context) -> None:
    """Read every layer and validate every instance; starts nothing."""
    from sourcebook.http import Http
    from sourcebook.pipelines import Pipelines
    from sourcebook.plugins import Plugins

    settings = common.configuration(context)
    found = Plugins(settings.settings.plugins)
    found.load()
    Pipelines(found, settings, settings.settings.storage.path, Http()).check()
    say("The configuration is valid: " + (", ".join(map(str, settings.files)) or "packaged defaults"))


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


def doctor(context: typer.Context, json: Json = False) -> None:
    """Check the stores against each other, and this machine; exits with 1 where something is wrong."""

    async def work(book: Sourcebook) -> list[Finding]:
        from sourcebook.doctor import examine

        return [finding async for finding in examine(book)]

    findings = common.with_book(common.configuration(context), work)
    if json:
        give([dataclasses.asdict(f) for f in findings], as_json=True)
    else:
        for f in findings:
            typer.echo(f"{'ok  ' if f.ok else 'FAIL'}  {f.check}: {f.detail}")
    if not all(f.ok for f in findings):
        raise typer.Exit(1)
