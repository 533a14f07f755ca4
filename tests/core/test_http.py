from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sourcebook.errors import UpstreamError
from sourcebook.http import Http, Timeouts
from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, Step

PLAIN = {"content-type": "text/plain"}


def run(use: Callable[[Http], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        http = Http(**options)
        try:
            return await use(http)
        finally:
            await http.aclose()

    return asyncio.run(main())


def failure_of(url: str, **options: Any) -> UpstreamError:
    async def use(http: Http) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await http.request("GET", url, **options)
        return caught.value

    error = run(use)
    assert isinstance(error, UpstreamError)
    return error


def test_importing_the_module_does_not_import_httpx() -> None:
    code = "import sys, sourcebook.http; sys.exit(any(m in sys.modules for m in ('httpx', 'httpcore', 'anyio')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_request_carries_json_and_gets_status_headers_and_body() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"he", b"llo"], 418, {"X-Tea": "oolong", "Content-Type": "text/plain"}), path="/tea")
        answer = run(lambda http: http.request("POST", f"{server.root}/tea", json={"a": 1}, headers={"X-Key": "k"}))
        assert (answer.status, answer.body, answer.headers["x-tea"]) == (418, b"hello", "oolong")
        sent = server.requests[0]
        assert sent.json == {"a": 1}
        assert (sent.headers["x-key"], sent.headers["content-type"]) == ("k", "application/json")


def test_redirects_are_not_followed_and_cookies_are_not_kept() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([], 302, {"location": f"{server.root}/b", "set-cookie": "a=b"}), path="/a")

        async def use(http: Http) -> None:
            first = await http.request("GET", f"{server.root}/a")
            assert first.status == 302
            await http.request("GET", f"{server.root}/v1/models")

        run(use)
        assert [r.path for r in server.requests] == ["/a", "/v1/models"]
        assert "cookie" not in server.requests[1].headers


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FakeLLMServer() as server:
        assert run(lambda http: http.request("GET", f"{server.root}/v1/models")).status == 200


def test_a_proxy_is_used_where_it_is_asked_for() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"via"], headers=PLAIN), path="http://far.test/page")
        answer = run(lambda http: http.request("GET", "http://far.test/page"), proxy=server.root)
        assert answer.body == b"via"


def test_a_connection_is_used_again() -> None:
    with FakeLLMServer() as server:

        async def use(http: Http) -> None:
            for _ in range(3):
                await http.request("GET", f"{server.root}/v1/models")

        run(use)
        assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_body_is_streamed_as_it_comes(framing: Any) -> None:
    hold = Hold()
    with FakeLLMServer() as server:
        server.script(Reply([b"one", hold, b"two"], headers=PLAIN, framing=framing), path="/s")

        async def use(http: Http) -> list[bytes]:
            async with http.stream("GET", f"{server.root}/s") as answer:
                chunks = answer.chunks()
                first = await anext(chunks)
                hold.release()
                return [first, *[c async for c in chunks]]

        assert run(use) == [b"one", b"two"]


# Every way of being late has its own code.

SHORT = Timeouts(connect=5, first_byte=0.1, gap=5, total=5)
CASES: list[tuple[str, list[Step], str, Timeouts]] = [
    ("no head", [Hold()], "raw", SHORT),
    ("a head and no body", [b"HTTP/1.1 200 OK\r\n\r\n", Hold()], "raw", SHORT),
    ("half a head", [b"HTTP/1.1 200 OK\r\nx", Hold()], "raw", SHORT),
]


@pytest.mark.parametrize(("steps", "framing", "limits"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_no_first_byte_in_time(steps: list[Step], framing: Any, limits: Timeouts) -> None:
    with FakeLLMServer() as server:
        server.script(Reply(steps, framing=framing), path="/s")
        assert failure_of(f"{server.root}/s", timeouts=limits).problem_code == "upstream_first_byte_timeout"
        assert server.wait_for_connections(0)


def test_a_gap_in_the_body() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"a", Hold()], headers=PLAIN), path="/s")
        error = failure_of(f"{server.root}/s", timeouts=Timeouts(gap=0.1))
        assert (error.problem_code, error.transient) == ("upstream_gap_timeout", True)


def test_the_time_that_the_reader_takes_is_no_gap() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"a", b"b", 0.01, b"c"], headers=PLAIN), path="/s")

        async def use(http: Http) -> bytes:
            body = b""
            async with http.stream("GET", f"{server.root}/s", timeouts=Timeouts(gap=0.1)) as answer:
                async for chunk in answer.chunks():
                    body += chunk
                    await asyncio.sleep(0.15)
            return body

        assert run(use) == b"abc"


def test_a_callers_own_deadline_is_not_taken_for_ours() -> None:
    with FakeLLMServer() as server:
        server.script(*[Reply([b"a", Hold()], headers=PLAIN)] * 2, path="/s")

        async def use(http: Http) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await http.request("GET", f"{server.root}/s")
            async with asyncio.timeout(30):
                with pytest.raises(UpstreamError, match="stopped"):
                    await http.request("GET", f"{server.root}/s", timeouts=Timeouts(gap=0.1))
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

        run(use)


def test_a_server_that_trickles_ends_at_the_total_deadline() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([s for _ in range(200) for s in (b"a", 0.02)], headers=PLAIN), path="/s")
        error = failure_of(f"{server.root}/s", timeouts=Timeouts(gap=10, total=0.2))
        assert error.problem_code == "upstream_total_timeout"
        assert server.wait_for_connections(0)


def test_a_trickled_head_ends_too() -> None:
    with FakeLLMServer() as server:
        steps: list[Step] = [s for _ in range(200) for s in (b"HTTP/1.1 200 OK\r\nx: " if _ == 0 else b"a", 0.02)]
        server.script(Reply(steps, framing="raw"), path="/s")
        error = failure_of(f"{server.root}/s", timeouts=Timeouts(first_byte=0.2))
        assert error.problem_code == "upstream_first_byte_timeout"


def test_a_refused_connection_is_unreachable() -> None:
    with FakeLLMServer() as server:
        root = server.root
    error = failure_of(root)
    assert (error.problem_code, error.transient) == ("upstream_unreachable", True)


def test_a_full_backlog_is_a_connect_timeout() -> None:
    """A listening socket that never accepts and whose queue is full lets nobody in."""
    import socket

    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        error = failure_of(f"http://127.0.0.1:{listener.getsockname()[1]}", timeouts=Timeouts(connect=0.1))
    assert error.problem_code == "upstream_connect_timeout"


@pytest.mark.parametrize(
    ("steps", "framing", "code"),
    [
        ([b"a", "close"], "chunked", "upstream_cut"),
        ([b"a", "reset"], "chunked", "upstream_cut"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "close"], "raw", "upstream_cut"),
        (["close"], "raw", "upstream_cut"),
        (["reset"], "raw", "upstream_cut"),
        ([b"SSH-2.0-OpenSSH_9.7\r\n\r\n"], "raw", "upstream_protocol_error"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"], "raw", "upstream_protocol_error"),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000], "raw", "upstream_protocol_error"),
    ],
)
def test_a_broken_answer_has_a_code(steps: list[Step], framing: Any, code: str) -> None:
    with FakeLLMServer() as server:
        server.script(Reply(steps, headers=PLAIN, framing=framing), path="/s")
        assert failure_of(f"{server.root}/s").problem_code == code
        assert len(server.requests) == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_once() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"a"], headers=PLAIN), Reply(["close"], framing="raw"), Reply([b"b"]), path="/s")

        async def use(http: Http) -> list[bytes]:
            return [(await http.request("POST", f"{server.root}/s", json=1)).body for _ in range(2)]

        assert run(use) == [b"a", b"b"]
        assert (len(server.requests), server.connections) == (3, 2)


def test_a_body_over_the_limit_is_not_read_on() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"a" * 1000] * 100 + [Hold()], headers=PLAIN), path="/s")
        assert failure_of(f"{server.root}/s", max_bytes=10_000).problem_code == "upstream_too_large"
        assert server.wait_for_connections(0)


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_compressed_body_is_unpacked_though_not_asked_for(packed: Callable[[bytes], bytes]) -> None:
    body = packed(b"text " * 1000)
    name = "gzip" if packed is gzip.compress else "deflate"
    with FakeLLMServer() as server:
        server.script(Reply([body[:7], body[7:]], headers={"content-encoding": name}), path="/s")
        assert run(lambda http: http.request("GET", f"{server.root}/s")).body == b"text " * 1000
        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_compressed_bomb_is_unpacked_in_pieces_and_stopped() -> None:
    with FakeLLMServer() as server:
        bomb = gzip.compress(bytes(50_000_000))
        server.script(*[Reply([bomb], headers={"content-encoding": "gzip"}) for _ in range(2)], path="/s")

        async def longest(http: Http) -> int:
            async with http.stream("GET", f"{server.root}/s") as answer:
                return max([len(c) async for c in answer.chunks()])

        assert run(longest) <= 256 * 1024
        assert failure_of(f"{server.root}/s", max_bytes=1_000_000).problem_code == "upstream_too_large"


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (gzip.compress(b"text" * 99, mtime=0)[:20], "gzip", "upstream_cut"),
        (b"not gzip at all", "gzip", "upstream_protocol_error"),
        (b"x", "br", "upstream_protocol_error"),
    ],
)
def test_a_damaged_compressed_body_has_a_code(body: bytes, encoding: str, code: str) -> None:
    with FakeLLMServer() as server:
        server.script(Reply([body], headers={"content-encoding": encoding}), path="/s")
        assert failure_of(f"{server.root}/s").problem_code == code
        assert server.wait_for_connections(0)


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "file:///etc/passwd", "http://", "nonsense", "http://u:secret@127.0.0.1/"]
)
def test_an_address_that_cannot_be_asked_is_refused(url: str) -> None:
    error = failure_of(url)
    assert error.problem_code == "upstream_bad_request"
    assert "secret" not in str(error.problem())


@pytest.mark.parametrize("value", ["Bearer s\necret", "Bearer s\u2026ecret", "Bearer s\x00ecret"])
def test_a_header_that_cannot_be_sent_is_not_quoted(value: str) -> None:
    error = failure_of("http://127.0.0.1:9/", headers={"authorization": value})
    assert error.problem_code == "upstream_bad_request"
    assert "ecret" not in str(error.problem())
    assert error.__cause__ is None


def test_the_query_of_an_address_is_not_shown_in_errors() -> None:
    assert "secret" not in str(failure_of("http://127.0.0.1:9/p?key=secret").problem())


def test_leaving_the_context_closes_the_upstream() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"a", Hold()], headers=PLAIN), path="/s")

        async def use(http: Http) -> bool:
            async with http.stream("GET", f"{server.root}/s") as answer:
                await anext(answer.chunks())
            return await asyncio.to_thread(server.requests[0].closed.wait, 10)

        assert run(use)


@pytest.mark.parametrize(
    "steps", [[Hold()], [b"HTTP/1.1 200 OK\r\n\r\n", Hold()], [b"HTTP/1.1 200 OK\r\n\r\nab", Hold()]]
)
def test_cancelling_closes_the_upstream_in_every_phase(steps: list[Step]) -> None:
    with FakeLLMServer() as server:
        server.script(Reply(steps, framing="raw"), path="/s")

        async def use(http: Http) -> bool:
            task = asyncio.ensure_future(http.request("GET", f"{server.root}/s"))
            hold = next(s for s in steps if isinstance(s, Hold))
            await asyncio.to_thread(hold.reached.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await asyncio.to_thread(server.requests[0].closed.wait, 10)

        assert run(use)


def test_a_hundred_dropped_streams_leave_no_connection_and_no_task() -> None:
    with FakeLLMServer() as server:
        server.script(*[Reply([b"a", Hold()], headers=PLAIN) for _ in range(100)], path="/s")

        async def use(http: Http) -> None:
            async def one(n: int) -> None:
                async with http.stream("GET", f"{server.root}/s") as answer:
                    async for _ in answer.chunks():
                        if n % 2:
                            return

            tasks = [asyncio.ensure_future(one(n)) for n in range(100)]
            await asyncio.gather(*tasks[1::2])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await asyncio.to_thread(server.wait_for_connections, 0)
            [pool] = http._pools.values()
            assert pool.connections == []
            assert len(asyncio.all_tasks()) == 1

        run(use)


def test_timeouts_are_positive() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Timeouts(gap=0)
