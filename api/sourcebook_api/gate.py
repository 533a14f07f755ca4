"""What every request passes before a byte of its body is read: plain ASGI, since anything later comes too late.

In this order: Host, Origin, no key in the address, room for one more, who asks, how often, what they may, how large,
and whose turn it is. Whatever the routes let through as an exception ends here too, and what was done is written into
the audit log.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from sourcebook.about import about
from sourcebook.app import Sourcebook
from sourcebook.elsewhere import PLACE
from sourcebook.errors import Forbidden, InvalidInput, SourcebookError, StoreError, Unauthenticated
from sourcebook.owners import Principal
from sourcebook_api.access_log import told, traced
from sourcebook_api.audit import Audit, route_of
from sourcebook_api.authentication import Authenticator
from sourcebook_api.exchange import Incoming, Outgoing, refuse, too_large
from sourcebook_api.hosts import Hosts
from sourcebook_api.limits import Limiter
from sourcebook_api.openai_errors import OpenAIErrors
from sourcebook_api.permissions import SAFE, Permissions
from sourcebook_api.places import Overloaded
from sourcebook_api.problems import ProblemResponse, internal, response_of
from sourcebook_api.proxies import Proxies
from sourcebook_api.revoking import StillValid

log = logging.getLogger(__name__)

_UPLOAD = re.compile(
    r"POST /api/v1/notebooks/[^/]+/sources|PUT /api/v1/notebooks/[^/]+/sources/[^/]+|PUT /api/v1/sources/[^/]+/content"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY_NAMES = frozenset({"access_token", "api-key", "api_key", "apikey", "authorization", "x-api-key"})
_KEY = re.compile(r"sbk_[\w-]{8}")
# While the server stops, and however much it has to do: what is known of answers that are still being made, their end
# where nobody wants them any more, and what is counted.
_GOES_ON = re.compile(r"/api/v1/runs/.*|/metrics")
_RECHECK = 15.0  # seconds between two looks at the key of an open stream
_ALLOWED = (
    b"authorization, content-type, idempotency-key, if-match, if-none-match, if-range, last-event-id, range, "
    b"x-api-key, x-request-id"
)
_EXPOSED = (
    b"content-disposition, content-location, content-range, etag, idempotency-replayed, location, ratelimit-limit, "
    b"ratelimit-remaining, ratelimit-reset, retry-after, x-request-id"
)


class Gate:
    """The outermost application."""

    def __init__(
        self,
        app: ASGIApp,
        book: Sourcebook,
        hosts: Hosts,
        proxies: Proxies,
        authenticator: Authenticator,
        limiter: Limiter,
        audit: Audit,
        permissions: Permissions,
        stopping: asyncio.Event,
    ) -> None:
        self._app = app
        self._book = book
        self._hosts = hosts
        self._proxies = proxies
        self._authenticator = authenticator
        self._limiter = limiter
        self._audit = audit
        self._permissions = permissions
        self._stopping = stopping
        self._recheck = _RECHECK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Lifespan messages pass; there are no web sockets."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        request_id = _request_id(headers)
        if scope["path"].startswith("/v1/"):
            send = OpenAIErrors(send).send
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "principal": None}
        self._proxies.resolve(scope, headers)
        out = Outgoing(send, request_id, self._cors(headers))
        with ExitStack() as ending:
            ending.enter_context(about(request_id=request_id))
            if self._book.tracer is not None:
                ending.enter_context(traced(self._book.tracer, scope, headers, out))
            ending.callback(told, scope, out, time.perf_counter(), self._book.metrics)
            ending.callback(self._audit_it, scope, out)
            try:
                self._check_address(scope, headers)
                if self._is_preflight(scope, headers):
                    await _preflight(out)
                    return
                asked = await self._check_caller(scope, headers, out, ending)
                limit = self._limit(scope, headers)
                if asked is not None and not _GOES_ON.fullmatch(scope["path"]):
                    await self._take_place(asked, out, ending)
            except SourcebookError as error:
                out.busy = isinstance(error, Overloaded)
                await refuse(response_of(error, request_id), receive, out.send, headers)
                return
            except Exception:  # a check that breaks lets nobody through, and tells nobody why
                log.exception("request %s could not be checked", request_id)
                await refuse(ProblemResponse(internal(request_id)), receive, out.send, headers)
                return
            out.incoming = Incoming(receive, limit, out.place)
            principal: Principal | None = scope["state"]["principal"]
            if principal is None or principal.local:
                await self._serve(scope, out.incoming, out, request_id)
                return
            again = partial(self._authenticator.principal, headers)
            async with StillValid(again, lambda: out.streams, self._recheck) as key:
                await self._serve(scope, out.incoming, out, request_id)
            if key.revoked:
                await out.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _serve(self, scope: Scope, incoming: Incoming, out: Outgoing, request_id: str) -> None:
        """Run the routes. What they raise is logged here and told to nobody."""
        try:
            await self._app(scope, incoming.receive, out.send)
        except ClientDisconnect:
            return
        except Exception:
            if out.started:
                raise  # the server breaks the connection: the client must not take this for the end
            if not incoming.over:
                log.exception("request %s failed: %s %s", request_id, scope["method"], route_of(scope))
                await ProblemResponse(internal(request_id))(scope, incoming.receive, out.send)
                return
        if incoming.over and not out.started:
            incoming.over = False  # our own answer may pass
            error = too_large(incoming.limit)
            await refuse(response_of(error, request_id), incoming.source, out.send, _headers(scope))

    def _audit_it(self, scope: Scope, out: Outgoing) -> None:
        if not out.busy:  # nobody did anything, and nobody was told that they may not
            self._audit.record(scope, out.status, route_of(scope))

    def _check_address(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if not host:
            raise InvalidInput("The request has no Host header.", code="no_host")
        if not self._hosts.allowed(host):
            raise InvalidInput(
                "This server does not answer to the name in the Host header.",
                code="host_not_allowed",
                remedy="Add the name to `allowed_hosts` under [server].",
            )
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in SAFE and not self._hosts.may_change(origin, host):
            raise Forbidden(
                "Pages of this origin may not change anything here.",
                code="origin_not_allowed",
                remedy="Add the origin to `allowed_origins` under [server].",
            )
        query = scope.get("query_string", b"").decode("latin-1")
        if query and any(n.lower() in _KEY_NAMES or _KEY.search(v) for n, v in parse_qsl(query, True)):
            raise InvalidInput(
                "Keys do not belong into addresses, which end up in logs.",
                code="key_in_query",
                remedy="Send `Authorization: Bearer <key>`, and revoke this key.",
            )

    async def _check_caller(
        self, scope: Scope, headers: Mapping[str, str], out: Outgoing, ending: ExitStack
    ) -> Principal | None:
        """Who asks, whether they may, and whether they have asked too much. None: what is open to all."""
        needed = self._permissions.needed(scope["method"], scope["path"])
        if needed is None:
            scope["state"]["principal"] = await self._authenticator.maybe(headers)
            return None
        if self._stopping.is_set() and not _GOES_ON.fullmatch(scope["path"]):
            out.add({b"connection": b"close"})
            raise StoreError("This server is stopping, and takes nothing new.", code="stopping", retry_after=1)
        self._limiter.admit()
        ending.callback(self._limiter.dismiss)
        principal: Principal = await self._principal(scope, headers)
        scope["state"]["principal"] = principal
        entered = await self._limiter.enter(principal)
        ending.callback(entered.leave)
        out.add(entered.headers)
        if not principal.may(needed):
            raise Forbidden(f"This key lacks the permission `{needed}`.", needed=needed)
        await self._book.plugins.authorize(principal, needed, None)
        return principal

    async def _take_place(self, principal: Principal, out: Outgoing, ending: ExitStack) -> None:
        """Wait until it is this request's turn. Raises `Overloaded`."""
        out.place = await self._limiter.place(principal)
        ending.callback(out.place.leave)
        ending.callback(PLACE.reset, PLACE.set(out.place))

    async def _principal(self, scope: Scope, headers: Mapping[str, str]) -> Principal:
        try:
            return await self._authenticator.principal(headers)
        except Unauthenticated:
            if "authorization" in headers or "x-api-key" in headers:
                await self._limiter.refused((scope.get("client") or ("",))[0])
            raise

    def _limit(self, scope: Scope, headers: Mapping[str, str]) -> int:
        """How large this body may be. Raises `TooLarge` where it says itself that it is larger."""
        server = self._book.settings.server
        upload = _UPLOAD.fullmatch(f"{scope['method']} {scope['path']}")
        limit = server.max_upload if upload else server.max_body
        if int(headers.get("content-length") or 0) > limit:
            raise too_large(limit)
        return limit

    def _cors(self, headers: Mapping[str, str]) -> dict[bytes, bytes]:
        """A page of a listed origin may read the answer. No cookies exist, so none are allowed."""
        origin = headers.get("origin", "")
        if not self._hosts.listed(origin):
            return {}
        return {
            b"access-control-allow-origin": origin.encode("latin-1"),
            b"access-control-expose-headers": _EXPOSED,
            b"cross-origin-resource-policy": b"cross-origin",
            b"vary": b"Origin",
        }

    def _is_preflight(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        asks = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        return asks and self._hosts.listed(headers.get("origin", ""))


async def _preflight(out: Outgoing) -> None:
    """The browser's question before a page of a listed origin may send its request."""
    allowed = [
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
        (b"access-control-allow-headers", _ALLOWED),
        (b"access-control-max-age", b"600"),
    ]
    await out.send({"type": "http.response.start", "status": 204, "headers": allowed})
    await out.send({"type": "http.response.body", "body": b""})


def _headers(scope: Scope) -> dict[str, str]:
    """Lower-case names; several of one name are joined, so that a second `Authorization` makes both void."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _request_id(headers: Mapping[str, str]) -> str:
    """The client's own where it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
