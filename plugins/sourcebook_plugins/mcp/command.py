"""`sourcebook mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from sourcebook import CommandHost


def add_to(cli: typer.Typer, host: CommandHost) -> None:
    """Add the command."""

    @cli.command("mcp")
    def serve(
        owner: Annotated[str, typer.Option("--owner", help="Act for this owner, where no key is given.")] = "local",
        workers: Annotated[int | None, typer.Option(min=0, help="Ingestion workers in this process.")] = None,
    ) -> None:
        """Serve MCP on stdin and stdout, for a client that starts this command itself.

        With a key in the environment variable SOURCEBOOK_KEY, it can do what that key may; without one, all that the
        owner may.
        """
        from sourcebook_plugins.mcp.over_stdio import run

        run(host, owner, workers)
