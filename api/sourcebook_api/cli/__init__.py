"""The `sourcebook` command. Data goes to stdout, progress to stderr; `--json` is for machines.

Exit codes: 0 done, 1 something failed (and was named), 2 wrong usage, 3 wrong configuration, 4 a server does not
answer, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sourcebook import __version__
from sourcebook_api.cli import (
    common,
    evaluating,
    indexing,
    looking,
    manage,
    operations,
    plugins,
    rereading,
    serving,
    work,
)

cli = typer.Typer(
    name="sourcebook",
    help="Answers from your own sources, cited to the character.",
    cls=plugins.WithPlugins,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: to import rich and its Markdown takes longer than all the rest
    pretty_exceptions_enable=False,
)


@cli.callback()
def options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration file.")] = None,
) -> None:
    """Answers from your own sources, cited to the character."""
    context.obj = config


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


cli.add_typer(evaluating.cli, name="eval")
work.add_to(cli)
rereading.add_to(cli)
serving.add_to(cli)
indexing.add_to(cli)
manage.add_to(cli)
operations.add_to(cli)
plugins.add_to(cli)
looking.add_to(cli)


def main() -> None:
    """The console script: turns our errors into a sentence, a remedy and an exit code."""
    from sourcebook.errors import ConfigError, SourcebookError

    try:
        cli()
    except ConfigError as error:
        common.complain(error)
        sys.exit(3)
    except SourcebookError as error:
        common.complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
