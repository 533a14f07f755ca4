"""Several processes that serve one port: begun together, replaced when they die, told of every signal.

The supervisor binds the port and forks; it runs no event loop and no thread, so that it may fork again at any time.
Each process listens on the same socket, and whoever is free takes the next connection. A pipe that only the supervisor
holds open tells them when it is gone.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from sourcebook.config_check import several
from sourcebook.config_errors import in_lines, raise_all
from sourcebook.configuration import Configuration
from sourcebook.errors import ConfigError, SourcebookError
from sourcebook.reloading import stuck_at_start

log = logging.getLogger(__name__)

Serve = Callable[[Configuration, socket.socket, int, Callable[[], None]], None]
"""Serves one process: its configuration, the bound socket, the pipe that ends with the supervisor, what says ready."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_FIRST, _LONGEST = 0.5, 30.0  # seconds before a dead process is replaced: doubled each time it dies young
_YOUNG = 60.0
_PATIENCE = 15.0  # seconds more than a process gives itself to end
_WRONG_SETTING = 3
_COUNTS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's: where processes that are one server count together


@dataclass
class Process:
    """One of them. `ready` is its pipe: a byte says that it serves."""

    pid: int
    ready: int
    begun: float = field(default_factory=time.monotonic)
    serves: bool = False


class Supervisor:
    """Keeps `count` processes at work until a signal ends them all."""

    def __init__(
        self, configuration: Configuration, sock: socket.socket, serve: Serve, ready: Callable[[], None]
    ) -> None:
        self._configuration = configuration
        self._count = configuration.settings.server.workers
        self._sock = sock
        self._serve = serve
        self._ready = ready
        self._processes: dict[int, Process] = {}
        self._selector = selectors.DefaultSelector()
        self._received: list[int] = []
        self._all_served = False
        self._kill_at = 0.0  # when those that do not end are killed; 0: nobody asked
        self._due: list[float] = []  # when the dead are replaced
        self._pause = _FIRST
        self._code = 0

    def run(self) -> int:
        """Until all have ended: the exit code. Raises `ConfigError` where several processes cannot work."""
        raise_all(several(self._configuration.settings))
        self._lifeline, self._held = os.pipe()
        self._woken, waking = socket.socketpair()
        for end in (self._woken, waking):
            end.setblocking(False)
        before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        signal.set_wakeup_fd(waking.fileno())
        self._selector.register(self._woken, selectors.EVENT_READ)
        counts = tempfile.TemporaryDirectory(prefix="sourcebook-metrics-")
        os.environ[_COUNTS] = counts.name
        try:
            self._due = [0.0] * self._count
            while self._processes or (self._due and not self._kill_at):
                self._replace()
                self._wait()
                self._obey()
                self._bury()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._held)  # whoever is left ends too
            os.environ.pop(_COUNTS, None)
            counts.cleanup()
        return self._code

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.append(number)

    def _wait(self) -> None:
        """Until something happens: a signal, a process that is ready, a replacement that is due."""
        at = min([*self._due, *([self._kill_at] if self._kill_at else [])], default=None)
        left = None if at is None else max(0.0, at - time.monotonic())
        for key, _ in self._selector.select(left):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            else:
                self._hear(int(key.fd))
        if self._kill_at and time.monotonic() >= self._kill_at:
            log.error("%d processes did not end in time, and are killed", len(self._processes))
            self._tell(signal.SIGKILL)
            self._kill_at = time.monotonic() + _PATIENCE

    def _hear(self, pipe: int) -> None:
        """A process serves, or its end of the pipe is closed."""
        process = next(p for p in self._processes.values() if p.ready == pipe)
        process.serves = process.serves or bool(os.read(pipe, 1))
        self._selector.unregister(pipe)
        if not self._all_served and len(self._processes) == self._count:
            self._all_served = all(p.serves for p in self._processes.values())
            if self._all_served:
                self._ready()

    def _obey(self) -> None:
        received, self._received = self._received, []
        for number in received:
            if number == signal.SIGHUP:
                self._tell(number)
            elif number in (signal.SIGTERM, signal.SIGINT):
                server = self._configuration.settings.server
                self._kill_at = time.monotonic() + server.drain + server.shutdown_grace + _PATIENCE
                self._tell(signal.SIGTERM)

    def _tell(self, number: int) -> None:
        for pid in self._processes:
            os.kill(pid, number)  # it is not waited for yet, so the number is still its own

    def _bury(self) -> None:
        for pid, process in list(self._processes.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._processes[pid]
            if process.ready in self._selector.get_map():
                self._selector.unregister(process.ready)
            os.close(process.ready)
            code = os.waitstatus_to_exitcode(status)
            if self._kill_at:
                self._code = self._code or (code if code != -signal.SIGTERM else 0)
            elif code == _WRONG_SETTING and not self._all_served:
                self._code, self._kill_at = code, time.monotonic() + _PATIENCE
                self._tell(signal.SIGTERM)
            else:
                self._mourn(process, code)

    def _mourn(self, process: Process, code: int) -> None:
        """See that a process that died is replaced: at once where it lived long, else after a pause that grows."""
        if time.monotonic() - process.begun > _YOUNG:
            self._pause = _FIRST
        log.error("serving process %d ended (%d); it is replaced in %.1f s", process.pid, code, self._pause)
        self._due.append(time.monotonic() + self._pause)
        self._pause = min(2 * self._pause, _LONGEST)

    def _replace(self) -> None:
        if self._kill_at:
            return
        for at in [due for due in self._due if due <= time.monotonic()]:
            self._due.remove(at)
            ready, said = os.pipe()
            # Held back until the new process can take it: what it reads meanwhile may be older.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
            pid = os.fork()
            if pid == 0:
                os.close(ready)
                self._be_a_process(said)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            os.close(said)
            self._processes[pid] = Process(pid, ready)
            self._selector.register(ready, selectors.EVENT_READ)

    def _be_a_process(self, said: int) -> None:
        """In the child: forget the supervisor, serve, and end here."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)  # a Ctrl-C is the supervisor's to pass on
            os.close(self._held)
            for process in self._processes.values():
                os.close(process.ready)
            self._selector.close()
            self._serve(self._fresh(), self._sock, self._lifeline, lambda: _say(said))
            code = 0
        except SourcebookError as error:
            print(f"error: {in_lines(error)}\n{error.remedy}".rstrip(), file=sys.stderr)
            code = _WRONG_SETTING if isinstance(error, ConfigError) else 1
        except BaseException:
            log.exception("a serving process failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _fresh(self) -> Configuration:
        """What the files say now, as those that were reloaded have it; what we began with where that cannot be."""
        if not self._all_served:
            return self._configuration
        try:
            fresh, wrong = self._configuration.again()
        except ConfigError as error:
            fresh, wrong = self._configuration, [error]
        if wrong or stuck_at_start(self._configuration.settings, fresh.settings):
            log.warning("the configuration's files were changed as no reload would take them: the old ones hold")
            return self._configuration
        return fresh


def _say(pipe: int) -> None:
    os.write(pipe, b"!")
