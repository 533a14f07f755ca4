"""The Model Context Protocol: notebooks as tools, resources and prompts for agents, over HTTP and on stdio.

The official SDK is the extra `mcp`, and is imported with the first request, or by the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sourcebook import CommandHost, RouteHost, hookimpl

if TYPE_CHECKING:
    import typer

API_VERSION = 1
NEEDS = {"mcp": "pip install 'sourcebook[mcp]'"}


@hookimpl
def register_routes(host: RouteHost) -> None:
    """Streamable HTTP at the plugin's mount, `/mcp` by default."""
    from sourcebook_plugins.mcp.over_http import add_to

    add_to(host)


@hookimpl
def register_commands(cli: typer.Typer, host: CommandHost) -> None:
    """`sourcebook mcp`."""
    from sourcebook_plugins.mcp.command import add_to

    add_to(cli, host)
