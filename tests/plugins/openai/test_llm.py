from __future__ import annotations

import asyncio
import email.utils
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from sourcebook.errors import LLMError
from sourcebook.events import Delta, Finish, Reasoning, Text, Usage
from sourcebook.http import Timeouts
from sourcebook.interfaces import LLM, LLMRequest, Message
from sourcebook.testing.components import opened
from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, chunk, json_reply, stream_of
from sourcebook.testing.llms import LLMContract, request_of
from sourcebook.upstream import Breaker, Retries, retry_after
from sourcebook_plugins.openai import OpenAI
from sourcebook_plugins.openai.llm import OpenAISettings

KEY = "sk-canary-4711"
AT_ONCE = Retries(base=0.0)


def model(url: str, retries: Retries = AT_ONCE, **settings: Any) -> OpenAI:
    return OpenAI(OpenAISettings(base_url=url, model="m", **settings), "fast", retries)


def answer(llm: OpenAI, *requests: LLMRequest) -> list[list[Delta]]:
    async def main() -> list[list[Delta]]:
        async with opened(llm):
            return [[d async for d in llm.stream(request)] for request in requests or (request_of(),)]

    return asyncio.run(main())


def failure(llm: OpenAI) -> LLMError:
    with pytest.raises(LLMError) as caught:
        answer(llm)
    return caught.value


class TestContract(LLMContract):
    @contextmanager
    def answering(self) -> Iterator[LLM[Any]]:
        with FakeLLMServer() as server:
            server.script(*[Reply(stream_of(["Hel", "lo"], ["hm"])) for _ in range(5)])
            yield model(server.url)

    @contextmanager
    def hanging(self) -> Iterator[tuple[LLM[Any], Callable[[float], bool]]]:
        with FakeLLMServer() as server:
            server.script(Reply([chunk({"content": "a"}), Hold()]))
            yield model(server.url), lambda timeout: server.requests[0].closed.wait(timeout)

    @contextmanager
    def failing(self) -> Iterator[LLM[Any]]:
        with FakeLLMServer() as server:
            server.script(json_reply({"error": {"message": "no"}}, 500))
            yield model(server.url)


def test_an_answer_is_told_in_order_with_its_usage() -> None:
    with FakeLLMServer() as server:
        server.script(Reply(stream_of(["Hel", "lo"], ["hm", "!"])))
        [deltas] = answer(model(server.url))
    assert deltas == [Reasoning("hm"), Reasoning("!"), Text("Hel"), Text("lo"), Finish("stop", "stop"), Usage(7, 2)]


def test_deltas_come_as_they_are_sent() -> None:
    hold = Hold()

    async def main(url: str) -> list[Delta]:
        async with opened(model(url)) as llm:
            stream = llm.stream(request_of())
            first = await anext(stream)  # the server has not been let go yet
            hold.release()
            return [first, *[d async for d in stream]]

    with FakeLLMServer() as server:
        server.script(Reply([chunk({"content": "a"}), hold, *stream_of(["b"])]))
        assert asyncio.run(main(server.url))[:2] == [Text("a"), Text("b")]


def test_the_request_is_what_the_settings_and_the_caller_say() -> None:
    messages = (Message("system", "s"), Message("user", "u"))
    options = {
        "temperature": 0.1,
        "max_tokens": 5,
        "stop": ["x"],
        "stream": False,
        "tools": [1],
        "model": "other",
        "n": 3,
    }
    with FakeLLMServer() as server:
        llm = model(
            server.url, api_key=KEY, temperature=0.9, max_tokens=9, extra_body={"top_k": 4}, headers={"X-Team": "t"}
        )
        answer(llm, LLMRequest(messages, "u", options=options), LLMRequest(messages, "u", options={"max_tokens": 99}))
        first, second = server.requests
    assert first.json == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.1,
        "max_tokens": 5,
        "stop": ["x"],
        "top_k": 4,
    }
    assert (second.json["temperature"], second.json["max_tokens"]) == (0.9, 9)
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.headers["x-team"] == "t"


def test_the_connection_is_used_again_after_done() -> None:
    with FakeLLMServer() as server:
        answer(model(server.url), *[request_of()] * 3)
        assert (len(server.requests), server.connections) == (3, 1)


def test_without_a_key_none_is_sent() -> None:
    with FakeLLMServer() as server:
        answer(model(server.url))
        assert "authorization" not in server.requests[0].headers


# When it is tried again.


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(status: int) -> None:
    with FakeLLMServer() as server:
        server.script(*[json_reply({"error": "busy"}, status, {"retry-after": "0"})] * 2)
        assert Finish("stop", "stop") in answer(model(server.url))[0]
        assert len(server.requests) == 3


def test_three_tries_are_all_and_the_wait_is_passed_on() -> None:
    with FakeLLMServer() as server:
        server.script(*[json_reply({"error": "busy"}, 429, {"retry-after": "7"})] * 4)
        error = failure(model(server.url, Retries(base=0.0, cap=0.0)))
        assert len(server.requests) == 3
    assert (error.problem_code, error.retry_after, error.transient) == ("llm_rate_limited", 7.0, True)


def test_a_wait_beyond_the_total_deadline_is_not_begun() -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"error": "busy"}, 429, {"retry-after": "20"}))
        failure(model(server.url, timeouts=Timeouts(total=10)))
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500, 502])
def test_other_failures_are_not_tried_again(status: int) -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"error": {"message": "the context is too long"}}, status))
        failure(model(server.url))
        assert len(server.requests) == 1


def test_a_server_that_comes_up_is_found() -> None:
    tries: list[int] = []

    class Counting(Retries):
        def wait(self, attempt: int, asked: float | None) -> float:
            tries.append(attempt)
            return 0.0

    with FakeLLMServer() as server:
        url = server.url
    error = failure(model(url, Counting()))
    assert (error.problem_code, error.transient) == ("llm_unreachable", True)
    assert tries == [1, 2, 3]
    assert "base_url" in error.remedy


def test_nothing_is_tried_again_after_the_first_token() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([chunk({"content": "a"}), b'data: {"error": {"code": 429, "message": "slow"}}\n\n']))
        assert failure(model(server.url)).problem_code == "llm_rate_limited"
        assert len(server.requests) == 1


def test_waits_are_jittered_and_never_shorter_than_asked_nor_over_the_cap() -> None:
    retries = Retries()
    assert all(5 <= retries.wait(1, 5.0) <= 6 for _ in range(100))
    assert retries.wait(1, 3600.0) == 30.0
    assert len({retries.wait(2, None) for _ in range(10)}) > 1


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after({"retry-after": "12"}) == 12.0
    later = retry_after({"retry-after": email.utils.formatdate(time.time() + 100, usegmt=True)})
    assert later is not None
    assert 90 < later <= 100
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "²"}) is None
    assert retry_after({}) is None


# 15: what a server does not know.


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "Unrecognized request argument supplied: stream_options"}},
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs"}]},
        {"error": "unknown field"},
        {},
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_an_unknown_field_is_left_out_and_that_is_remembered(said: Any, status: int) -> None:
    with FakeLLMServer() as server:
        server.script(json_reply(said, status))
        answer(model(server.url), request_of(), request_of())
        assert ["stream_options" in r.json for r in server.requests] == [True, False, False]


def test_what_did_not_help_is_not_remembered() -> None:
    said = json_reply({"error": "unknown model"}, 400)
    with FakeLLMServer() as server:
        server.script(said, said)
        llm = model(server.url)
        assert failure(llm).problem_code == "llm_bad_request"
        answer(llm)
        assert ["stream_options" in r.json for r in server.requests] == [True, False, True]


def test_the_new_name_of_the_token_limit_is_learnt() -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    with FakeLLMServer() as server:
        server.script(json_reply({"error": {"message": said}}, 400))
        answer(model(server.url, max_tokens=5), request_of(), request_of())
        assert [r.json.get("max_completion_tokens") for r in server.requests] == [None, 5, 5]
        assert all("stream_options" in r.json for r in server.requests)


# What failures are called, and what they never say.


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "llm_refused"), (403, "llm_refused"), (404, "llm_bad_request"), (400, "llm_bad_request"),
     (413, "llm_bad_request"), (408, "llm_timeout"), (500, "llm_server_error"), (529, "llm_server_error"),
     (302, "llm_protocol")],
)  # fmt: skip
def test_a_status_has_a_code_and_a_remedy(status: int, code: str) -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"error": {"message": "context"}}, status))
        error = failure(model(server.url))
    assert error.problem_code == code
    assert error.remedy
    assert "fast" in error.detail, "the instance is named"


def test_a_refused_key_names_the_setting() -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"detail": "no"}, 401))
        assert "`api_key` for fast" in failure(model(server.url)).remedy


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        (Timeouts(first_byte=0.1), "upstream_first_byte_timeout"),
        (Timeouts(gap=0.1), "upstream_gap_timeout"),
        (Timeouts(total=0.1), "upstream_total_timeout"),
    ],
)
def test_every_way_of_being_late_is_told_apart(limits: Timeouts, cause: str) -> None:
    with FakeLLMServer() as server:
        server.script(Reply([chunk({"content": "a"}), Hold()] if "gap" in cause else [Hold()]))
        error = failure(model(server.url, timeouts=limits))
    assert (error.problem_code, error.details["cause"]) == ("llm_timeout", cause)


def test_a_server_that_stops_after_its_reason_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook_plugins.openai.llm.AFTER_FINISH", 0.05)
    with FakeLLMServer() as server:
        server.script(Reply([chunk({"content": "a"}), chunk(finish="stop"), Hold()]))
        assert answer(model(server.url))[0] == [Text("a"), Finish("stop", "stop")]


REPEATS = [
    json_reply({"error": {"message": f"Incorrect API key provided: {KEY}."}}, 401),
    json_reply({"detail": f"headers were Bearer {KEY}"}, 400),
    Reply([KEY.encode() * 3], 500, {"content-type": "text/plain"}),
    Reply([b'data: {"error": "%b"}\n\n' % KEY.encode()]),
    Reply([b"event: error\ndata: %b\n\n" % KEY.encode()]),
]


@pytest.mark.parametrize("reply", REPEATS)
def test_a_key_that_the_server_repeats_is_not_shown(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with FakeLLMServer() as server:
        server.script(reply)
        error = failure(model(server.url, api_key=KEY, headers={"x-other": KEY + "-more"}))
    shown: BaseException | None = error
    while shown is not None:
        assert KEY not in repr(shown)
        shown = shown.__cause__
    assert KEY not in str(error.problem())
    assert KEY not in caplog.text


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    error = failure(model("http://127.0.0.1:9/v1", api_key=KEY + "\n"))
    assert error.problem_code == "llm_bad_request"
    assert KEY not in str(error.problem()) + repr(error.__cause__)


def test_settings_hide_the_key_and_refuse_what_they_do_not_know() -> None:
    settings = OpenAISettings(base_url="http://a/v1/", model="m", api_key=SecretStr(KEY), headers={"x": SecretStr(KEY)})
    assert KEY not in repr(settings) + settings.model_dump_json()
    assert settings.base_url == "http://a/v1"
    for wrong in ({"base_url": "ftp://a"}, {"modle": "m"}, {"timeouts": {"gap": -1}}, {"timeouts": {"gpa": 1}}):
        with pytest.raises(ValidationError):
            OpenAISettings.model_validate({"model": "m"} | wrong)
    assert OpenAISettings.model_validate({"model": "m", "timeouts": {"gap": 5}}).timeouts == Timeouts(gap=5)


# Cancelling, in every phase.


@pytest.mark.parametrize(
    "steps", [[], [chunk({"role": "assistant"})]], ids=["before the head", "before the first token"]
)
def test_cancelling_before_the_first_token_closes_the_upstream(steps: list[bytes]) -> None:
    hold = Hold()

    async def main(server: FakeLLMServer) -> bool:
        async with opened(model(server.url)) as llm:
            task = asyncio.ensure_future(anext(llm.stream(request_of())))
            await asyncio.to_thread(hold.reached.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await asyncio.to_thread(server.requests[0].closed.wait, 10)

    with FakeLLMServer() as server:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        server.script(Reply([head, *steps, hold] if steps else [hold], framing="raw"))
        assert asyncio.run(main(server))


def test_cancelling_while_it_waits_to_try_again_sends_nothing_more() -> None:
    async def main(server: FakeLLMServer) -> None:
        async with opened(model(server.url, Retries())) as llm:
            task = asyncio.ensure_future(anext(llm.stream(request_of())))
            while not server.requests or not server.requests[0].finished.is_set():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with FakeLLMServer() as server:
        server.script(json_reply({}, 503, {"retry-after": "25"}))
        asyncio.run(main(server))
        assert len(server.requests) == 1


def test_dropped_answers_leave_no_connection_and_no_task() -> None:
    async def main(server: FakeLLMServer) -> None:
        async with opened(model(server.url)) as llm:

            async def drop() -> None:
                stream = llm.stream(request_of())
                assert isinstance(stream, AsyncGenerator)
                await anext(stream)
                await stream.aclose()

            await asyncio.gather(*(drop() for _ in range(100)))
            assert await asyncio.to_thread(server.wait_for_connections, 0)
            assert len(asyncio.all_tasks()) == 1

    with FakeLLMServer() as server:
        server.script(*[Reply([chunk({"content": "a"}), Hold()]) for _ in range(100)])
        asyncio.run(main(server))


def test_importing_the_plugin_brings_in_nothing_heavy() -> None:
    code = "import sys, sourcebook_plugins.openai; sys.exit(any(m in sys.modules for m in ('httpx', 'numpy', 'anyio')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# A server that is down, and one that is busy.


def test_a_server_that_fails_again_and_again_is_left_alone_and_then_tried_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    breaker = Breaker(failures=3, window=30, rest=15)
    for _ in range(2):
        breaker.failed()
    clock[0] += 31  # too long ago to count
    for _ in range(2):
        breaker.failed()
    assert breaker.wait() == 0
    breaker.failed()
    assert breaker.wait() == 15
    clock[0] += 16
    assert breaker.wait() == 0  # the probe
    assert breaker.wait() > 0  # the others wait for it
    breaker.undecided()
    assert breaker.wait() == 0
    breaker.failed()
    assert breaker.wait() == 15
    clock[0] += 16
    assert breaker.wait() == 0
    breaker.succeeded()
    assert (breaker.wait(), breaker.wait()) == (0, 0)


def test_failing_fast_asks_nothing_of_the_server() -> None:
    async def main(url: str) -> list[LLMError]:
        llm = OpenAI(OpenAISettings(base_url=url, model="m"), retries=Retries(tries=1))
        found = []
        async with opened(llm):
            for _ in range(7):
                with pytest.raises(LLMError) as caught:
                    async for _delta in llm.stream(request_of()):
                        pass
                found.append(caught.value)
        return found

    with FakeLLMServer() as server:
        server.script(*[json_reply({"error": {"message": "no"}}, 500)] * 7)
        errors = asyncio.run(main(server.url))
        assert [e.problem_code for e in errors] == ["llm_server_error"] * 5 + ["llm_unreachable"] * 2
        assert len(server.requests) == 5
        assert errors[-1].retry_after


def test_more_answers_than_may_be_made_at_once_wait_and_then_say_that_it_is_busy() -> None:
    async def main(url: str, hold: Hold) -> None:
        timeouts = Timeouts(first_byte=0.3)
        llm = OpenAI(OpenAISettings(base_url=url, model="m", max_concurrent=1, timeouts=timeouts))
        async with opened(llm):
            first = llm.stream(request_of())
            assert isinstance(await anext(first), Text)
            with pytest.raises(LLMError) as caught:
                await anext(llm.stream(request_of()))
            assert (caught.value.problem_code, caught.value.transient) == ("llm_busy", True)
            hold.release()
            rest = [d async for d in first]
            assert isinstance(rest[0], Finish)
            assert [d async for d in llm.stream(request_of())]

    hold = Hold()
    with FakeLLMServer() as server:
        server.script(Reply([chunk({"content": "a"}), hold, chunk(finish="stop")]))
        asyncio.run(main(server.url, hold))
        assert len(server.requests) == 2
