"""A language model behind `POST /chat/completions`, streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any, ClassVar

from pydantic import Field

from sourcebook.errors import LLMError, UpstreamError
from sourcebook.events import Delta
from sourcebook.http import Http, HttpStream
from sourcebook.interfaces import LLM, ComponentSettings, Context, LLMRequest
from sourcebook.upstream import Breaker, Failures, Retries, ServerSettings
from sourcebook_plugins.openai.answer import Answer
from sourcebook_plugins.openai.think import ThinkTags

MAX_ERROR_BODY = 64 * 1024
AFTER_FINISH = 5.0
"""Seconds that a server may take between bytes for usage and `[DONE]` once it gave its reason to stop."""
AFTER_DONE = 0.1
"""Seconds to wait for the body's end after `[DONE]`, so that the connection can be used again."""

_DOWN = frozenset({"llm_unreachable", "llm_timeout", "llm_server_error"})
"""What tells that a server is down, not that a request was wrong."""

# What a caller may set. The rest of the body is ours: a caller's `stream` or `tools` would break the answer.
OPTIONS = frozenset(
    ("temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "reasoning_effort")
)
# How servers say that they do not know a field.
_UNKNOWN = (
    "unknown",
    "unrecogni",
    "unexpected",
    "unsupported",
    "not supported",
    "not permitted",
    "extra",
    "additional",
)


class OpenAISettings(ServerSettings):
    """`base_url` ends before `/chat/completions`; `extra_body` is merged into every request, over all else.

    `max_tokens` limits every answer; a caller may ask for fewer. `max_concurrent`: answers at once; others wait.
    """

    base_url: str = "http://localhost:11434/v1"
    temperature: float | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    think_tags: ThinkTags = "auto"
    context_window: int = Field(default=8192, ge=256)
    max_concurrent: int = Field(default=256, ge=1)
    extra_body: dict[str, Any] = Field(default_factory=dict)


class OpenAI(LLM[OpenAISettings]):
    """Streams from any server that speaks the OpenAI API.

    429, 503 and failed connections are tried again, `Retry-After` honoured, as long as nothing has been answered. An
    answer that breaks off is an `LLMError` with the code `llm_truncated`, never a shorter answer.
    """

    name = "openai"
    Settings: ClassVar[type[ComponentSettings]] = OpenAISettings

    def __init__(self, settings: OpenAISettings, instance: str = "", retries: Retries | None = None) -> None:
        super().__init__(settings, instance)
        self.context_window = settings.context_window
        self._retries = retries or Retries()
        self._failures = Failures(LLMError, "llm", self.instance, settings.secrets())
        self._http: Http | None = None
        self._slots = asyncio.Semaphore(settings.max_concurrent)
        self._breaker = Breaker()
        self._unknown: frozenset[str] = frozenset()  # fields that this server's 400s taught us to leave out

    async def open(self, context: Context) -> None:
        """Nothing is asked of the server before the first question."""
        self._http = context.http

    def stream(self, request: LLMRequest) -> AsyncIterator[Delta]:
        """See `LLM.stream`."""
        return self._stream(request)

    async def _stream(self, request: LLMRequest) -> AsyncGenerator[Delta, None]:
        async with self._slot():
            if wait := self._breaker.wait():
                raise self._failures.make(
                    "unreachable",
                    f"The server of {self.instance} keeps failing; it is asked again in {wait:.0f} seconds.",
                    retry_after=wait,
                )
            try:
                async with aclosing(self._asked(request)) as deltas:
                    async for delta in deltas:
                        yield delta
            except LLMError as error:
                down = error.problem_code in _DOWN
                (self._breaker.failed if down else self._breaker.succeeded)()
                raise
            finally:
                self._breaker.undecided()

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None, None]:
        """One of the answers at once. Waiting for it is waiting for the first byte."""
        try:
            async with asyncio.timeout(self.settings.timeouts.first_byte):
                await self._slots.acquire()
        except TimeoutError:
            raise self._failures.make(
                "busy",
                f"{self.instance} makes as many answers as it may already.",
                remedy=f"Try again later, or raise `max_concurrent` of {self.instance}.",
                transient=True,
            ) from None
        try:
            yield
        finally:
            self._slots.release()

    async def _asked(self, request: LLMRequest) -> AsyncGenerator[Delta, None]:
        try:
            async with AsyncExitStack() as stack:
                upstream = await self._opened(request, stack)
                self._breaker.succeeded()
                answer = Answer(self.settings.think_tags, upstream.headers, self._failures)
                chunks = upstream.chunks()
                while not answer.done:
                    try:
                        chunk = await anext(chunks, b"")
                    except UpstreamError:
                        if answer.finished:
                            break  # only usage is missing
                        raise
                    if not chunk:
                        break
                    for delta in answer.feed(chunk):
                        yield delta
                    if answer.finished:
                        upstream.shorten_gap(AFTER_FINISH)
                for delta in answer.end():
                    yield delta
                await _drain(upstream)
        except LLMError:
            raise
        except UpstreamError as error:
            raise self._failures.upstream(error) from error

    async def _opened(self, request: LLMRequest, stack: AsyncExitStack) -> HttpStream:
        """The answer's stream with a good status, after as many tries as are allowed; `stack` closes it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.timeouts.total
        learnt: frozenset[str] = frozenset()
        attempt = 1
        while True:
            body = self._body(request, self._unknown | learnt)
            try:
                upstream = await self._once(body, stack)
            except LLMError as error:
                if field := _blamed(error, body):
                    learnt |= {field}
                    continue
                wait = self._retries.wait(attempt, error.retry_after)
                if not self._retries.again(error, attempt) or loop.time() + wait > end:
                    raise
                attempt += 1
            else:
                self._unknown |= learnt
                return upstream
            await asyncio.sleep(wait)

    async def _once(self, body: dict[str, Any], stack: AsyncExitStack) -> HttpStream:
        if self._http is None:
            raise RuntimeError("open() has not been called")
        settings = self.settings
        try:
            upstream = await stack.enter_async_context(
                self._http.stream(
                    "POST",
                    f"{settings.base_url}/chat/completions",
                    json=body,
                    headers={"accept": "text/event-stream"} | settings.request_headers(),
                    timeouts=settings.timeouts,
                )
            )
            if 200 <= upstream.status < 300:
                return upstream
            said = await _beginning(upstream)
        except UpstreamError as error:
            raise self._failures.upstream(error) from error
        await stack.aclose()
        raise self._failures.answer(upstream.status, upstream.headers, said)

    def _body(self, request: LLMRequest, unknown: frozenset[str]) -> dict[str, Any]:
        settings = self.settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "stream": True,
        }
        if "stream_options" not in unknown:
            body["stream_options"] = {"include_usage": True}
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        asked = [request.options.get("max_tokens"), request.options.get("max_completion_tokens"), settings.max_tokens]
        if limits := [n for n in asked if isinstance(n, int)]:
            body["max_completion_tokens" if "max_tokens" in unknown else "max_tokens"] = min(limits)
        body |= {name: value for name, value in request.options.items() if name in OPTIONS and value is not None}
        return body | settings.extra_body


def _blamed(error: LLMError, body: dict[str, Any]) -> str:
    """The optional field that a 400 is about, if we sent it: worth one more try without it."""
    if error.details.get("status") not in (400, 422):
        return ""
    said = error.detail.lower()
    if "max_completion_tokens" in said and "max_tokens" in body:
        return "max_tokens"
    if "stream_options" not in body or "context" in said:
        return ""
    words = ("stream_options", "include_usage", *_UNKNOWN)
    return "stream_options" if ": " not in said or any(word in said for word in words) else ""


async def _beginning(upstream: HttpStream) -> bytes:
    """As much of an error's body as can be of use; the status counts even if the body breaks off."""
    body = b""
    with suppress(UpstreamError):
        async for chunk in upstream.chunks():
            body += chunk
            if len(body) > MAX_ERROR_BODY:
                break
    return body[:MAX_ERROR_BODY]


async def _drain(upstream: HttpStream) -> None:
    """Read what ends the body, unless the server dawdles: an unread body costs the connection."""
    upstream.shorten_gap(AFTER_DONE)
    with suppress(UpstreamError):
        chunks = upstream.chunks()
        for _ in range(4):
            if not await anext(chunks, b""):
                return
