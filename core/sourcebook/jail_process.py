"""The jail's server as the serving process sees it: start it, hand it documents, end it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from sourcebook.confinement import JailLimits
from sourcebook.errors import PluginError
from sourcebook.jail_child import NEXT, Config
from sourcebook.jail_collector import Collector
from sourcebook.jail_frames import MAX_FRAME, FrameError, Hello, Splitter, decode
from sourcebook.jail_server import ORDER, PYTHON_OPTIONS, REPORT

_RECEIVE = 256 * 1024
_BREATH = 64 * 1024  # bytes of frames, a few milliseconds' work, between two turns of others
_START = 60.0  # seconds, with every import
_GRACE = 10.0  # seconds beyond the document's own, after which the server is taken for dead
_STOP = 5.0  # seconds to end by itself
# What native libraries need to be found at all; nothing else of our environment is passed on.
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
# One thread: a BLAS with a pool would not survive the fork.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    # Else glibc gives memory back after a PDF's page and takes it again for the next: a fifth of a child's page faults.
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
    "MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024),
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class ServerGone(Exception):
    """The server died, or does not answer."""


class Report(NamedTuple):
    """How a child ended: wait status, the server's reason, seconds of processor time, bytes of memory at the peak."""

    status: int
    reason: int
    cpu: float
    peak: int


class ServerProcess:
    """One running server. `hello` is what it said at its start."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, hello: Hello) -> None:
        self.hello = hello
        self._process = process
        self._control = control

    @classmethod
    async def start(cls, config: Config) -> Self:
        """Exec it and wait until it is warm. Raises `PluginError`."""
        control, theirs = socket.socketpair()
        control.setblocking(False)
        with theirs:
            process = _exec(theirs, config)
        try:
            async with asyncio.timeout(_START):
                hello = await _read_hello(control)
        except BaseException as error:  # also a cancellation: nothing is left behind
            control.close()
            process.kill()
            code = await asyncio.shield(asyncio.to_thread(process.wait))
            if isinstance(error, FrameError | TimeoutError | ConnectionError):
                raise PluginError(
                    f"The parser jail did not start (status {code}): {error or type(error).__name__}.",
                    remedy="Run `python -I -m sourcebook.jail_server` by hand: it says what it cannot import.",
                    transient=True,
                ) from error
            raise
        return cls(process, control, hello)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    async def stop(self, *, at_once: bool = False) -> None:
        """End it and its children."""
        self._control.close()
        if at_once:
            self._process.kill()
        try:
            await asyncio.to_thread(self._process.wait, _STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def begin(self, path: Path | None, seconds: float) -> Child:
        """A child that has the file at `path`, and so many seconds. Raises `ServerGone`."""
        data, child_end = socket.socketpair()
        leash, server_end = socket.socketpair()
        child = Child(data, leash)
        with child_end, server_end:
            file = os.open(path or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fds = [child_end.fileno(), server_end.fileno(), file]
                socket.send_fds(self._control, [ORDER.pack(seconds)], fds)
            except OSError as error:
                child.close()
                raise ServerGone from error
            finally:
                os.close(file)
        return child


class Child:
    """One jailed process, as the serving process sees it: closing it ends it. `read`: documents that it has read."""

    def __init__(self, data: socket.socket, leash: socket.socket) -> None:
        for ours in (data, leash):
            ours.setblocking(False)
        self._data, self._leash = data, leash
        self.born = time.monotonic()
        self.read = 0

    async def answer(self, frames: Iterable[bytes], collector: Collector, limits: JailLimits) -> None:
        """Have it answer `frames` into `collector`. Raises `ServerGone`, and what `Collector.take` raises."""
        try:
            async with asyncio.timeout(limits.wall_seconds + _GRACE):
                await send(self._data, frames)
                await receive(self._data, collector, limits.output)
        except TimeoutError as error:
            raise ServerGone from error
        self.read += 1

    async def report(self) -> Report:
        """How it ended, once it has. Raises `ServerGone`."""
        try:
            async with asyncio.timeout(_GRACE):
                return await _read_report(self._leash)
        except TimeoutError as error:
            raise ServerGone from error

    def give(self, path: Path | None) -> None:
        """The next document, to a child that waits for one. Raises `OSError` where it is gone."""
        file = os.open(path or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            socket.send_fds(self._data, [NEXT], [file])
        finally:
            os.close(file)

    def close(self) -> None:
        """End it, where it has not ended. Idempotent."""
        self._data.close()
        self._leash.close()


def _exec(control: socket.socket, config: Config) -> subprocess.Popen[bytes]:
    return spawn([sys.executable, *PYTHON_OPTIONS, "serve", str(control.fileno()), config.to_json()], control)


def spawn(
    command: list[str], control: socket.socket, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process of the jail, which knows nothing of ours but one socket and `environment`."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what parsers print is nobody's
        env=_ENVIRONMENT | kept | dict(environment or {}),
        cwd="/",
        pass_fds=[control.fileno()],
        start_new_session=True,  # Ctrl-C is for the serving process, which then ends this one
    )


async def send(data: socket.socket, frames: Iterable[bytes]) -> None:
    """All frames of a request."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):  # the child died; what became of it, the report says
        for frame in frames:
            await loop.sock_sendall(data, frame)
            await asyncio.sleep(0)


async def receive(data: socket.socket, collector: Collector, limit: int) -> None:
    """Until the child has said all, or is gone."""
    loop = asyncio.get_running_loop()
    splitter, taken = Splitter(limit), 0
    with contextlib.suppress(ConnectionError):
        while received := await loop.sock_recv(data, _RECEIVE):
            splitter.feed(received)
            for kind, payload in splitter.frames():
                if collector.take(kind, payload):
                    return
                taken += len(payload)
                if taken > _BREATH:
                    taken = 0
                    await asyncio.sleep(0)  # others have their turn


async def _read_report(leash: socket.socket) -> Report:
    try:
        report = await asyncio.get_running_loop().sock_recv(leash, REPORT.size)
    except ConnectionError as error:
        raise ServerGone from error
    if len(report) < REPORT.size:
        raise ServerGone
    return Report(*REPORT.unpack(report))


async def _read_hello(control: socket.socket) -> Hello:
    loop = asyncio.get_running_loop()
    splitter = Splitter(2 * MAX_FRAME)
    while received := await loop.sock_recv(control, _RECEIVE):
        splitter.feed(received)
        for _, payload in splitter.frames():
            hello = decode(payload)
            if isinstance(hello, Hello):
                return hello
    raise FrameError("its process ended")
