"""A scripted OpenAI-compatible server on a real socket, for tests of whatever talks to a model.

It runs in its own thread with its own event loop, so that tests with and without one may use it:

    with FakeLLMServer() as server:
        server.script(Reply(stream_of(["Hel", "lo"])))
        ...  # point base_url at server.url
        assert server.requests[0].json["stream"] is True

Without a script it answers every chat with one sentence, embeds by hashing words and reranks by shared words.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import re
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import orjson

DIMENSIONS = 64
ANSWER = "A scripted answer."
_REASONS = {200: "OK", 301: "Moved Permanently", 400: "Bad Request", 429: "Too Many Requests"}


class Hold:
    """A step that waits: `reached` is set when the server stands there, `release()` lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._released = threading.Event()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def release(self) -> None:
        """Go on. May be called from any thread, before or after the server gets there."""
        self._released.set()
        if self._waiter is not None:
            loop, event = self._waiter
            with suppress(RuntimeError):  # the server has stopped meanwhile
                loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        event = asyncio.Event()
        self._waiter = (asyncio.get_running_loop(), event)
        self.reached.set()
        if not self._released.is_set():
            await event.wait()


Step = bytes | float | Hold | Literal["close", "reset"]
"""Bytes to send, seconds to sleep, a point to wait at, or how to end the connection there."""


@dataclass
class Reply:
    """One scripted answer.

    `framing`: `chunked` (each bytes step is one HTTP chunk), `close` (the body ends with the connection), or `raw` (the
    steps are all that is sent, head included).
    """

    steps: Iterable[Step]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    framing: Literal["chunked", "close", "raw"] = "chunked"


@dataclass
class Recorded:
    """A request that came, and when its connection was closed by the client (`closed` is set then).

    `closed_at` is that moment on `time.monotonic`'s clock; 0 where the client stayed to the end.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    closed: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)
    closed_at: float = 0.0

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return orjson.loads(self.body)


def json_reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A whole JSON answer."""
    return Reply([orjson.dumps(data)], status, {"content-type": "application/json"} | dict(headers or {}))


def event(data: Any) -> bytes:
    """One SSE event with `data` as JSON."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def chunk(delta: Mapping[str, Any] | None = None, finish: str | None = None, **top: Any) -> bytes:
    """One `chat.completion.chunk` event; `top` adds or replaces top-level keys."""
    choice = {"index": 0, "delta": dict(delta or {}), "finish_reason": finish}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [choice]}
    return event(data | top)


def stream_of(texts: Sequence[str], reasoning: Sequence[str] = (), *, usage: bool = True) -> list[Step]:
    """The events of a well-behaved server: role, reasoning, content, finish, usage, `[DONE]`."""
    steps: list[Step] = [chunk({"role": "assistant", "content": ""})]
    steps += [chunk({"reasoning_content": text}) for text in reasoning]
    steps += [chunk({"content": text}) for text in texts]
    steps.append(chunk(finish="stop"))
    if usage:
        steps.append(chunk(choices=[], usage={"prompt_tokens": 7, "completion_tokens": len(texts)}))
    steps.append(b"data: [DONE]\n\n")
    return steps


def words_of(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"\w+", text.lower())


def vector_of(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A unit vector: the sum of one direction a word. Equal texts are equal, texts that share words are near."""
    total = [0.0] * dimensions
    for word in words_of(text) or [""]:
        digest = hashlib.shake_256(word.encode()).digest(dimensions)
        for i, byte in enumerate(digest):
            total[i] += byte - 127.5
    length = math.sqrt(sum(x * x for x in total)) or 1.0
    return [x / length for x in total]


class FakeLLMServer:
    """See the module. `requests` holds all that came; `open_connections` counts the clients' open sockets."""

    def __init__(self, *, dimensions: int = DIMENSIONS, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.dimensions = dimensions
        self.requests: list[Recorded] = []
        self.connections = 0
        self._open = 0
        self._changed = threading.Condition()
        self._scripts: dict[str, deque[Reply]] = defaultdict(deque)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fake-llm-server", daemon=True)
        self._port = 0

    @property
    def root(self) -> str:
        """The server's address without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """What a `base_url` setting takes."""
        return f"{self.root}/v1"

    @property
    def open_connections(self) -> int:
        """Sockets that clients hold open now."""
        return self._open

    def script(self, *replies: Reply, path: str = "/v1/chat/completions") -> None:
        """Queue answers for the next requests to `path`; after the last one the default answers again."""
        self._scripts[path].extend(replies)

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> bool:
        """Whether the number of open sockets became `count` in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == count, timeout)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the fake server did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=64 * 1024 * 1024, ssl=self._tls)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports close

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self.connections += max(change, 0)
            self._changed.notify_all()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count(+1)
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._count(-1)

    async def _answer(self, request: Recorded, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Play the reply while watching for the client to leave. Whether the connection may be used again."""
        playing = asyncio.ensure_future(_play(self._reply(request), writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not playing.done():
                request.closed_at = time.monotonic()
                request.closed.set()
                return False
            return playing.result()
        except ConnectionError:
            request.closed_at = time.monotonic()
            request.closed.set()
            return False
        finally:
            request.finished.set()
            playing.cancel()
            leaving.cancel()
            await asyncio.gather(playing, leaving, return_exceptions=True)

    def _reply(self, request: Recorded) -> Reply:
        scripted = self._scripts[request.path]
        if scripted:
            return scripted.popleft()
        match request.path:
            case "/v1/chat/completions":
                return self._chat(request.json)
            case "/v1/embeddings":
                return self._embeddings(request.json)
            case "/v1/rerank":
                return _reranked(request.json)
            case "/v1/models":
                return json_reply({"object": "list", "data": [{"id": "fake", "object": "model"}]})
        return json_reply({"error": {"message": f"no such path: {request.path}"}}, 404)

    def _chat(self, body: Mapping[str, Any]) -> Reply:
        if body.get("stream"):
            return Reply(stream_of(re.findall(r"\S+\s*", ANSWER)))
        message = {"role": "assistant", "content": ANSWER}
        return json_reply({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def _embeddings(self, body: Mapping[str, Any]) -> Reply:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        rows: list[Any] = [vector_of(text, self.dimensions) for text in texts]
        if body.get("encoding_format") == "base64":
            rows = [base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode() for row in rows]
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        return json_reply({"object": "list", "model": body.get("model"), "data": data})


def _reranked(body: Mapping[str, Any]) -> Reply:
    asked = set(words_of(body["query"]))
    scores = []
    for i, document in enumerate(body["documents"]):
        words = set(words_of(document))
        scores.append({"index": i, "relevance_score": len(asked & words) / (len(asked | words) or 1)})
    return json_reply({"results": sorted(scores, key=lambda row: -row["relevance_score"])})


async def _read(reader: asyncio.StreamReader) -> Recorded | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")[:-2]
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Recorded(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def _play(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    chunked = reply.framing == "chunked"
    if reply.framing != "raw":
        head = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}"]
        head += [f"{name}: {value}" for name, value in reply.headers.items()]
        head.append("transfer-encoding: chunked" if chunked else "connection: close")
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
    for step in reply.steps:
        match step:
            case bytes():
                writer.write(b"%x\r\n%b\r\n" % (len(step), step) if chunked and step else step)
                await writer.drain()
            case Hold():
                await step.wait()
            case "close":
                return False
            case "reset":
                # Linger 0: closing sends RST in place of FIN.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case seconds:
                await asyncio.sleep(float(seconds))
    if chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    return chunked
