"""Who did what: one line of JSON for every change and for every refusal, without a word of content.

A server that has no room for a request refuses nobody in particular: that is told by the access log alone.

Names of files and notebooks are content too, so an address is told by its route and the ids in it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from starlette.types import Scope

from sourcebook.app import Sourcebook
from sourcebook.database.engine import now
from sourcebook.owners import Principal
from sourcebook_api.audit_file import AuditFile

log = logging.getLogger("sourcebook.audit")

_ID = re.compile(r"[a-z]{1,12}_[0-9a-z]{26}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSALS = frozenset({401, 403, 421, 429})


def audit_of(book: Sourcebook) -> Audit:
    """The log that `[server] audit_log` names, relative to the data folder."""
    named = book.settings.server.audit_log
    return Audit(book.folder / named if named else None)


class Audit:
    """Appends to `file` (only its owner may read it; it is turned over at 10 MB, ten are kept), and to the log."""

    def __init__(self, file: Path | None) -> None:
        self._file = AuditFile(file) if file else None

    def record(self, scope: Scope, status: int, route: str) -> None:
        """One request that has been answered."""
        if scope["method"] in _SAFE and status not in _REFUSALS:
            return
        principal: Principal | None = scope["state"].get("principal")
        entry = {
            "at": now(),
            "request_id": scope["state"]["request_id"],
            "address": (scope.get("client") or ("",))[0],
            "owner": principal.name if principal else None,
            "owner_id": principal.owner_id if principal else None,
            "key_id": principal.key_id if principal else None,
            "action": f"{scope['method']} {route}",
            "ids": ids_in(scope["path"]),
            "status": status,
        }
        self._write(entry)

    def command(self, action: str, **values: Any) -> None:
        """What somebody did on the command line, who is whoever may read the data folder."""
        self._write({"at": now(), "address": "command line", "action": action, **values})

    def signal(self, action: str, **values: Any) -> None:
        """What a signal to this process did."""
        self._write({"at": now(), "address": "signal", "action": action, **values})

    def _write(self, entry: Mapping[str, Any]) -> None:
        log.info("%s", entry["action"], extra={"fields": {k: v for k, v in entry.items() if k not in ("at", "action")}})
        if self._file is None:
            return
        try:
            self._file.append(orjson.dumps(entry))
        except OSError as error:  # the request was served; what it did is in the log
            log.warning("the audit file cannot be written: %s", error)


def ids_in(path: str) -> list[str]:
    """The ids that an address names."""
    return [part for part in path.split("/") if _ID.fullmatch(part)]


def route_of(scope: Scope) -> str:
    """The route that answers, as `/api/v1/sources/{source_id}`; of an address that led to none, nothing is told."""
    if scope.get("route") is None:
        return "?"
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(names.get(part, part) for part in scope["path"].split("/"))
