"""Anthropic's Messages API: `POST /v1/messages` with `"stream": true`, server-sent events back.

The events, and what becomes of them: `content_block_delta` (text or thinking) is what is said; `message_start` and
`message_delta` carry usage and the reason to stop; `error` fails the answer; `ping` and whatever is added later is
passed over. Source: the API's documentation, "Streaming messages", version 2023-06-01.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from pydantic import Field

from sourcebook import LLM, Context, Finish, LLMRequest, Reasoning, Text, Usage, hookimpl
from sourcebook.errors import LLMError, UpstreamError
from sourcebook.events import Delta
from sourcebook.http import HttpStream
from sourcebook.upstream import Failures, ServerSettings

API_VERSION = 1
_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "content_filter"}
_MOST_OF_AN_ERROR = 16 * 1024


class AnthropicSettings(ServerSettings):
    """`base_url` without `/v1`. `thinking` is the budget in tokens for thinking aloud; 0 leaves it off."""

    base_url: str = "https://api.anthropic.com"
    version: str = "2023-06-01"
    max_tokens: int = Field(default=4096, ge=1)
    context_window: int = Field(default=200_000, ge=256)
    thinking: int = Field(default=0, ge=0)


class Anthropic(LLM[AnthropicSettings]):
    """One request an answer; the connection is closed as soon as nobody reads on."""

    name = "anthropic"
    Settings = AnthropicSettings

    def __init__(self, settings: AnthropicSettings, instance: str = "") -> None:
        super().__init__(settings, instance)
        self.context_window = settings.context_window
        self._failures = Failures(LLMError, "llm", self.instance, settings.secrets())

    async def open(self, context: Context) -> None:
        self._http = context.http

    def stream(self, request: LLMRequest) -> AsyncIterator[Delta]:
        return self._stream(request)

    async def _stream(self, request: LLMRequest) -> AsyncGenerator[Delta, None]:
        url = f"{self.settings.base_url}/v1/messages"
        options: dict[str, Any] = {"json": self._body(request), "headers": self._headers()}
        try:
            async with self._http.stream("POST", url, timeouts=self.settings.timeouts, **options) as upstream:
                if upstream.status != 200:
                    said = await _beginning(upstream)
                    raise self._failures.answer(upstream.status, upstream.headers, said)
                prompt = 0
                async for event in _events(upstream):
                    match event.get("type"):
                        case "message_start":
                            prompt = int(event["message"]["usage"].get("input_tokens", 0))
                        case "content_block_delta" if text := event["delta"].get("text"):
                            yield Text(text)
                        case "content_block_delta" if thought := event["delta"].get("thinking"):
                            yield Reasoning(thought)
                        case "message_delta":
                            reason = event["delta"].get("stop_reason") or ""
                            yield Finish(_REASONS.get(reason, "other"))
                            yield Usage(prompt, int(event.get("usage", {}).get("output_tokens", 0)))
                        case "message_stop":
                            return
                        case "error":
                            raise self._failures.answer(200, upstream.headers, json.dumps(event).encode())
                raise LLMError("The answer broke off.", code="llm_truncated", transient=True)
        except LLMError:
            raise
        except UpstreamError as error:
            raise self._failures.upstream(error) from error

    def _headers(self) -> dict[str, str]:
        settings = self.settings
        key = {"x-api-key": settings.api_key.get_secret_value()} if settings.api_key else {}
        own = {name: value.get_secret_value() for name, value in settings.headers.items()}
        return {"anthropic-version": settings.version, "accept": "text/event-stream"} | key | own

    def _body(self, request: LLMRequest) -> dict[str, Any]:
        settings, asked = self.settings, request.options
        body: dict[str, Any] = {
            "model": settings.model,
            "max_tokens": min(settings.max_tokens, asked.get("max_tokens") or settings.max_tokens),
            "stream": True,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages if m.role != "system"],
        }
        if system := "\n\n".join(m.content for m in request.messages if m.role == "system"):
            body["system"] = system
        if settings.thinking:
            body["thinking"] = {"type": "enabled", "budget_tokens": settings.thinking}
        for name, theirs in (("temperature", "temperature"), ("top_p", "top_p"), ("stop", "stop_sequences")):
            if asked.get(name) is not None:
                value = asked[name]
                body[theirs] = [value] if name == "stop" and isinstance(value, str) else value
        return body


async def _events(upstream: HttpStream) -> AsyncIterator[dict[str, Any]]:
    """The data of each event; the `event:` line says the same as its `type`."""
    left = b""
    async for chunk in upstream.chunks():
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                try:
                    event = json.loads(line[5:])
                except ValueError as error:
                    raise LLMError("The server sent an event that is not JSON.", code="llm_bad_stream") from error
                if isinstance(event, dict):
                    yield event


async def _beginning(upstream: HttpStream) -> bytes:
    said = b""
    async for chunk in upstream.chunks():
        said += chunk
        if len(said) > _MOST_OF_AN_ERROR:
            break
    return said


@hookimpl
def register_llms() -> list[type[Anthropic]]:
    return [Anthropic]
