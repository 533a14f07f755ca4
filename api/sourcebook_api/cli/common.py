"""What the commands share: the configuration, one principal, and how things are said on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from sourcebook.hosts import with_book as with_book

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.configuration import Configuration
    from sourcebook.errors import SourcebookError
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Principal

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Owner = Annotated[str, typer.Option("--owner", help="Act for this owner.")]

AskPassword = Annotated[
    bool, typer.Option("--password", help="Ask for the files' password (or read it from stdin); it is never stored.")
]


def configuration(context: typer.Context, overrides: Mapping[str, Any] | None = None) -> Configuration:
    """The configuration that `--config` or the environment names."""
    from sourcebook.configuration import load

    path: Path | None = context.find_root().obj
    return load(path, overrides=overrides)


async def notebook_named(book: Sourcebook, principal: Principal, name: str, *, make: bool = False) -> Notebook:
    """By id or title; made when asked to. Raises `NotFound` with the titles that there are, `Conflict` for a title that
    several have: what is asked for may be their removal.
    """
    from sourcebook.errors import Conflict, NotFound

    found = await book.notebooks.named(principal, name)
    if len(found) > 1:
        ids = ", ".join(f"{n.id} (made {n.created_at:%Y-%m-%d %H:%M})" for n in found)
        raise Conflict(f"{len(found)} notebooks are called {name!r}: {ids}.", remedy="Name the one you mean by its id.")
    if found:
        return found[0]
    if make:
        return await book.create_notebook(principal, name)
    titles = ", ".join(repr(n.title) for n in (await book.notebooks.listing(principal, 10)).items) or "none yet"
    raise NotFound(f"There is no notebook {name!r}; there are: {titles}.", remedy="`sourcebook ingest` makes one.")


def asked_password() -> str:
    """From the terminal without an echo, else the first line of stdin: on a command line everybody could read it."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")


def say(text: str = "") -> None:
    """To the person: on stderr."""
    typer.echo(text, err=True)


def give(value: Any, *, as_json: bool) -> None:
    """The data: on stdout."""
    if as_json:
        typer.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(value)


def dim(text: str) -> str:
    """Faint on a terminal, plain elsewhere."""
    return typer.style(text, dim=True) if sys.stdout.isatty() else text


def audited(book: Sourcebook, action: str, **values: Any) -> None:
    """Write into the audit log what was done on the command line."""
    from sourcebook_api.audit import audit_of

    audit_of(book).command(action, **values)


@contextmanager
def telling(*, as_json: bool) -> Iterator[None]:
    """What fails inside is told on stderr, as ever, and where JSON is wanted as a problem object on stdout."""
    from sourcebook.errors import ConfigError, SourcebookError

    try:
        yield
    except SourcebookError as error:
        if not as_json:
            raise
        complain(error)
        give(error.problem(), as_json=True)
        raise typer.Exit(3 if isinstance(error, ConfigError) else 1) from error


def complain(error: SourcebookError) -> None:
    """An error as a sentence and a remedy; several mistakes in a configuration on a line each."""
    from sourcebook.config_errors import in_lines

    say(typer.style("error: ", fg="red", bold=True) + in_lines(error))
    if error.remedy:
        say(error.remedy)
