"""One process owns a data folder, whoever needs it, and whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sourcebook.errors import IndexUnavailable, StoreError
from sourcebook_plugins.qdrant import runtime
from sourcebook_plugins.qdrant.client import Client
from sourcebook_plugins.qdrant.frames import PROTOCOL, pack, receive

LOG = logging.getLogger("test")
EVERYTHING: dict[str, Any] = {"filter": {"must": []}}


def client(folder: Path, *, idle: float = 0, timeout: float = 30) -> Client:
    return Client(folder, LOG, idle_seconds=idle, timeout_seconds=timeout)


@asynccontextmanager
async def connected(folder: Path, *, idle: float = 0, timeout: float = 30) -> AsyncIterator[Client]:
    one = client(folder, idle=idle, timeout=timeout)
    try:
        await one.call("count", EVERYTHING)
        yield one
    finally:
        await one.close()


def store(number: int) -> dict[str, Any]:
    payload = {"owner": "o", "notebook": "n", "source": "s", "generation": "g", "scope": "x", "analyzer": "english"}
    return {"vectors": [], "points": [[f"00000000-0000-0000-0000-{number:012}", payload, f"tea {number}"]]}


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def gone(pid: int) -> None:
    """Return when the process has ended and somebody waited for it: a zombie is still there."""
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.01)


@contextmanager
def killed_at_the_end(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def processes(folder: Path) -> list[int]:
    """The index processes of `folder`, owners or not."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue  # it ended while we looked
        if b"sourcebook_plugins.qdrant.child" in arguments and os.fsencode(folder) in arguments:
            found.append(int(entry.name))
    return found


def program(folder: Path) -> subprocess.Popen[str]:
    """Another program that calls the index once, and prints the process that answered."""
    code = f"""
import asyncio, logging
from pathlib import Path
from sourcebook_plugins.qdrant.client import Client
async def main():
    client = Client(Path({str(folder)!r}), logging.getLogger(), idle_seconds=5, timeout_seconds=30)
    await client.call("count", {EVERYTHING!r})
    print(client.pid)
asyncio.run(main())
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_clients_that_come_at_the_same_moment_share_one_process(tmp_path: Path) -> None:
    async def test() -> None:
        clients = [client(tmp_path) for _ in range(8)]
        await asyncio.gather(*(c.call("count", EVERYTHING) for c in clients))
        assert len({c.pid for c in clients}) == 1
        # And none was started in vain, to wait for its turn.
        assert processes(tmp_path) == [clients[0].pid]
        await asyncio.gather(*(c.close() for c in clients))

    run(test)


def test_programs_that_start_at_the_same_moment_share_one_process_that_outlives_them(tmp_path: Path) -> None:
    programs = [program(tmp_path) for _ in range(2)]
    pids = {int(p.communicate()[0]) for p in programs}
    assert len(pids) == 1
    with killed_at_the_end(next(iter(pids))):

        async def test() -> None:
            async with connected(tmp_path) as one:
                assert {one.pid} == pids
                assert os.getsid(one.pid) == one.pid

        run(test)


def test_a_killed_process_is_replaced_although_its_socket_is_still_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            await one.call("upsert", store(1))
            first = one.pid
            os.kill(first, signal.SIGKILL)
            await gone(first)
            assert Path(runtime.read_address(tmp_path)).is_socket()
            assert await one.call("count", EVERYTHING) == {"count": 1}
            assert one.pid != first

    run(test)


def test_calls_that_were_under_way_when_the_process_was_killed_are_answered_by_the_next(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            calls = [asyncio.create_task(one.call("upsert", store(i))) for i in range(200)]
            await calls[10]
            os.kill(one.pid, signal.SIGKILL)
            await asyncio.gather(*calls)
            assert await one.call("count", EVERYTHING) == {"count": 200}

    run(test)


def test_the_process_ends_with_its_last_client_and_leaves_no_zombie(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            async with connected(tmp_path) as other:
                assert other.pid == one.pid
            await one.call("upsert", store(1))
            pid = one.pid
        await gone(pid)
        assert not Path(runtime.read_address(tmp_path)).exists()

    run(test)


def test_sigterm_flushes_and_closes(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            await one.call("upsert", store(1))
            pid = one.pid
            os.kill(pid, signal.SIGTERM)
            await gone(pid)
            assert "is done with" in (tmp_path / "index.log").read_text()
            assert await one.call("count", EVERYTHING) == {"count": 1}

    run(test)


def test_the_process_sees_no_secret_and_only_we_may_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCEBOOK_LLMS__FAST__API_KEY", "sk-secret")

    async def test() -> None:
        async with connected(tmp_path) as one:
            assert b"sk-secret" not in Path(f"/proc/{one.pid}/environ").read_bytes()
            path = Path(runtime.read_address(tmp_path))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    run(test)


def test_a_process_in_another_environment_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
            tmp_path.chmod(0o700)
            async with connected(tmp_path) as other:
                assert other.pid == one.pid

    run(test)


def test_the_socket_path_is_short_and_its_folder_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("deep" * 30)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    assert len(os.fsencode(runtime.socket_path(deep))) <= 103
    with tempfile.TemporaryDirectory() as short:  # pytest's own folders may be too deep already
        ours = Path(short)
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        assert runtime.socket_path(deep).parent == ours / "sourcebook"
        (ours / "sourcebook").chmod(0o777)
        with pytest.raises(PermissionError, match="0700"):
            runtime.socket_path(deep)


def test_a_cancelled_call_does_not_shift_the_answers_of_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            for number in range(50):
                cancelled = asyncio.create_task(one.call("scroll", {"filter": None, "offset": None}))
                await asyncio.sleep(0 if number % 2 else 0.0005)
                cancelled.cancel()
                assert await one.call("upsert", store(number)) == {}
                assert await one.call("count", EVERYTHING) == {"count": number + 1}

    run(test)


def test_a_call_that_is_under_way_when_its_client_is_closed_starts_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with connected(tmp_path) as other:
            one = client(tmp_path)
            await one.call("count", EVERYTHING)
            os.kill(one.pid, signal.SIGSTOP)  # so that it cannot be answered
            try:
                asking = asyncio.create_task(one.call("count", EVERYTHING))
                await asyncio.sleep(0.05)
                await one.close()
                with pytest.raises(IndexUnavailable, match="closed"):
                    await asking
            finally:
                os.kill(other.pid, signal.SIGCONT)
            with pytest.raises(IndexUnavailable, match="closed"):
                await one.call("count", EVERYTHING)

    run(test)
    assert "is gone" not in caplog.text


def test_a_failing_call_is_a_store_error_and_the_next_one_works(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            with pytest.raises(StoreError, match="not-a-uuid"):
                await one.call("upsert", {"vectors": [], "points": [["not-a-uuid", store(1)["points"][0][1], "tea"]]})
            assert await one.call("count", EVERYTHING) == {"count": 0}

    run(test)


def test_a_process_that_hangs_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as other, connected(tmp_path, timeout=0.2) as one:
            os.kill(one.pid, signal.SIGSTOP)
            with pytest.raises(IndexUnavailable, match=r"within 0\.2 s"):
                await one.call("count", EVERYTHING)
            os.kill(one.pid, signal.SIGCONT)
            assert await other.call("count", EVERYTHING) == {"count": 0}

    run(test)


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(json.dumps({"layout": 99, "spaces": []}))

    async def test() -> None:
        with pytest.raises(IndexUnavailable, match="holds layout 99"):
            async with connected(tmp_path):
                pass

    run(test)


def test_another_version_is_told_which_two_do_not_fit(tmp_path: Path) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receive(reader)
        writer.write(pack({"hello": 99, "pid": 4711}))
        writer.close()

    async def test() -> None:
        path = runtime.socket_path(tmp_path)
        async with await asyncio.start_unix_server(old, path=path):
            runtime.write_address(tmp_path, path)
            with pytest.raises(IndexUnavailable, match=f"4711 speaks protocol 99, and this program {PROTOCOL}"):
                async with connected(tmp_path):
                    pass

    run(test)


def test_the_process_hangs_up_on_another_version(tmp_path: Path) -> None:
    async def test() -> None:
        async with connected(tmp_path) as one:
            reader, writer = await asyncio.open_unix_connection(runtime.read_address(tmp_path))
            writer.write(pack({"hello": 99}))
            greeting, _ = await receive(reader)
            assert greeting == {"hello": PROTOCOL, "pid": one.pid}
            with pytest.raises(ConnectionError):
                await receive(reader)
            writer.close()
            writer.transport.abort()

    run(test)
