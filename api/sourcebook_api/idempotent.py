"""`Idempotency-Key` on every call that makes something: a retry gets the first answer, and nothing is made twice.

Plain ASGI behind the gate, so that a route need know nothing of it. The body is hashed as it streams through, and never
held.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sourcebook.app import Sourcebook
from sourcebook.errors import Conflict, InvalidInput, SourcebookError
from sourcebook.idempotency import BEAT, Claim, Kept
from sourcebook.owners import Principal
from sourcebook_api.problems import response_of

log = logging.getLogger(__name__)

HEADER = "idempotency-key"
REPLAYED = "idempotency-replayed"

_KEY = re.compile(r'"?([\x21\x23-\x7e]{1,255})"?')
_MADE = re.compile(r"/api/v1/(?!search$|markdown$|keys$).*")
_NEVER = re.compile(r"/api/v1/keys")
_LARGEST = 4 * 1024 * 1024  # of a kept answer
_KEPT_HEADERS = frozenset({b"content-type", b"location", b"etag"})


def applies(method: str, path: str) -> bool:
    """Whether a call of this kind may carry an `Idempotency-Key`."""
    return method == "POST" and _MADE.fullmatch(path) is not None


class Idempotent:
    """Wraps the routes."""

    def __init__(self, app: ASGIApp, book: Sourcebook) -> None:
        self._app = app
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, done or replayed."""
        given = _header(scope, HEADER.encode()) if scope["type"] == "http" and scope["method"] == "POST" else None
        if given is None or not (applies("POST", scope["path"]) or _NEVER.fullmatch(scope["path"])):
            await self._app(scope, receive, send)
            return
        principal: Principal = scope["state"]["principal"]
        body = Body(scope, receive)
        try:
            claim = await self._book.idempotency.begin(principal.owner_id, _key(given, scope["path"]))
            if isinstance(claim, Kept):
                await body.rest()
                await replay(_same(claim, body), send)
                return
        except SourcebookError as error:
            await response_of(error, scope["state"]["request_id"])(scope, receive, send)
            return
        await self._do(claim, body, scope, send)

    async def _do(self, claim: Claim, body: Body, scope: Scope, send: Send) -> None:
        async def streams(location: bytes) -> None:
            # Kept at its start: a retry is sent to where the stream goes on, not told to wait for its end.
            await self._keep(claim, body, 303, _pack([(b"location", location)], b""))

        answer = Answer(send, streams)
        beat = asyncio.create_task(self._beats(claim))
        try:
            # An answer that may be kept is held back until it is: who has seen it finds it under the key.
            await self._app(scope, body.receive, answer.send)
            if answer.succeeded and not answer.streams:
                await self._keep(claim, body, answer.status, answer.packed())
            else:
                await self._book.idempotency.release(claim)
        except BaseException:
            with suppress(SourcebookError):
                await asyncio.shield(self._book.idempotency.release(claim))
            raise
        finally:
            beat.cancel()
        await answer.flush()

    async def _keep(self, claim: Claim, body: Body, status: int, packed: bytes) -> None:
        await body.rest()
        await self._book.idempotency.finish(claim, Kept(body.digest, status, packed))

    async def _beats(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._book.idempotency.beat(claim)
            except SourcebookError as error:
                log.warning("an idempotency key could not be renewed: %s", error)


class Body:
    """Passes a body on, and hashes it: method, address and every byte, but for a form's boundary.

    Clients make a new boundary for every attempt; nothing else of a retry differs.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        kind = _header(scope, b"content-type") or ""
        found = re.match(r'multipart/[^;]*;.*boundary="?([^";]+)"?', kind, re.IGNORECASE)
        self._boundary = found[1].encode("latin-1") if found else b""
        self._hash = hashlib.sha256(
            b"%b %b?%b\n%b\n"
            % (
                scope["method"].encode(),
                scope["path"].encode("utf-8", "surrogateescape"),
                scope.get("query_string", b""),
                kind.partition(";")[0].strip().lower().encode("latin-1"),
            )
        )
        self._tail = b""
        self.complete = False

    async def receive(self) -> Message:
        """The next message of the client."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._feed(message.get("body", b""))
            self.complete = self.complete or not message.get("more_body", False)
        elif not self.complete:
            self.complete = True  # the client has left: nothing more comes
        return message

    async def rest(self) -> None:
        """Read what nobody has read."""
        while not self.complete:
            await self.receive()

    @property
    def digest(self) -> str:
        """Of what has been read."""
        whole = self._hash.copy()
        whole.update(self._tail)
        return whole.hexdigest()

    def _feed(self, data: bytes) -> None:
        if not self._boundary:
            self._hash.update(data)
            return
        *parts, last = (self._tail + data).split(self._boundary)
        for part in parts:
            self._hash.update(part)
            self._hash.update(b"\0boundary\0")
        keep = min(len(last), len(self._boundary) - 1)
        self._hash.update(last[: len(last) - keep])
        self._tail = last[len(last) - keep :]


class Answer:
    """Holds an answer back that may be kept; a stream, an error or a very large one passes at once."""

    def __init__(self, send: Send, on_stream: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._on_stream = on_stream
        self._held: list[Message] = []
        self._size = 0
        self._passes = False
        self._headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.streams = False

    @property
    def succeeded(self) -> bool:
        """Whether something was made."""
        return 200 <= self.status < 300

    async def send(self, message: Message) -> None:
        """The next message of the routes."""
        if message["type"] == "http.response.start":
            self.status, self._headers = message["status"], list(message.get("headers", ()))
            named = dict(self._headers)
            self.streams = named.get(b"content-type", b"").startswith(b"text/event-stream")
            self._passes = self.streams or not self.succeeded
            if self.streams and (location := named.get(b"content-location")):
                await self._on_stream(location)
        self._held.append(message)
        self._size += len(message.get("body", b""))
        self._passes = self._passes or self._size > _LARGEST
        if self._passes:
            await self.flush()

    async def flush(self) -> None:
        """Send what is held."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def packed(self) -> bytes:
        """Headers and body, as they are stored; nothing at all of one that was too large to hold."""
        return b"" if self._passes else _pack(self._headers, b"".join(m.get("body", b"") for m in self._held))


async def replay(answer: Kept, send: Send) -> None:
    """Give a kept answer once more."""
    head, _, body = answer.response.partition(b"\n")
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in orjson.loads(head)]
    headers += [(REPLAYED.encode(), b"true"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _pack(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    kept = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers if n in _KEPT_HEADERS]
    return orjson.dumps(kept) + b"\n" + body


def _same(answer: Kept, body: Body) -> Kept:
    """Raises `InvalidInput` where the key was used for another request."""
    if answer.request_hash != body.digest:
        raise InvalidInput(
            "This Idempotency-Key was used for another request.",
            code="idempotency_key_reused",
            remedy="Use a new key for every new request, and the same one to repeat it unchanged.",
        )
    if not answer.response:
        raise Conflict("This request was served; its answer was too large to be kept.", code="idempotency_not_kept")
    return answer


def _key(given: str, path: str) -> str:
    if _NEVER.fullmatch(path):
        raise InvalidInput(
            "Making a key cannot be repeated: its secret is shown once and kept nowhere.",
            code="idempotency_not_possible",
            remedy="Leave the Idempotency-Key out, and revoke a key whose secret was lost on the way.",
        )
    match = _KEY.fullmatch(given.strip())
    if match is None:
        raise InvalidInput(
            "An Idempotency-Key has 1 to 255 visible ASCII characters.",
            code="idempotency_key_invalid",
            remedy="Use a UUID.",
        )
    return match[1]


def _header(scope: Scope, wanted: bytes) -> str | None:
    found = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]
    return ", ".join(found) if found else None
