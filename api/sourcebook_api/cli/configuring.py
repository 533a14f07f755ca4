"""`config`: begin, check and show the configuration."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import Json, give, say

if TYPE_CHECKING:
    from sourcebook.configuration import Configuration
    from sourcebook.doctor import Finding
    from sourcebook.plugins import Plugins

Connect = Annotated[bool, typer.Option("--connect", help="Ask every server that the configuration names.")]
UNREACHABLE = 4
"""The exit code where one of them does not answer."""

config = typer.Typer(help="Begin, check and show the configuration.", no_args_is_help=True)


@config.command("check")
def check_config(context: typer.Context, connect: Connect = False, json: Json = False) -> None:
    """Read every layer and validate every instance; starts nothing. Names all mistakes at once.

    With --connect, also ask every server that it names; exits with 4 where one does not answer.
    """
    from sourcebook.config_check import check
    from sourcebook.configuration import Layers, read
    from sourcebook.http import Http
    from sourcebook.pipelines import Pipelines

    with common.telling(as_json=json):
        settings, wrong = read(Layers(context.find_root().obj))
        check(settings, wrong, Pipelines(_loaded(settings), settings, settings.settings.storage.path, Http()))
    findings = answers(settings) if connect else []
    if json:
        shown = [dataclasses.asdict(f) for f in findings]
        give({"files": [str(file) for file in settings.files], "connections": shown}, as_json=True)
    else:
        list_findings(findings)
    if not all(f.ok for f in findings):
        raise typer.Exit(UNREACHABLE)
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
    """Every value with the layer that set it; secrets are masked.

    Where a value is not valid, the default is shown in its place, and every mistake is named at the end.
    """
    from sourcebook.config_errors import raise_all
    from sourcebook.configuration import Layers, read

    with common.telling(as_json=json):
        settings, wrong = read(Layers(context.find_root().obj))
        if json:
            raise_all(wrong)
            give(settings.shown(), as_json=True)
            return
        told = {issue["key"] for error in wrong for issue in error.details["issues"]}
        for path, value in _flat(settings.shown(), ""):
            origin = settings.origins.get(path, "default")
            if any(f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}.") for key in told):
                origin = f"default: not valid in {origin}"
            typer.echo(f"{path} = {value!r}  {common.dim(f'# {origin}')}")
        raise_all(wrong)


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{path}.{key}" if path else key)]
    return [(path, value)]


def answers(settings: Configuration) -> list[Finding]:
    """What every server of the configuration has to say."""
    from sourcebook.connecting import connections

    found = asyncio.run(connections(settings))
    if not found:
        say("The configuration names no server to connect to.")
    return found


def list_findings(findings: Sequence[Finding]) -> None:
    """A line each, with what to do where there is something."""
    for f in findings:
        word = "ok  " if f.ok else "DONE" if f.repaired else "FAIL"
        typer.echo(f"{word}  {f.check}: {f.detail}" + (f" - {f.repaired}" if f.repaired else ""))
        if not f.ok and f.data.get("remedy"):
            typer.echo(f"      {f.data['remedy']}")
