"""The page: notebooks for people, on the public API alone.

Plain files, served as they lie in `static/`: no build step, no script of anybody else, nothing from another host.
"""

from __future__ import annotations

from sourcebook import RouteHost, hookimpl

API_VERSION = 1


@hookimpl
def register_routes(host: RouteHost) -> None:
    """The page at the plugin's mount, `/` by default, and its files below `static/`."""
    from sourcebook_plugins.webui.serving import add_to

    add_to(host)
