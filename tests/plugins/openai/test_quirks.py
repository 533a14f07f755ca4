"""How servers really stream: each row is raw bytes on a real socket, and what must come of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sourcebook.errors import LLMError
from sourcebook.events import Delta, Finish, Reasoning, Text, ToolCall, Usage
from sourcebook.testing.components import opened
from sourcebook.testing.llm_server import FakeLLMServer, Reply, Step, chunk, event
from sourcebook.testing.llms import request_of
from sourcebook_plugins.openai import OpenAI
from sourcebook_plugins.openai.llm import OpenAISettings

DONE = b"data: [DONE]\n\n"
STOP = chunk(finish="stop") + DONE
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def deltas_of(*steps: Step, content_type: str = "text/event-stream", **settings: Any) -> list[Delta]:
    async def main(url: str) -> list[Delta]:
        async with opened(OpenAI(OpenAISettings(base_url=url, model="m", **settings))) as llm:
            return [delta async for delta in llm.stream(request_of())]

    with FakeLLMServer() as server:
        server.script(Reply(steps, headers={"content-type": content_type}))
        return asyncio.run(main(server.url))


def told(deltas: list[Delta]) -> tuple[str, str]:
    """Thoughts and text."""
    return (
        "".join(d.text for d in deltas if isinstance(d, Reasoning)),
        "".join(d.text for d in deltas if isinstance(d, Text)),
    )


def failure_of(*steps: Step, content_type: str = "text/event-stream", **settings: Any) -> LLMError:
    with pytest.raises(LLMError) as caught:
        deltas_of(*steps, content_type=content_type, **settings)
    return caught.value


def says(content: bytes) -> bytes:
    """A chunk whose content is these bytes of JSON, unescaped."""
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % content


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
SUMMARY = {"type": "reasoning.summary", "summary": "hm"}
SECRET = {"type": "reasoning.encrypted", "data": "b3BhcXVl"}
AB = chunk({"content": "a"}) + chunk({"content": "b"})

# number of the quirk, body, thoughts, text
WHOLE: list[tuple[str, bytes, str, str]] = [
    ("1 reasoning_content", chunk({"reasoning_content": "hm"}) + AB + STOP, "hm", "ab"),
    ("2 reasoning", chunk({"reasoning": "hm"}) + AB + STOP, "hm", "ab"),
    ("2 thinking", chunk({"thinking": "hm"}) + AB + STOP, "hm", "ab"),
    ("2 two names at once", chunk({"reasoning_content": "hm", "reasoning": "hm"}) + AB + STOP, "hm", "ab"),
    ("2 both in one delta", chunk({"content": "ab", "reasoning": "hm"}) + STOP, "hm", "ab"),
    ("3 details beside reasoning", chunk({"reasoning": "hm", "reasoning_details": [SUMMARY]}) + AB + STOP, "hm", "ab"),
    ("3 details alone", chunk({"content": "", "reasoning_details": [SUMMARY, SECRET]}) + AB + STOP, "hm", "ab"),
    ("3 details with content", chunk({"content": "ab", "reasoning_details": [SUMMARY]}) + STOP, "hm", "ab"),
    ("4 content list", chunk({"content": [THINKING]}) + AB + STOP, "hm", "ab"),
    ("4 thinking as a string", chunk({"content": [{"type": "thinking", "thinking": "hm"}]}) + AB + STOP, "hm", "ab"),
    ("4 both in a list", chunk({"content": [THINKING, {"type": "text", "text": "ab"}]}) + STOP, "hm", "ab"),
    ("5 tags", b"".join(chunk({"content": c}) for c in "<think>hm</think>ab") + STOP, "hm", "ab"),
    ("6 never closed", chunk({"content": "<think>ab"}) + STOP, "ab", "ab"),
    ("6 quoted tag", chunk({"content": "<think>`</think>`</think>ab"}) + STOP, "`</think>`", "ab"),
    ("7 an empty cousin", chunk({"content": "ab", "reasoning_content": ""}) + STOP, "", "ab"),
    ("7 an empty content", chunk({"content": "", "reasoning_content": "hm"}) + AB + STOP, "hm", "ab"),
    ("8 role first", chunk({"role": "assistant"}) + AB + STOP, "", "ab"),
    ("8 role with content", chunk({"role": "assistant", "content": "a"}) + chunk({"content": "b"}) + STOP, "", "ab"),
    ("8 role in each", chunk({"role": "assistant", "content": "ab"}) * 2 + STOP, "", "abab"),
    ("9 usage without choices", AB + chunk(finish="stop") + chunk(choices=[], usage={}) + DONE, "", "ab"),
    ("16 filter results first", event({"choices": [], "prompt_filter_results": [{}]}) + AB + STOP, "", "ab"),
    ("16 annotations later", AB + chunk(content_filter_results={}) + chunk(choices=[]) + STOP, "", "ab"),
    ("17 empty finish", chunk({"content": "a"}, "") + chunk({"content": "b"}, "") + STOP, "", "ab"),
    ("18 no finish key", event({"choices": [{"delta": {"content": "ab"}}]}) + DONE, "", "ab"),
    ("22 no [DONE]", AB + chunk(finish="stop"), "", "ab"),
    ("22 content with the finish", chunk({"content": "ab"}, "stop"), "", "ab"),
    ("24 comments", b": OPENROUTER PROCESSING\n\n" * 3 + AB + b": x\n" + STOP, "", "ab"),
    ("24 heartbeats", b"data:\n\n" + AB + b"data: \n\nevent: ping\ndata: {}\n\n" + STOP, "", "ab"),
    ("25 error null is no error", chunk({"content": "ab"}, error=None) + STOP, "", "ab"),
    ("29 no space", AB.replace(b"data: ", b"data:") + STOP.replace(b"data: ", b"data:"), "", "ab"),
    ("29 CRLF", (AB + STOP).replace(b"\n", b"\r\n"), "", "ab"),
    ("29 CR", (AB + STOP).replace(b"\n", b"\r"), "", "ab"),
    ("29 multi-line", b'data: {"choices":[{"delta":\ndata: {"content":"ab"}}]}\n\n' + STOP, "", "ab"),
    ("29 blank lines forgotten", (AB + STOP).replace(b"\n\n", b"\n").replace(DONE.strip(), b"\n" + DONE), "", "ab"),
    ("30 separators in JSON", says(b"a\xe2\x80\xa8\xc2\x85b") + STOP, "", "a\u2028\x85b"),
    ("30 half an emoji each", says(b"a\\ud83c") + says(b"\\udf39b") + STOP, "", "a🌹b"),
    ("30 half an emoji for good", says(b"a\\udf39b") + STOP, "", "a\ufffdb"),
    ("31 no blank line at the end", AB + chunk(finish="stop").strip(), "", "ab"),
    ("31 no line end after [DONE]", AB + b"data: [DONE]", "", "ab"),
    ("31 BOM", b"\xef\xbb\xbf" + AB + STOP, "", "ab"),
    ("32 choices null", chunk(choices=None) + AB + STOP, "", "ab"),
    ("32 delta missing", event({"choices": [{"index": 0}]}) + AB + STOP, "", "ab"),
    ("32 delta null", event({"choices": [{"delta": None}]}) + AB + STOP, "", "ab"),
    ("32 content null", chunk({"content": None, "reasoning": None, "tool_calls": None}) + AB + STOP, "", "ab"),
    ("32 choices of nothing", event({"choices": [None]}) + event({"choices": {}}) + AB + STOP, "", "ab"),
    ("33 extra keys", chunk({"content": "ab"}, provider="x", citations=["u"], timings=None) + STOP, "", "ab"),
    ("34 junk", b"data: ping\n\ndata: OK\n\nnonsense\n\n" + AB + STOP, "", "ab"),
    ("a refusal is what the model says", chunk({"content": None, "refusal": "ab"}) + STOP, "", "ab"),
    ("one message", event({"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}), "", "ab"),
    ("a message after its deltas", AB + event({"choices": [{"message": {"content": "ab"}}]}) + STOP, "", "ab"),
    ("the old completions shape", event({"choices": [{"text": "ab", "finish_reason": "length"}]}), "", "ab"),
    ("text after the end is not read", AB + STOP + AB, "", "ab"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "thoughts", "text"), [row[1:] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_a_quirk_makes_no_difference(body: bytes, thoughts: str, text: str) -> None:
    deltas = deltas_of(body)
    assert told(deltas) == (thoughts, text)
    kinds = [type(d) for d in deltas]
    assert kinds.count(Finish) == 1
    assert set(kinds[kinds.index(Finish) + 1 :]) <= {Usage}


@pytest.mark.parametrize("size", [1, 7, 64])
def test_packets_may_cut_anywhere(size: int) -> None:
    body = (chunk({"reasoning": "größe"}) + chunk({"content": "🌹 ö"}) + STOP).replace(b"\n", b"\r\n")
    steps: list[Step] = [HEAD, *(body[i : i + size] for i in range(0, len(body), size))]

    async def main(url: str) -> list[Delta]:
        async with opened(OpenAI(OpenAISettings(base_url=url, model="m"))) as llm:
            return [delta async for delta in llm.stream(request_of())]

    with FakeLLMServer() as server:
        server.script(Reply(steps, framing="raw"))
        assert told(asyncio.run(main(server.url))) == ("größe", "🌹 ö")


# Usage: 9 to 14.

USED = {"prompt_tokens": 3, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 2}}
TIMINGS = {"prompt_n": 2, "cache_n": 1, "predicted_n": 5}


def used(completion: int) -> dict[str, int]:
    return {"prompt_tokens": 3, "completion_tokens": completion}


USAGES: list[tuple[str, bytes, Usage | None]] = [
    ("9 alone", AB + chunk(finish="stop") + chunk(choices=[], usage=USED) + DONE, Usage(3, 5, 2)),
    ("11 with the finish", AB + chunk(finish="stop", usage=USED), Usage(3, 5, 2)),
    ("12 with an empty delta", AB + chunk(finish="stop") + chunk({}, usage=USED) + DONE, Usage(3, 5, 2)),
    ("13 growing", b"".join(chunk({}, usage=used(n)) for n in (1, 2, 3)) + STOP, Usage(3, 3, 0)),
    ("14 none", AB + STOP, None),
    ("33 groq", AB + chunk(finish="stop", x_groq={"usage": USED}) + DONE, Usage(3, 5, 2)),
    ("33 llama.cpp", AB + chunk(finish="stop", timings=TIMINGS) + DONE, Usage(3, 5, 0)),
    ("null", AB + chunk(finish="stop", usage=None) + DONE, None),
    ("nonsense", AB + chunk(finish="stop", usage={"prompt_tokens": "many", "completion_tokens": -1}), Usage(0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("body", "usage"), [row[1:] for row in USAGES], ids=[row[0] for row in USAGES])
def test_usage_is_told_once_and_last(body: bytes, usage: Usage | None) -> None:
    deltas = deltas_of(body)
    assert [d for d in deltas if isinstance(d, Usage)] == ([usage] if usage else [])
    assert isinstance(deltas[-1], Usage if usage else Finish)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [("stop", "stop"), ("eos", "stop"), ("STOP", "stop"), ("end_turn", "stop"), ("length", "length"),
     ("MAX_TOKENS", "length"), ("content_filter", "content_filter"), ("abort", "other"), ("tool_calls", "other")],
)  # fmt: skip
def test_a_reason_to_stop_is_told_in_our_words_and_in_theirs(raw: str, reason: str) -> None:
    assert deltas_of(AB + chunk(finish=raw) + DONE)[-1] == Finish(reason, raw)


def test_done_without_a_reason_is_a_stop() -> None:
    assert deltas_of(AB + DONE)[-1] == Finish("stop")


# Tool calls: 20 and 21. Sourcebook offers none; core makes an error of one.


def call(**call: Any) -> bytes:
    function = {k: call.pop(k) for k in ("name", "arguments") if k in call}
    return chunk({"tool_calls": [call | {"function": function}]})


CALLS: list[tuple[str, bytes, list[ToolCall]]] = [
    ("as specified", call(index=0, id="1", name="f", arguments="") + call(index=0, arguments="{"),
     [ToolCall("1", "f", "{")]),
    ("21 no index", call(id="1", name="f", arguments="{") + call(arguments="}"), [ToolCall("1", "f", "{}")]),
    ("21 index null", call(index=None, id="1", name="f") + call(index=None, arguments="{}"),
     [ToolCall("1", "f", "{}")]),
    ("21 id repeated", call(index=0, id="1", name="f", arguments="{") * 2, [ToolCall("1", "f", "{{")]),
    ("21 id empty", call(index=0, id="1", name="f") + call(index=0, id="", arguments="x"), [ToolCall("1", "f", "x")]),
    ("21 one index for two", call(index=0, id="1", name="f", arguments="a") + call(index=0, id="2", name="g"),
     [ToolCall("1", "f", "a"), ToolCall("2", "g", "")]),
    ("21 two at once", call(index=0, id="1", name="f") + call(index=1, id="2", name="g") + call(index=0, arguments="a"),
     [ToolCall("1", "f", "a"), ToolCall("2", "g", "")]),
    ("an object for a string", call(id="1", name="f", arguments={"a": 1}), [ToolCall("1", "f", '{"a": 1}')]),
    ("the old function_call", chunk({"function_call": {"name": "f", "arguments": "{}"}}), [ToolCall("", "f", "{}")]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "calls"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_tool_calls_are_put_together_and_told_before_the_finish(
    body: bytes, calls: list[ToolCall], finish: str
) -> None:
    deltas = deltas_of(body + chunk(finish=finish) + DONE)
    assert deltas[:-1] == calls
    assert isinstance(deltas[-1], Finish)


# What must not pass for an answer: 19, 23, 25 to 28, 34.

TEXT = chunk({"content": "a"})
HTML = b"<!doctype html><title>Login</title>"
BROKEN: list[tuple[str, tuple[Step, ...], str]] = [
    ("23 EOF without a reason", (TEXT,), "llm_truncated"),
    ("23 cut", (TEXT, "close"), "llm_truncated"),
    ("23 reset", (TEXT, "reset"), "llm_truncated"),
    ("23 cut inside an event", (TEXT, chunk({"content": "b"})[:40], "close"), "llm_truncated"),
    ("empty body", (), "llm_protocol"),
    ("only [DONE]", (DONE,), "llm_protocol"),
    ("only comments", (b": x\n\n",), "llm_protocol"),
    ("19 finish error", (TEXT, chunk(finish="error"), DONE), "llm_server_error"),
    ("25 number", (TEXT, event({"error": {"code": 429, "message": "slow down"}}), DONE), "llm_rate_limited"),
    ("25 number as text", (TEXT, event({"error": {"code": "502", "message": "bad"}})), "llm_server_error"),
    ("25 word", (TEXT, event({"error": {"code": "rate_limit_exceeded", "message": "slow"}})), "llm_rate_limited"),
    ("25 type", (event({"error": {"type": "authentication_error", "message": "who"}}),), "llm_refused"),
    ("25 with finish", (TEXT, chunk(finish="error", error={"code": 503, "message": "x"})), "llm_server_error"),
    ("25 a bare string", (TEXT, event({"error": "out of memory"})), "llm_server_error"),
    ("25 context", (event({"error": {"code": "context_length_exceeded", "message": "long"}}),), "llm_bad_request"),
    ("26 vLLM", (TEXT, event({"object": "error", "message": "no", "code": 400}), DONE), "llm_bad_request"),
    ("27 event: error", (TEXT, b'event: error\ndata: {"message": "no"}\n\n'), "llm_server_error"),
    ("27 event: error in words", (TEXT, b"event: error\ndata: it broke\n\n"), "llm_server_error"),
    ("35 detail", (TEXT, event({"detail": [{"msg": "field required"}]})), "llm_server_error"),
    ("anthropic", (TEXT, event({"type": "error", "error": {"type": "overloaded_error"}})), "llm_server_error"),
    ("an error without a field name", (TEXT, b'{"error": {"message": "no", "code": 500}}\n\n'), "llm_server_error"),
    ("34 broken JSON", (TEXT, b'data: {"choices": [\n\n', STOP), "llm_protocol"),
    ("34 wrong UTF-8", (says(b"\xff"), STOP), "llm_protocol"),
    ("34 too much junk", (b"data: junk\n\n" * 9, STOP), "llm_protocol"),
    ("HTML", (HTML,), "llm_protocol"),
    ("a line over the cap", (b"data: " + b"x" * 1_100_000 + b"\n\n",), "llm_protocol"),
    ("an event over the cap", ((b"data: " + b"x" * 900_000 + b"\n") * 5,), "llm_protocol"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "code"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_is_not_a_whole_answer_is_a_typed_error(steps: tuple[Step, ...], code: str) -> None:
    assert failure_of(*steps).problem_code == code


def test_what_came_before_the_break_is_delivered() -> None:
    seen: list[Delta] = []

    async def main(url: str) -> None:
        async with opened(OpenAI(OpenAISettings(base_url=url, model="m"))) as llm:
            with pytest.raises(LLMError):
                async for delta in llm.stream(request_of()):
                    seen.append(delta)  # noqa: PERF401  # a comprehension would lose it with the error

    with FakeLLMServer() as server:
        server.script(Reply([TEXT, TEXT, "reset"]))
        asyncio.run(main(server.url))
    assert seen == [Text("a"), Text("a")]


def test_a_break_after_the_reason_to_stop_loses_only_usage() -> None:
    assert deltas_of(AB, chunk(finish="stop"), "reset")[-1] == Finish("stop", "stop")


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/event-stream"])
def test_a_web_page_names_the_setting_to_look_at(content_type: str) -> None:
    error = failure_of(HTML, content_type=content_type)
    assert error.problem_code == "llm_protocol"
    assert "base_url" in error.remedy


# 28: JSON in place of a stream.

MESSAGE = {"role": "assistant", "reasoning_content": "hm", "content": "ab"}
JSON = event({"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}], "usage": USED})[6:]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/event-stream"])
@pytest.mark.parametrize("body", [JSON, b"\n " + JSON.replace(b",", b",\n  ")])
def test_json_is_read_as_an_answer_in_one_piece(content_type: str, body: bytes) -> None:
    deltas = deltas_of(body[:9], body[9:], content_type=content_type)
    assert deltas == [Reasoning("hm"), Text("ab"), Finish("stop", "stop"), Usage(3, 5, 2)]


def test_tags_are_split_in_one_piece_too() -> None:
    body = event({"choices": [{"message": {"content": "<think>hm</think>ab"}}]})[6:]
    assert told(deltas_of(body, content_type="application/json")) == ("hm", "ab")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"message": "no", "code": 401}}', "llm_refused"),
        (b'{"detail": "not found"}', "llm_server_error"),
        (JSON[:30], "llm_protocol"),
        (b"[]", "llm_protocol"),
    ],
)
def test_json_that_is_no_answer_is_a_typed_error(body: bytes, code: str) -> None:
    assert failure_of(body, content_type="application/json").problem_code == code


def test_json_lines_are_streamed() -> None:
    lines = (AB + chunk(finish="stop")).replace(b"data: ", b"").replace(b"\n\n", b"\n")
    assert told(deltas_of(lines, content_type="application/x-ndjson")) == ("", "ab")


def test_an_answer_over_the_cap_is_stopped() -> None:
    part = chunk({"content": "x" * 1_000_000})
    error = failure_of(*[part] * 40)
    assert (error.problem_code, "over" in error.detail) == ("llm_protocol", True)


def test_tags_are_left_alone_where_they_are_switched_off() -> None:
    assert told(deltas_of(chunk({"content": "<think>a</think>b"}) + STOP, think_tags="off")) == (
        "",
        "<think>a</think>b",
    )
    assert told(deltas_of(chunk({"content": "a</think>b"}) + STOP, think_tags="open")) == ("a", "b")
