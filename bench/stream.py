"""Relaying a model's stream: what Sourcebook adds to the first word, and how many tokens a second of processor carries.

Three ways to the same upstream (a raw asyncio server in a process of its own, speaking the OpenAI API): a direct
connection; a bare relay (httpx, orjson and Starlette's StreamingResponse under uvicorn, nothing else); and Sourcebook's
`POST /api/v1/chat`, which also stores the question, searches, writes the prompt, numbers and keeps every event, looks
for citations and stores the answer. Sourcebook's added first word therefore holds its retrieval, shown apart.

Upstream reads `max_tokens` as how many tokens to send and `seed` as how many a second (0: as fast as the client reads).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from measuring import Words, cpu_below, machine, median, percentile, table, workspace
from serving import environment, free_port, serving

_PACE = 50  # tokens a second of a paced stream
_WORD = b"zyx"  # in every token, and nowhere else before the last event


@dataclass(frozen=True)
class Way:
    """How to get one stream: where, and what to send. `pid` is who relays it (0: nobody)."""

    name: str
    port: int
    path: str
    body: Callable[[int, int], dict[str, Any]]
    pid: int


async def upstream(port: int) -> None:
    """The model: one chunk a token, each in an HTTP chunk of its own."""
    await (await asyncio.start_server(_speak, "127.0.0.1", port, backlog=256)).serve_forever()


async def _speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            asked = json.loads(await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r")[0])))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            loop, rate = asyncio.get_running_loop(), asked["seed"]
            began = loop.time()
            for i in range(asked["max_tokens"]):
                _chunk(writer, _said({"content": f"zyx{i % 10} "}))
                # By the clock: what one pause lasts too long, the next makes up for.
                await (asyncio.sleep(began + (i + 1) / rate - loop.time()) if rate else writer.drain())
            _chunk(writer, _said({}, "stop"))
            _chunk(writer, b"data: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            if b"connection: close" in head:
                break
    writer.close()


def _said(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def relay(port: int, target: str) -> None:
    """The least that a relay in Python with these libraries can do; uvloop and llhttp are under ours too."""
    import httpx
    import orjson
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=100, max_keepalive_connections=20))

    async def events(body: bytes) -> AsyncIterator[bytes]:
        async with client.stream("POST", target, content=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    text = orjson.loads(line[6:])["choices"][0]["delta"].get("content", "")
                    yield b"data: " + orjson.dumps({"delta": text}) + b"\n\n"

    async def chat(request: Request) -> StreamingResponse:
        return StreamingResponse(events(await request.body()), media_type="text/event-stream")

    app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, loop="auto", http="auto", log_level="error")


async def once(way: Way, tokens: int, rate: int) -> tuple[float, float]:
    """Seconds to the first token, and to the end, of one stream. Raises where a token is missing."""
    body = json.dumps(way.body(tokens, rate)).encode()
    lines = [f"POST {way.path} HTTP/1.1", f"Host: 127.0.0.1:{way.port}", "Connection: close"]
    lines += ["Content-Type: application/json", "Accept: text/event-stream", f"Content-Length: {len(body)}", "", ""]
    began, first = time.perf_counter(), 0.0
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port, limit=2**20)
    writer.write("\r\n".join(lines).encode() + body)
    seen, got = 0, b""
    while piece := await reader.read(2**18):
        got = got[1 - len(_WORD) :] + piece  # the end of what was counted is too short for a word
        if not first and _WORD in got:
            first = time.perf_counter() - began
        seen += got.count(_WORD)
    writer.close()
    if seen < tokens:
        raise SystemExit(f"{way.name}: {seen} of {tokens} tokens came: {got[-1000:]!r}")
    return first, time.perf_counter() - began


async def measure(ways: list[Way], streams: int, tokens: int, rate: int, rounds: int) -> dict[str, dict[str, float]]:
    """Each way in turn, `rounds` times: p50 and p95 of the first token over all streams; medians of the rounds'
    tokens a second, and tokens per CPU second of whoever relays.
    """
    found: dict[str, dict[str, list[float]]] = {w.name: {"first": [], "wall": [], "cpu": []} for w in ways}
    for _ in range(rounds):
        for way in ways:
            cpu, began = cpu_below(way.pid) if way.pid else 0.0, time.perf_counter()
            times = await asyncio.gather(*(once(way, tokens, rate) for _ in range(streams)))
            row = found[way.name]
            row["wall"].append(streams * tokens / (time.perf_counter() - began))
            used = cpu_below(way.pid) - cpu if way.pid else 0.0
            row["cpu"].append(streams * tokens / used if used else 0.0)
            row["first"].extend(first * 1000 for first, _ in times)
    return {
        name: {"p95": percentile(row["first"], 0.95)} | {what: median(values) for what, values in row.items()}
        for name, row in found.items()
    }


def report(title: str, found: dict[str, dict[str, float]], *, first: bool) -> None:
    """One table, and its ratios."""
    print(f"\n{title}")
    head = ("", "first token ms", "p95", "added ms") if first else ("", "tokens/s", "per CPU s")
    rows = []
    for name, row in found.items():
        added = "" if name == "direct" else f"{row['first'] - found['direct']['first']:.1f}"
        rates = (f"{row['wall']:,.0f}", f"{row['cpu']:,.0f}" if row["cpu"] else "")
        rows.append((name, f"{row['first']:.1f}", f"{row['p95']:.1f}", added) if first else (name, *rates))
    table(head, rows)
    ours, bare, direct = found["Sourcebook"], found["bare relay"], found["direct"]
    if not first:
        shares = f"{ours['wall'] / direct['wall']:.2f} of direct, {ours['wall'] / bare['wall']:.2f} of the bare relay"
        per_cpu = f"{ours['cpu'] / bare['cpu']:.2f}" if bare["cpu"] else "-"  # too short to have used any
        print(f"ratio, tokens/s: {shares}; per CPU second: {per_cpu} of the bare relay")


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[int]:
    """This script as another process; its id, once it listens on its port (the second argument)."""
    process = subprocess.Popen([sys.executable, __file__, *arguments], env=environment())
    try:
        for _ in range(400):
            with contextlib.suppress(OSError):
                asyncio.run(_touch(int(arguments[1])))
                break
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


async def _touch(port: int) -> None:
    (await asyncio.open_connection("127.0.0.1", port))[1].close()


def run(folder: Path, given: argparse.Namespace) -> None:
    """Start the three, measure, print."""
    up, bare = free_port(), free_port()
    target = f"http://127.0.0.1:{up}/v1/chat/completions"
    settings = {
        "SOURCEBOOK_LLMS__BENCH__USE": "openai",
        "SOURCEBOOK_LLMS__BENCH__BASE_URL": f"http://127.0.0.1:{up}/v1",
        "SOURCEBOOK_LLMS__BENCH__MODEL": "m",
        "SOURCEBOOK_LLMS__BENCH__CONTEXT_WINDOW": "1000000",
        "SOURCEBOOK_PIPELINES__DEFAULT__LLM": "bench",
    }
    with (
        started("--upstream", str(up)),
        started("--relay", str(bare), target) as relay_pid,
        serving(folder, settings) as server,
    ):
        notebook = server.notebook_with(Words(3).paragraph(2000))

        def asked(tokens: int, rate: int) -> dict[str, Any]:
            return {"question": "ba den", "notebooks": [notebook], "stream": True, "options": _options(tokens, rate)}

        ways = [
            Way("direct", up, "/v1/chat/completions", _options, 0),
            Way("bare relay", bare, "/chat", _options, relay_pid),
            Way("Sourcebook", server.port, "/api/v1/chat", asked, server.process.pid),
        ]
        asyncio.run(_all(partial(measure, ways), given))
        found = server.call("POST", "/search", {"question": "ba den", "notebooks": [notebook]})
        print(f"\nof Sourcebook's first token, retrieval: {found['took_ms']:.1f} ms")


def _options(tokens: int, rate: int) -> dict[str, Any]:
    return {"max_tokens": tokens, "seed": rate}


async def _all(go: Callable[..., Awaitable[dict[str, dict[str, float]]]], given: argparse.Namespace) -> None:
    await go(1, 2, 0, 3)  # warm
    print("stream: relaying a model's answer")
    print(machine())
    report("first token, one stream at a time", await go(1, 2, 0, given.firsts), first=True)
    paced = await go(given.streams, given.paced, _PACE, given.rounds)
    report(f"first token, {given.streams} streams at once, {_PACE} tokens/s each", paced, first=True)
    report(f"the same {given.streams} streams", paced, first=False)
    ended = ", ".join(f"{name} {given.streams * _PACE / row['wall']:.2f}" for name, row in paced.items())
    print(f"ratio, {given.streams} streams paced at {_PACE} tokens/s, time to the end to the ideal: {ended}")
    report("one stream, as fast as it goes", await go(1, given.tokens, 0, given.rounds), first=False)
    many = await go(given.streams, given.tokens // 4, 0, given.rounds)
    report(f"{given.streams} streams, as fast as they go", many, first=False)


def main() -> None:
    """Be the upstream, the relay, or the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=8000, help="of one stream, as fast as it goes")
    parser.add_argument("--paced", type=int, default=200, help="tokens of one stream at 50 a second")
    parser.add_argument("--firsts", type=int, default=40, help="how often the first token is timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few tokens, once: to see that it runs")
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--relay", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upstream:
        asyncio.run(upstream(given.upstream))
    elif given.relay:
        relay(int(given.relay[0]), given.relay[1])
    else:
        if given.quick:
            given.streams, given.tokens, given.paced, given.firsts, given.rounds = 2, 200, 5, 2, 1
        with workspace("stream") as folder:
            run(folder, given)


if __name__ == "__main__":
    main()
