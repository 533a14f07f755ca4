"""The warm fork server: imports the parsers once, and forks a jailed child for every document.

Started with exec, so that nothing of the serving process is in its memory:
`python -I -m sourcebook.jail_server serve FD CONFIG`. On the socket FD it says `Hello` and then gets, per document, one
`ORDER` with three open files: the child's end of the document's socket, the server's end of a leash, and the document.
It owns the deadline and the kill, because it reaps: when the child is gone it writes one `REPORT` to the leash. The
child never holds a leash, so it cannot forge a report. A leash that closes first means: cancelled.

Where fork is not safe (macOS), a child is a new Python: `python -I -m sourcebook.jail_server one SERVER_PID CONFIG`.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sourcebook import confinement, jail_child
from sourcebook.confinement import ACTIVE, Readable
from sourcebook.jail_child import CONNECTION, FILE, RULES, Config, message_of, readable_folders
from sourcebook.jail_frames import Hello, encode
from sourcebook.jail_spare import PAUSE, Spare, untaken, wait_for_files

ORDER = struct.Struct("!d")
"""Seconds of wall clock until the child is killed."""

REPORT = struct.Struct("!iBdQ")
"""Wait status, reason (below), seconds of processor time, bytes of memory at the peak."""

ENDED, TOO_SLOW, CANCELLED, NOT_STARTED = range(4)

PYTHON_OPTIONS = ("-I", "-X", "utf8", "-W", "ignore", "-m", "sourcebook.jail_server")

_OPEN_FILES = 1024
_GARBAGE = (20_000, 20, 50)  # a child is soon gone: to look for garbage takes it a twentieth of a long document's time
_LAST_SECONDS = 2.0  # to see the children die, when the client is gone
_TRIES = 3  # children that a document is given to, where one after the other dies before it took it
_ASIDE = 900  # file numbers that nothing else has, while files move to their places


def main(mode: str, number: str, config_text: str) -> None:
    """The command line of both modes."""
    config = Config.from_json(config_text)
    sys.path.extend(config.search_path)
    if mode == "one":
        os.closerange(FILE + 1, _OPEN_FILES)
        with _never_return():  # confined before the parser is imported: imports count against the limits
            jail_child.run(config, int(number), readable_folders((), config.readable), confinement.address_space())
    server = Server(socket.socket(fileno=int(number)), config)
    server.say_hello()
    server.run()


@dataclass
class _Child:
    connection: socket.socket  # kept, to end it when the child is gone, whoever else may hold it
    leash: socket.socket
    file: int
    deadline: float
    reason: int = ENDED
    way: socket.socket | None = None  # over which it got its files
    given: int = 0  # how often they were given to a process


class Server:
    """One thread, one loop: orders in, children out, deadlines, reports."""

    def __init__(self, control: socket.socket, config: Config) -> None:
        self._control = control
        self._config = config
        self._children: dict[int, _Child] = {}
        self._spare: Spare | None = None
        self._quiet = 0.0  # since when nothing is being read, on the monotonic clock
        self._base = 0
        _lower_open_files()
        self._readable: Readable = ()
        self._poll = select.poll()
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def say_hello(self) -> None:
        """Import the parsers, try the confinement on a first child, and tell the client about both."""
        failed, threads = _preload(self._config.preload if self._config.fork else ())
        jail_child.rehearse()
        gc.collect()
        gc.freeze()  # what is here stays shared with the children
        gc.set_threshold(*_GARBAGE)
        self._base = confinement.address_space()
        folders = readable_folders(self._config.preload, self._config.readable)
        self._readable = _aside(confinement.rules(folders, self._config.layers))
        layers = {"single_thread": threads, "reaper": confinement.become_reaper(), **self._try_layers()}
        self._fork_ahead()
        self._control.sendall(encode(Hello(layers, failed)))

    def run(self) -> None:
        """Until the client closes the control socket."""
        while True:
            ready = {fd for fd, _ in self._poll.poll(self._timeout())}
            if self._wake in ready:
                _drain(self._wake)
            self._kill_due(ready)
            self._reap()
            if self._control.fileno() in ready:
                self._take_order()
            self._warm_up()

    def _timeout(self) -> int | None:
        """Milliseconds to the next deadline, or until the child that waits may warm up."""
        due = [child.deadline for child in self._children.values()]
        if not due and self._spare is not None and not self._spare.warm:
            due = [self._quiet + PAUSE]
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None

    def _warm_up(self) -> None:
        """Where nothing has been read for a moment, have the child that waits warm up."""
        if self._children or self._spare is None or self._spare.warm:
            return
        if self._quiet + PAUSE <= time.monotonic():
            self._spare.warm_up()

    def _try_layers(self) -> dict[str, str]:
        answer, theirs = socket.socketpair()
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            with _never_return():
                config = self._config
                states = confinement.confine(config.limits, self._readable, server, self._base, config.layers)
                theirs.sendall(json.dumps(states).encode())
        theirs.close()
        with answer, answer.makefile("rb") as file:
            text = file.read()
        os.waitpid(pid, 0)
        states = json.loads(text) if text else {}
        return states or dict.fromkeys(confinement.LAYERS, "missing: the confined process died")

    def _take_order(self) -> None:
        order, fds, _, _ = socket.recv_fds(self._control, ORDER.size, 3)
        if len(fds) < 3:  # the client is gone
            self._end()
        connection, leash = (socket.socket(fileno=fd) for fd in fds[:2])
        leash.setblocking(False)
        self._begin(_Child(connection, leash, fds[2], time.monotonic() + ORDER.unpack(order)[0]))

    def _begin(self, child: _Child) -> None:
        child.given += 1
        try:
            pid = self._start(child)
        except OSError:
            child.reason = NOT_STARTED
            _report(child, 0, None)
        else:
            self._children[pid] = child
            self._poll.register(child.leash, 0)  # a hang-up is reported all the same
        self._fork_ahead()

    def _end(self) -> NoReturn:
        until = time.monotonic() + _LAST_SECONDS
        for pid in (*self._children, *self._waiting()):
            _kill(pid)
        while (self._children or _direct_children()) and time.monotonic() < until:
            self._reap()
            select.select([], [], [], 0.001)
        os._exit(0)

    def _start(self, child: _Child) -> int:
        files = child.connection.fileno(), child.file
        if not self._config.fork:
            return _spawn(*files, self._config)
        waiting, self._spare = self._spare, None
        if waiting is None or not waiting.give(files):
            waiting = self._forked()
            waiting.give(files)  # should it be dead already, that is told like any child's death
        child.way = waiting.way
        return waiting.pid

    def _fork_ahead(self) -> None:
        if self._config.fork and self._spare is None:
            with contextlib.suppress(OSError):  # then the next document's order says so
                self._spare = self._forked()
                self._quiet = time.monotonic()

    def _forked(self) -> Spare:
        """A child that confines itself, and then waits."""
        way, theirs = socket.socketpair()
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            way.close()
            raise
        finally:
            if os.getpid() == server:
                theirs.close()
        if pid == 0:
            with _never_return():
                os.setpgid(0, 0)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.dup2(os.dup2(theirs.fileno(), CONNECTION), FILE)  # the latter only keeps the number
                readable = self._readable
                if isinstance(readable, int):
                    readable = os.dup2(readable, RULES)
                os.closerange(RULES + 1 if readable == RULES else FILE + 1, _OPEN_FILES)
                jail_child.run(self._config, server, readable, self._base, wait_for_files)
        with contextlib.suppress(OSError):  # the child does it too, and whoever is first is in time
            os.setpgid(pid, pid)
        return Spare(pid, way)

    def _waiting(self) -> set[int]:
        return {self._spare.pid} if self._spare else set()

    def _kill_due(self, ready: set[int]) -> None:
        now = time.monotonic()
        for pid, child in self._children.items():
            if child.leash.fileno() in ready:
                child.reason = child.reason or CANCELLED
                _kill(pid)
            elif child.deadline <= now:
                child.reason = child.reason or TOO_SLOW
                child.deadline = now + 1  # should the kill need another try
                _kill(pid)

    def _reap(self) -> None:
        while self._children or _direct_children():
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if self._spare and pid == self._spare.pid:
                self._spare.way.close()
                self._spare = None
            child = self._children.pop(pid, None)
            self._quiet = time.monotonic()
            if child is not None:
                with contextlib.suppress(OSError):  # what it left behind in its group
                    os.killpg(pid, signal.SIGKILL)
                self._poll.unregister(child.leash)
                if child.way is not None and untaken(child.way) and child.reason == ENDED and child.given < _TRIES:
                    self._begin(child)  # it died while it still waited, which is no fault of the document
                else:
                    _report(child, status, usage)
        # The rest left their group, and came to us as orphans.
        for pid in _direct_children() - self._children.keys() - self._waiting():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _report(child: _Child, status: int, usage: resource.struct_rusage | None) -> None:
    """Tell the client how it ended; also ends the connection, should an orphan hold it still."""
    peak = 0 if usage is None else usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cpu = 0.0 if usage is None else usage.ru_utime + usage.ru_stime
    os.close(child.file)
    with child.connection, child.leash, contextlib.suppress(OSError):  # the client may be gone
        child.leash.send(REPORT.pack(status, child.reason, cpu, peak))
        child.connection.shutdown(socket.SHUT_RDWR)


def _preload(modules: Sequence[str]) -> tuple[dict[str, str], str]:
    """Import them. Returns what failed and why, and the layer `single_thread`: a fork loses every other thread."""
    failed: dict[str, str] = {}
    crowds: list[str] = []
    threads = _threads()
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a stranger's module may raise anything; it is said again when it is used
            failed[module] = f"{type(error).__name__}: {message_of(error)}"
        before, threads = threads, _threads()
        if threads > before:
            crowds.append(f"{module} started {threads - before}")
    return failed, f"missing: {', '.join(crowds)}" if crowds else ACTIVE


def _threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 1


def _direct_children() -> set[int]:
    """As the kernel counts them; empty where it does not tell."""
    try:
        file = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return set()
    found = b""
    try:
        while more := os.read(file, 4096):
            found += more
    finally:
        os.close(file)
    return {int(pid) for pid in found.split()}


def _kill(pid: int) -> None:
    """A child that is not reaped yet, and its group."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            kill(pid, signal.SIGKILL)


def _drain(pipe: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(pipe, 4096):
            pass


def _aside(readable: Readable) -> Readable:
    """The same under a number that nothing is moved to in a child."""
    if not isinstance(readable, int):
        return readable
    moved = fcntl.fcntl(readable, fcntl.F_DUPFD_CLOEXEC, RULES + 1)
    os.close(readable)
    return moved


def _lower_open_files() -> None:
    """So that closing what a child inherits takes no time, also where close_range(2) is missing."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _spawn(connection: int, file: int, config: Config) -> int:
    moves = [
        (os.POSIX_SPAWN_DUP2, connection, _ASIDE),
        (os.POSIX_SPAWN_DUP2, file, _ASIDE + 1),
        (os.POSIX_SPAWN_DUP2, _ASIDE, CONNECTION),
        (os.POSIX_SPAWN_DUP2, _ASIDE + 1, FILE),
    ]
    command = (sys.executable, *PYTHON_OPTIONS, "one", str(os.getpid()), config.to_json())
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=moves, setpgroup=0)


@contextlib.contextmanager
def _never_return() -> Iterator[None]:
    """Whatever happens in a child, it never comes back into the server's loop."""
    try:
        yield
        os._exit(0)
    finally:
        os._exit(70)


if __name__ == "__main__":
    main(*sys.argv[1:])
