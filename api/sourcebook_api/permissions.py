"""What a key needs for a request, told by method and path alone, before anything else of it is read."""

from __future__ import annotations

import re

from starlette.routing import compile_path

from sourcebook.errors import PluginError
from sourcebook.owners import Permission

OPEN = frozenset({"/", "/livez", "/readyz", "/docs", "/openapi.json"})
"""Answered without a credential, to GET and HEAD; and so are signed links."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_ADMIN = re.compile(r"/api/v1/(?:keys|config)(?:/.*)?|/metrics")
_ASKING = re.compile(
    r"/api/v1/(?:search|chat|markdown|runs/[^/]+/cancel|messages/[^/]+/regenerate)|/v1/(?:chat/completions|embeddings)"
)
_LINK = re.compile(r"/open/[^/]+(?:/page\.png)?")
_OURS = re.compile(r"/(?:api/v1/(?!x/)|v1/|open/).*|/metrics")


def permission_for(method: str, path: str) -> Permission | None:
    """What a key needs for a route of ours; None for what is open to all."""
    if (path in OPEN or _LINK.fullmatch(path)) and method in ("GET", "HEAD"):
        return None
    if _ADMIN.fullmatch(path):
        return "admin"
    return "read" if method in SAFE or (method == "POST" and _ASKING.fullmatch(path)) else "write"


class Permissions:
    """The rules of our own routes, and what plugins said of theirs: no plugin can say anything of ours."""

    def __init__(self) -> None:
        self._theirs: list[tuple[str, re.Pattern[str], Permission | None]] = []

    def add(self, method: str, path: str, permission: Permission | None) -> None:
        """A rule for a plugin's route, whose `path` may hold parameters. Raises `PluginError` for a path of ours."""
        if _OURS.match(path):
            raise PluginError(f"{path} is not this plugin's to open or to close.")
        self._theirs.append((method, compile_path(path)[0], permission))

    def needed(self, method: str, path: str) -> Permission | None:
        """What a key needs; None for what is open to all."""
        if not _OURS.match(path):
            for theirs, pattern, permission in self._theirs:
                if theirs == method and pattern.match(path):
                    return permission
        return permission_for(method, path)
