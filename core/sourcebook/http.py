"""The client for everything that talks to another server, and the one module that imports httpx.

No redirects, no cookies, no proxy from the environment, no credentials in addresses. Every way of being late has its
own deadline and its own code. httpx builds requests and TLS contexts; the connections are those of httpcore, its
transport, because a pool there can be given a backend that checks addresses.

Codes of the `UpstreamError`s:

    upstream_connect_timeout     no connection in time
    upstream_first_byte_timeout  connected, and no answer in time
    upstream_gap_timeout         the answer stopped
    upstream_total_timeout       the answer took too long as a whole
    upstream_unreachable         no such host, refused, or TLS failed
    upstream_cut                 the connection broke before or inside the answer
    upstream_protocol_error      what came back is not HTTP, or not what its headers say
    upstream_too_large           the body is over `max_bytes`
    upstream_blocked             the address guard refused the host
    upstream_bad_request         address or header cannot be sent
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import orjson

from sourcebook.addresses import AddressGuard, guarded_backend
from sourcebook.deadlines import Clock, Timeouts, Watch
from sourcebook.elsewhere import resting
from sourcebook.errors import UpstreamError
from sourcebook.inflating import Inflater
from sourcebook.steps import outgoing

if TYPE_CHECKING:
    import httpcore

__all__ = ["Http", "HttpResponse", "HttpStream", "Timeouts"]

MAX_BYTES = 64 * 1024 * 1024
MAX_CONNECTIONS = 1000
# httpcore scans its idle connections with every request and close: a hundred of them cost seconds at a hundred streams.
MAX_IDLE = 20
IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer. Header names are lower case; several of one name are joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `UpstreamError` (code `upstream_protocol_error`) where it is not."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise UpstreamError("The answer is not JSON.", code="upstream_protocol_error") from error


class HttpStream:
    """An answer whose body is read piece by piece. Leaving the context it came from closes the connection."""

    def __init__(
        self, response: httpcore.Response, clock: Clock, where: str, inflate: Inflater | None, headers: dict[str, str]
    ) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = headers
        self._response = response
        self._clock = clock
        self._where = where
        self._inflate = inflate
        self._watch = Watch()
        self._parts: Any = None  # httpcore's async generator; its public type has no aclose

    def shorten_gap(self, seconds: float) -> None:
        """Wait at most this long for each further byte: for a body whose useful part has been read."""
        self._clock.gap = min(self._clock.gap, seconds)

    def chunks(self) -> AsyncIterator[bytes]:
        """The decoded body, piece by piece as it arrives, none empty."""
        return _Chunks(self)

    async def _raw(self) -> bytes:
        """The next bytes of the connection; empty at the end."""
        if self._parts is None:
            self._parts = self._response.aiter_stream()
        clock, watch = self._clock, self._watch
        watch.begin(clock.due())
        try:
            chunk: bytes = await anext(self._parts, b"")
        except asyncio.CancelledError as error:
            if watch.end():
                raise clock.late(self._where) from error
            raise
        except Exception as error:  # httpcore's tree is not importable before the first request
            watch.end()
            raise _translated(error, self._where) from error
        watch.end()
        clock.answering = True
        return chunk

    async def _next(self) -> bytes:
        inflate = self._inflate
        if inflate is None:
            return await self._raw()
        while not (piece := inflate.piece()):
            chunk = await self._raw()
            if not chunk:
                inflate.end()
                return b""
            inflate.feed(chunk)
        return piece

    async def _aclose(self) -> None:
        self._watch.stop()
        try:
            if self._parts is not None:
                await self._parts.aclose()
        finally:
            await self._response.aclose()


class _Chunks:
    """Not a generator: one that is dropped half-way would be closed later, by the garbage collector."""

    def __init__(self, stream: HttpStream) -> None:
        self._stream = stream

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._stream._next()
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Http:
    """Our HTTP client. Opens nothing before the first call; bound to the event loop of that call.

    `guard`: connect only where it allows, for addresses that users give. `proxy`: an `http://` address; with a guard it
    is refused, since the proxy would resolve names itself.
    """

    def __init__(
        self, *, timeouts: Timeouts | None = None, guard: AddressGuard | None = None, proxy: str | None = None
    ) -> None:
        if guard is not None and proxy is not None:
            raise ValueError("a guarded client cannot use a proxy: the check would not see the real address")
        self._timeouts = timeouts or Timeouts()
        self._guard = guard
        self._proxy = proxy
        self._pools: dict[bytes, httpcore.AsyncConnectionPool] = {}
        self._opening = asyncio.Lock()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        timeouts: Timeouts | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> HttpResponse:
        """Send one request and read the whole answer, whatever its status. Raises `UpstreamError`."""
        parts: list[bytes] = []
        size = 0
        async with self.stream(method, url, headers=headers, json=json, content=content, timeouts=timeouts) as answer:
            async for chunk in answer.chunks():
                size += len(chunk)
                if size > max_bytes:
                    raise _error("upstream_too_large", f"The answer of {answer._where} is over {max_bytes} bytes.")
                parts.append(chunk)
        return HttpResponse(answer.status, answer.headers, b"".join(parts))

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        timeouts: Timeouts | None = None,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send one request; inside the context its status and headers are known and its body can be read."""
        sent = dict(headers or {})
        if json is not None:
            content = orjson.dumps(json)
            sent.setdefault("content-type", "application/json")
        return self._stream(method, url, sent, content, timeouts or self._timeouts)

    @asynccontextmanager
    async def _stream(
        self, method: str, url: str, headers: dict[str, str], content: bytes | None, limits: Timeouts
    ) -> AsyncGenerator[HttpStream, None]:
        clock = Clock(limits)
        if self._guard is None:  # servers of the operator's; a stranger's is told nothing of us
            headers = {**outgoing(), **headers}
        with resting():
            await self._load()
            request, where = _built(method, url, headers, content, limits)
            pool = await self._pool(request.url.scheme)
            response = await _sent(pool, request, clock, where)
            try:
                found = _headers(response)
                answer = HttpStream(response, clock, where, _inflater(found, where), found)
            except BaseException:
                await response.aclose()
                raise
            try:
                yield answer
            finally:
                await answer._aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()

    async def _load(self) -> None:
        if not self._pools:
            await asyncio.to_thread(import_module, "httpx")  # a tenth of a second that the event loop does not spend

    async def _pool(self, scheme: bytes) -> httpcore.AsyncConnectionPool:
        async with self._opening:
            if scheme not in self._pools:
                self._pools[scheme] = await asyncio.to_thread(self._opened, scheme)
            return self._pools[scheme]

    def _opened(self, scheme: bytes) -> httpcore.AsyncConnectionPool:
        """One pool for plain connections and one for TLS: reading the certificates takes tens of milliseconds."""
        import httpcore
        import httpx

        from sourcebook.sockets import Backend

        return httpcore.AsyncConnectionPool(
            # SSL_CERT_FILE and SSL_CERT_DIR count: that is how a private authority is added.
            ssl_context=httpx.create_ssl_context() if scheme == b"https" else None,
            proxy=httpcore.Proxy(self._proxy) if self._proxy is not None else None,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=guarded_backend(self._guard) if self._guard is not None else Backend(),
        )


def _built(
    method: str, url: str, headers: Mapping[str, str], content: bytes | None, limits: Timeouts
) -> tuple[httpcore.Request, str]:
    """The request, and its address as errors may show it: without credentials and query."""
    import httpcore

    for name, value in headers.items():
        # h11 would quote the value in its error, and the value may be a key.
        if not value.isascii() or not value.isprintable():
            raise _error("upstream_bad_request", f"The header {name} holds characters that cannot be sent.")
    target, where, host = _address(url)
    sent = {"host": host, "accept": "*/*", "accept-encoding": "identity", "user-agent": "Sourcebook"}
    sent |= {k.lower(): v for k, v in headers.items()}
    if content is not None or method in ("POST", "PUT", "PATCH"):
        sent["content-length"] = str(len(content or b""))
    raw_headers = [(name.encode(), value.encode()) for name, value in sent.items()]
    times = {"connect": limits.connect, "pool": limits.connect}  # all else is on our own clock
    return httpcore.Request(method, target, headers=raw_headers, content=content, extensions={"timeout": times}), where


@lru_cache(maxsize=256)  # a server's is the same for every question
def _address(url: str) -> tuple[httpcore.URL, str, str]:
    """The address as it is asked for, as errors may show it, and as its Host header names it."""
    import httpcore
    import httpx

    try:
        built = httpx.URL(url)
        host = httpx.Request("GET", built).headers["host"]
    except (httpx.InvalidURL, UnicodeError, TypeError, KeyError):
        raise _error("upstream_bad_request", "The address is not a valid URL.") from None
    where = f"{built.scheme}://{built.netloc.decode('ascii')}{built.path}"
    if built.scheme not in ("http", "https") or not built.host:
        raise _error("upstream_bad_request", f"The address must begin with http:// or https://, not {where[:80]!r}.")
    if built.userinfo:
        raise _error("upstream_bad_request", f"The address of {where} holds credentials; they belong in a header.")
    target = httpcore.URL(scheme=built.raw_scheme, host=built.raw_host, port=built.port, target=built.raw_path)
    return target, where, host


async def _sent(
    pool: httpcore.AsyncConnectionPool, request: httpcore.Request, clock: Clock, where: str
) -> httpcore.Response:
    """Send it; once more where a kept connection turned out to be closed before a byte came back."""
    fresh = False

    async def trace(name: str, info: Any) -> None:
        nonlocal fresh
        fresh = fresh or name == "connection.connect_tcp.started"

    request.extensions["trace"] = trace
    while True:
        try:
            async with asyncio.timeout_at(clock.due()):
                return await _handled(pool, request)
        except TimeoutError as error:
            raise clock.late(where) from error
        except UpstreamError:
            raise
        except Exception as error:  # httpcore's tree is not importable before the first request
            failure = _translated(error, where)
            if fresh or failure.problem_code != "upstream_cut":
                raise failure from error


async def _handled(pool: httpcore.AsyncConnectionPool, request: httpcore.Request) -> httpcore.Response:
    """The pool's answer. A caller who is cancelled just after the connection was made would leave it there for ever.

    It is neither idle nor anybody's then, so httpcore neither uses nor closes it, and a thousand of them are a full
    pool. A test drops many requests at random and counts.
    """
    try:
        return await pool.handle_async_request(request)
    except BaseException:
        owned = {id(waiting.connection) for waiting in pool._requests}
        for connection in list(pool._connections):
            if id(connection) not in owned and not connection.is_idle() and not connection.is_closed():
                pool._connections.remove(connection)
                await connection.aclose()
        raise


def _headers(response: httpcore.Response) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _inflater(headers: Mapping[str, str], where: str) -> Inflater | None:
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return Inflater(where)
    raise _error("upstream_protocol_error", f"{where} answered in the encoding {encoding[:40]!r}, not asked for.")


def _error(code: str, detail: str) -> UpstreamError:
    final = ("upstream_bad_request", "upstream_blocked", "upstream_too_large", "upstream_protocol_error")
    return UpstreamError(detail, code=code, transient=code not in final)


def _translated(error: Exception, where: str) -> UpstreamError:
    """httpcore's errors as ours. Their text is shown only where it cannot hold what we sent."""
    import httpcore

    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, httpcore.ConnectTimeout | httpcore.PoolTimeout):
        return _error("upstream_connect_timeout", f"No connection to {where} in time.")
    if isinstance(error, httpcore.ConnectError | httpcore.ProxyError):
        return _error("upstream_unreachable", f"{where} cannot be reached: {error}.")
    if isinstance(error, httpcore.LocalProtocolError | httpcore.UnsupportedProtocol):
        return _error("upstream_bad_request", f"The request to {where} cannot be sent.")
    if isinstance(error, httpcore.RemoteProtocolError):
        # h11 has one class for both; a test pins its words.
        if str(error).startswith(("Server disconnected", "peer closed connection")):
            return _error("upstream_cut", f"{where} closed the connection inside its answer.")
        return _error("upstream_protocol_error", f"{where} does not speak HTTP.")
    if isinstance(error, httpcore.NetworkError | OSError):
        return _error("upstream_cut", f"The connection to {where} broke.")
    raise error
