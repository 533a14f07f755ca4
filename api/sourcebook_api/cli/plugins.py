"""`plugins`, and the commands that plugins add."""

from __future__ import annotations

import dataclasses
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sourcebook.errors import PluginError
from sourcebook.hosts import CommandHost
from sourcebook_api.cli import common
from sourcebook_api.cli.common import Json, give, say

if TYPE_CHECKING:
    from sourcebook.configuration import Configuration
    from sourcebook.plugins import Plugins

COMMANDS = "sourcebook.commands"
"""The entry-point group that names commands: a plugin is loaded when one of its own is used, never for `--help`."""

plugins = typer.Typer(help="See, make and check plugins.", no_args_is_help=True)


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.add_typer(plugins, name="plugins")


class WithPlugins(TyperGroup):
    """The commands of Sourcebook, then those that installed distributions name in their metadata."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Ours, then theirs."""
        ours = super().list_commands(ctx)
        return [*ours, *sorted({p.name for p in entry_points(group=COMMANDS)} - set(ours))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command of ours, or else one that stands for a plugin's until it is used."""
        found = super().get_command(ctx, cmd_name)
        point = next((p for p in entry_points(group=COMMANDS) if p.name == cmd_name), None) if found is None else None
        return found if point is None else _stand_in(point)


def _stand_in(point: EntryPoint) -> Any:
    """Takes every argument, loads the plugins, and hands them to the command that one of them adds."""
    name, distribution = point.name, point.dist.name if point.dist else "unknown"
    app = typer.Typer(add_completion=False)

    @app.command(
        name,
        help=f"Added by {distribution}." if distribution != "sourcebook" else f"Added by the plugin {name}.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def run(context: typer.Context) -> None:
        configuration = common.configuration(context)
        found = _load(configuration)
        theirs = typer.Typer(add_completion=False)
        theirs.callback()(lambda: None)  # so that it is a group, however many there are
        found.commands(theirs, partial(CommandHost, configuration))
        if name not in {c.name or getattr(c.callback, "__name__", "") for c in theirs.registered_commands}:
            raise _no_command(name, distribution, found)
        typer.main.get_command(theirs).main([name, *context.args], prog_name="sourcebook")

    return typer.main.get_command(app)


def _no_command(name: str, distribution: str, found: Plugins) -> PluginError:
    """Why the plugin that should have added a command did not."""
    mine = [i for i in found.infos.values() if i.distribution == distribution]
    info = next((i for i in mine if i.name == name), mine[0] if mine else None)
    why = f"it is {info.state}: {info.reason}" if info and info.reason else "it adds no such command"
    built_in = info is not None and info.built_in
    remedy = "" if built_in else f'Name it in the configuration: [plugins] enabled = ["{distribution}"].'
    return PluginError(
        f"The command {name!r} is the plugin {info.name if info else distribution}'s, and {why}.", remedy=remedy
    )


@plugins.command("list")
def list_plugins(context: typer.Context, json: Json = False) -> None:
    """Every plugin that is installed: active, off or failed, and why."""
    found = _load(common.configuration(context)).shown()
    if json:
        give([dataclasses.asdict(i) for i in found], as_json=True)
        return
    for i in found:
        parts = ", ".join(f"{kind}: {' '.join(names)}" for kind, names in i.components.items())
        typer.echo(f"{i.name:<14} {i.state:<7} {i.distribution} {i.version}  {parts or i.reason or ' '.join(i.hooks)}")
        for line in (*i.overrides, *i.warnings):
            typer.echo(common.dim(f"{'':<22} {line}"))


@plugins.command("show")
def show_plugin(
    context: typer.Context, name: Annotated[str, typer.Argument(help="As `plugins list` shows it.")]
) -> None:
    """One plugin, whole, with the JSON schema of every component's settings."""
    found = _load(common.configuration(context))
    info = found.infos.get(name)
    if info is None:
        say(f"There is no plugin {name!r}; there are: {', '.join(found.infos)}.")
        raise typer.Exit(1)
    schemas = {
        kind: {component: found.component(kind, component).Settings.model_json_schema() for component in names}
        for kind, names in info.components.items()
    }
    give({**dataclasses.asdict(info), "settings": schemas}, as_json=True)


@plugins.command("new")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The distribution's name, such as my-parser.")],
    kind: Annotated[str, typer.Option(help="parser, chunker, embedder, retriever, reranker, llm, fetcher or routes.")],
    into: Annotated[Path, typer.Option(help="The folder to make it in.")] = Path(),
) -> None:
    """Write a complete small plugin: its module, tests that pass, and metadata."""
    from sourcebook.scaffolding import write

    written = write(name, kind, into)
    for path in written:
        typer.echo(str(path))
    folder = written[0].parent
    say(f"Install it, and run its tests:  pip install -e '{folder}[test]' && pytest {folder}")
    say(f'Then enable it:                 [plugins] enabled = ["{name}"]')


@plugins.command("check")
def check_plugin(
    context: typer.Context,
    distribution: Annotated[str, typer.Argument(help="An installed plugin; it is loaded, enabled or not.")],
    samples: Annotated[Path | None, typer.Option(help="A folder with files that its parsers read.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that one call of a component may take.", min=0.1)] = 30.0,
    json: Json = False,
) -> None:
    """Run the contract of every component of an installed plugin; exits with 1 where one is broken."""
    from sourcebook.testing.checking import check

    report = check(common.configuration(context), distribution, samples, deadline)
    if json:
        give(dataclasses.asdict(report), as_json=True)
    else:
        typer.echo(f"{report.plugin} {report.version}: imported in {report.import_ms:.0f} ms (should be under 20)")
        for row in report.rows:
            typer.echo(f"{row.component:<28} {row.passed:>3} passed {row.failed:>3} failed {row.skipped:>3} not run")
            for failure in row.failures:
                typer.echo(f"    FAILED {failure}")
            for reason in row.reasons:
                typer.echo(common.dim(f"    not run: {reason}"))
    if not report.ok:
        raise typer.Exit(1)


def _load(configuration: Configuration) -> Plugins:
    from sourcebook.plugins import Plugins

    found = Plugins(configuration.settings.plugins)
    found.load()
    return found
