"""One line a request, when it has been answered to the last byte: what was asked by its route, never by its words."""

from __future__ import annotations

import logging
import time

from starlette.types import Scope

from sourcebook.owners import Principal
from sourcebook_api.audit import route_of
from sourcebook_api.exchange import Outgoing

log = logging.getLogger("sourcebook.access")

_OFTEN = frozenset({"/livez", "/readyz", "/metrics"})
"""What machines ask every few seconds: told at `debug` alone."""


def told(scope: Scope, out: Outgoing, began: float) -> None:
    """Log it. A stream's seconds and bytes are those of all of it; a client that went away leaves the status."""
    route = route_of(scope)
    level = logging.DEBUG if route in _OFTEN else logging.INFO
    if not log.isEnabledFor(level):
        return
    principal: Principal | None = scope["state"].get("principal")
    fields = {
        "method": scope["method"],
        "route": route,
        "status": out.status,
        "seconds": round(time.perf_counter() - began, 4),
        "bytes": out.bytes,
        "owner_id": principal.owner_id if principal else None,
    }
    log.log(level, "%s %s %d", scope["method"], route, out.status, extra={"fields": fields})
