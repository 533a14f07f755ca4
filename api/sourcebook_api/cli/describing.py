"""Every command with its arguments and options, read from the Typer application: `docs/cli.md` is made from it.

`python -m sourcebook_api.cli.describing > docs/cli.md`. A command, argument or option without a word of help fails the
suite, and so does a page that is not this version's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import typer

from sourcebook.configuration import load
from sourcebook.hosts import CommandHost
from sourcebook.plugins import Plugins
from sourcebook.settings import PluginSettings

_OURS = "sourcebook"
_HEAD = """\
# The command line

Data goes to stdout and progress to stderr; `--json` is for machines. A command works on the data folder of its
configuration, also beside a running server. `sourcebook COMMAND --help` prints what stands here.

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | something failed, and was named |
| 2 | wrong usage: an unknown option, a missing argument |
| 3 | the configuration is wrong |
| 130 | interrupted |
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Name and command, the application first; those that built-in plugins add come last. Groups before their own."""
    from sourcebook_api.cli import cli

    root: Any = typer.main.get_command(cli)
    yield from _below(_OURS, root)
    plugins = Plugins(PluginSettings())
    plugins.load(p for p in entry_points(group="sourcebook") if p.dist and p.dist.name == _OURS)
    theirs = typer.Typer(add_completion=False)
    theirs.callback()(lambda: None)  # so that it is a group, however many there are
    plugins.commands(theirs, partial(CommandHost, load(environ={})))
    added: Any = typer.main.get_command(theirs)
    for name, command in sorted(added.commands.items()):
        yield f"{_OURS} {name}", command


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{path} {name}", inner)


def named(parameter: Any) -> str:
    """As it is typed: `NOTEBOOK`, `--limit LIMIT`, `--json`."""
    if parameter.param_type_name == "argument":
        name = str(parameter.metavar or parameter.name.upper())
        return name if parameter.required or name.startswith("[") else f"[{name}]"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def helped(text: str | None) -> str:
    """A help text as one line."""
    return " ".join((text or "").split()).replace("|", "\\|")


def render() -> str:
    """`docs/cli.md`."""
    return _HEAD + "".join(_section(path, command) for path, command in commands())


def _section(path: str, command: Any) -> str:
    shown = [p for p in command.params if not p.hidden and p.name != "help"]
    lines = ["", f"## {path}", "", *_paragraphs(command.help)]
    if not hasattr(command, "commands"):
        arguments = [named(p) for p in shown if p.param_type_name == "argument"]
        options = ["[OPTIONS]"] if len(arguments) < len(shown) else []
        lines += ["", "```", " ".join([path, *arguments, *options]), "```"]
    if shown:
        lines += ["", "| | Default | Meaning |", "|---|---|---|", *map(_row, shown)]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str | None) -> list[str]:
    parts = [helped(part) for part in (text or "").split("\n\n")]
    return "\n\n".join(filter(None, parts)).split("\n")


def _row(parameter: Any) -> str:
    meaning = helped(parameter.help)
    if parameter.envvar:
        meaning += f" Also the environment variable `{parameter.envvar}`."
    return f"| `{named(parameter)}` | {_default(parameter)} | {meaning} |".replace("|  |", "| |")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    empty = parameter.is_flag if parameter.param_type_name == "option" else False
    return (
        "" if empty or parameter.default in (None, "", ()) or callable(parameter.default) else f"`{parameter.default}`"
    )


if __name__ == "__main__":
    sys.stdout.write(render())
