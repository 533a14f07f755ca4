"""One line and one span a request, ended with its last byte: what was asked by its route, never by its words."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.types import Scope

from sourcebook.owners import Principal
from sourcebook.steps import Tracer, inside, root
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


@contextmanager
def traced(tracer: Tracer, scope: Scope, headers: Mapping[str, str], out: Outgoing) -> Iterator[None]:
    """A step around the request, below the client's own where it names one."""
    state = scope["state"]
    parent = tracer.extract(headers)
    request = root("request", "request", tracer, None, parent, method=scope["method"], request_id=state["request_id"])
    try:
        with inside(request):
            yield
    finally:
        principal: Principal | None = state.get("principal")
        request.tell(route=route_of(scope), status=out.status, owner_id=principal.owner_id if principal else None)
        request.end(str(out.status) if out.status >= 500 else "")
