import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sourcebook_anthropic
from sourcebook_anthropic import Anthropic, AnthropicSettings

from sourcebook import Finish, LLMRequest, Message, Reasoning, Text, Usage
from sourcebook.errors import LLMError
from sourcebook.testing.components import opened
from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, json_reply
from sourcebook.testing.llms import LLMContract

PATH = "/v1/messages"


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def delta(**data: Any) -> bytes:
    return event("content_block_delta", index=0, delta=data)


START = event("message_start", message={"usage": {"input_tokens": 25, "output_tokens": 1}})
SAID = [delta(type="text_delta", text=text) for text in ("It opens ", "at dawn [1].")]
END = [
    event("content_block_stop", index=0),
    event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 15}),
    event("message_stop"),
]
ANSWER = [START, event("content_block_start", index=0), event("ping"), *SAID, *END]


def model(server: FakeLLMServer, **settings: Any) -> Anthropic:
    return Anthropic(AnthropicSettings(base_url=server.root, model="claude", api_key="key-1", **settings))


class TestAnthropic(LLMContract):
    @contextmanager
    def answering(self) -> Iterator[Anthropic]:
        with FakeLLMServer() as server:
            server.script(*(Reply(ANSWER) for _ in range(5)), path=PATH)
            yield model(server)

    @contextmanager
    def hanging(self) -> Iterator[tuple[Anthropic, Callable[[float], bool]]]:
        with FakeLLMServer() as server:
            server.script(Reply([START, SAID[0], Hold()]), path=PATH)
            yield model(server), lambda timeout: server.requests[0].closed.wait(timeout)

    @contextmanager
    def failing(self) -> Iterator[Anthropic]:
        with FakeLLMServer() as server:
            error = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
            server.script(*(json_reply(error, 401) for _ in range(3)), path=PATH)
            yield model(server)


def answered(server: FakeLLMServer, *steps: bytes, options: dict[str, Any] | None = None, **settings: Any) -> list[Any]:
    server.script(Reply(list(steps)), path=PATH)
    messages = (Message("system", "Be brief."), Message("user", "When?"))

    async def main() -> list[Any]:
        async with opened(model(server, **settings)) as llm:
            return [d async for d in llm.stream(LLMRequest(messages, "When?", options=options or {}))]

    return asyncio.run(main())


def test_the_request_is_as_the_api_wants_it(fake_llm: FakeLLMServer) -> None:
    answered(fake_llm, *ANSWER, options={"temperature": 0.5, "stop": "END", "max_tokens": 99}, thinking=1024)
    sent = fake_llm.requests[0]
    assert (sent.headers["x-api-key"], sent.headers["anthropic-version"]) == ("key-1", "2023-06-01")
    assert sent.json == {
        "model": "claude",
        "max_tokens": 99,
        "stream": True,
        "messages": [{"role": "user", "content": "When?"}],
        "system": "Be brief.",
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "temperature": 0.5,
        "stop_sequences": ["END"],
    }


def test_thoughts_text_reason_and_usage_come_in_order(fake_llm: FakeLLMServer) -> None:
    thought = delta(type="thinking_delta", thinking="Dawn?"), delta(type="signature_delta", signature="x")
    assert answered(fake_llm, START, *thought, *SAID, *END) == [
        Reasoning("Dawn?"),
        Text("It opens "),
        Text("at dawn [1]."),
        Finish("stop"),
        Usage(25, 15),
    ]


def test_an_event_may_be_cut_anywhere(fake_llm: FakeLLMServer) -> None:
    whole = b"".join(ANSWER)
    pieces = [whole[i : i + 7] for i in range(0, len(whole), 7)]
    assert "".join(d.text for d in answered(fake_llm, *pieces) if isinstance(d, Text)) == "It opens at dawn [1]."


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([START, *SAID], "llm_truncated"),
        ([START, b"data: {nonsense\n\n"], "llm_bad_stream"),
        ([START, event("error", error={"type": "overloaded_error", "message": "Overloaded"})], "llm_"),
    ],
)
def test_an_answer_that_breaks_is_an_error_and_no_shorter_answer(
    fake_llm: FakeLLMServer, steps: list[bytes], code: str
) -> None:
    with pytest.raises(LLMError) as caught:
        answered(fake_llm, *steps)
    assert caught.value.problem_code.startswith(code)


def test_an_answer_is_cited_as_any_other(fake_llm: FakeLLMServer, sourcebook_in_process: Callable[..., Any]) -> None:
    fake_llm.script(Reply(ANSWER), path=PATH)
    claude = {"use": "anthropic", "base_url": fake_llm.root, "model": "claude", "api_key": "key-1"}
    config = {"llms": {"claude": claude}, "pipelines": {"default": {"llm": ["claude"]}}}
    book = sourcebook_in_process(sourcebook_anthropic, config=config)
    assert book.ingest("harbour.md", b"The harbour opens at dawn.").state == "ready"
    answer = book.ask("When does the harbour open?")
    assert answer.text.startswith("It opens at dawn")
    assert answer.citations[0]["quote"] == "The harbour opens at dawn."
