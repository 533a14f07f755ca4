"""A long-lived process for a parser with `isolation = "worker"`: one whose model takes long to load.

It is started when its parser is first asked, does one document at a time, and is replaced after so many of them, and
whenever it dies, overruns or is cancelled. It is confined as a jailed child is, but for what the operator grants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from sourcebook.confinement import JailLimits
from sourcebook.errors import PluginError
from sourcebook.jail_child import Config
from sourcebook.jail_collector import Collector
from sourcebook.jail_process import Report, receive, send, spawn
from sourcebook.jail_server import ENDED, TOO_SLOW
from sourcebook.jail_worker import READY, WorkerConfig
from sourcebook.settings import Grant

_START = 60.0  # seconds, without the parser's own
_STOP = 5.0  # seconds to end by itself
_UNLIMITED = 10**9  # seconds of processor time: a long-lived process may use any number of them
_OPEN_FILES = 256
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Resident:
    """The process of one parser instance. `limits` are what its documents are held to."""

    def __init__(self, config: Config, grant: Grant, target: str) -> None:
        self.limits: JailLimits = replace(
            config.limits,
            wall_seconds=grant.wall,
            cpu_seconds=_UNLIMITED,
            memory=grant.memory,
            open_files=_OPEN_FILES,
        )
        self._grant = grant
        self._config = WorkerConfig(
            replace(config, limits=self.limits),
            target.partition(":")[0],
            tuple(str(folder.expanduser().resolve()) for folder in grant.read),
            grant.network,
        )
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._done = 0

    async def exchange(self, path: Path | None, frames: Iterable[bytes], collector: Collector) -> Report:
        """Have it answer `frames` about the file at `path`, when its turn has come.

        Leaving early, also by cancellation, ends the process. Raises what `Collector.take` raises.
        """
        async with self._turn:
            control = await self._ready()
            with self._order(control, path) as data:
                try:
                    async with asyncio.timeout(self._grant.wall):
                        await send(data, frames)
                        await receive(data, collector, self.limits.output)
                except TimeoutError:
                    await self.stop(at_once=True)
                    return Report(0, TOO_SLOW, 0.0, 0)
                except BaseException:  # also a cancellation: what it works on now is nobody's
                    await asyncio.shield(self.stop(at_once=True))
                    raise
            if not collector.ended and collector.problem is None:
                return Report(await self._wait_status(), ENDED, 0.0, 0)
            self._done += 1
            if self._done >= self._grant.recycle:
                await self.stop()
            return Report(0, ENDED, 0.0, 0)

    async def stop(self, *, at_once: bool = False) -> None:
        """End the process, if there is one."""
        process, control = self._process, self._control
        self._process = self._control = None
        if process is None or control is None:
            return
        control.close()
        if at_once:
            process.kill()
        try:
            await asyncio.to_thread(process.wait, _STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    @contextlib.contextmanager
    def _order(self, control: socket.socket, path: Path | None) -> Iterator[socket.socket]:
        """Our end of a document's socket; the process has the other, and the file."""
        data, theirs = socket.socketpair()
        data.setblocking(False)
        with data:
            with theirs:
                file = os.open(path or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    socket.send_fds(control, [b"D"], [theirs.fileno(), file])
                except OSError as error:  # it died between two documents
                    self._process = None
                    raise PluginError("The parser's process is gone.", transient=True) from error
                finally:
                    os.close(file)
            yield data

    async def _ready(self) -> socket.socket:
        """The process's socket; it is started where it does not run. Raises `PluginError`."""
        if self._process is not None and self._control is not None and self._process.poll() is None:
            return self._control
        if self._control is not None:
            self._control.close()
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        command = [sys.executable, "-I", "-X", "utf8", "-W", "ignore", "-m", "sourcebook.jail_worker"]
        threads = dict.fromkeys(_THREADS, str(self._grant.threads))
        with theirs:
            command += [str(theirs.fileno()), self._config.to_json()]
            self._process = spawn(command, theirs, threads | self._grant.environment)
        self._done = 0
        try:
            async with asyncio.timeout(_START):
                if await asyncio.get_running_loop().sock_recv(self._control, 1) != READY:
                    raise ConnectionError("it ended at once")
        except BaseException as error:  # also a cancellation: nothing is left behind
            await asyncio.shield(self.stop(at_once=True))
            if isinstance(error, TimeoutError | ConnectionError):
                said = f"The process of a parser did not start: {error or type(error).__name__}."
                raise PluginError(said, transient=True) from error
            raise
        return self._control

    async def _wait_status(self) -> int:
        """How it died, as wait(2) tells it."""
        process = self._process
        if process is None:
            return 0
        try:
            code = await asyncio.to_thread(process.wait, _STOP)
        except subprocess.TimeoutExpired:
            await self.stop(at_once=True)
            return 9
        return -code if code < 0 else code << 8
