"""Serves the application until a signal ends it: streams are told, so that none is waited for in vain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

import uvicorn

from sourcebook import logs
from sourcebook.app import Sourcebook
from sourcebook.configuration import Configuration
from sourcebook.errors import ConfigError, SourcebookError
from sourcebook_api.app import create_app
from sourcebook_api.hosts import is_loopback
from sourcebook_api.wire import Wire

log = logging.getLogger(__name__)

OnReady = Callable[[str], None]

_AT_ONCE = 1.0  # seconds after the second signal


def serve(
    configuration: Configuration, host: str | None = None, port: int | None = None, *, on_ready: OnReady | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, in as many processes as `[server] workers` says.

    `host` and `port` replace the configured ones; `on_ready` gets the URL, once all of them serve. Raises `ConfigError`
    where the address cannot be bound, or must not be: without a key, only loopback is.
    """
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    configuration = configuration.under({"server": given}) if given else configuration
    logs.configure(configuration)
    server = configuration.settings.server
    if server.workers == 1:
        _run(Server(_followed(configuration), on_ready=on_ready))
        return
    from sourcebook_api.supervising import Supervisor

    with bind(server.host, server.port) as sock:
        url = url_of(server.host, sock.getsockname()[1])
        if code := Supervisor(configuration, sock, _serve_one, lambda: on_ready(url) if on_ready else None).run():
            raise SystemExit(code)


def _serve_one(configuration: Configuration, sock: socket.socket, lifeline: int, ready: Callable[[], None]) -> None:
    """Be one of several. The configuration may be newer than its supervisor's."""
    logs.configure(configuration)
    _run(Server(_followed(configuration), on_ready=lambda url: ready(), lifeline=lifeline), sock)


def _followed(configuration: Configuration) -> Sourcebook:
    """With a log that a reload changes too."""
    book = Sourcebook(configuration)
    logs.follow(book)
    return book


def _run(server: Server, sock: socket.socket | None = None) -> None:
    # No line of the log tells where in the code it was written, and to find that out takes longer than to write it
    # (the standard library's "Logging HOWTO", section Optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(server.run_to_the_end(sock))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it runs: every wait costs less. None is asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class Server(uvicorn.Server):
    """One server around one Sourcebook, which it opens and closes.

    `lifeline`: of several processes, a pipe that ends with their supervisor; a reload here is passed on to the others.
    """

    def __init__(self, book: Sourcebook, *, on_ready: OnReady | None = None, lifeline: int = -1) -> None:
        self.book = book
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self._reloads: set[asyncio.Task[None]] = set()
        self._hung_up_early = False
        self._told = False
        self._lifeline = lifeline
        self._app = create_app(book)
        if lifeline >= 0:
            self._app.state.reloaded = partial(_hang_up, os.getppid())
        super().__init__(
            uvicorn.Config(
                self._app,
                loop="asyncio",
                http=Wire,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
            )
        )

    async def run_to_the_end(self, sock: socket.socket | None = None) -> None:
        """Bind, open the Sourcebook, serve, and close it. Raises what keeps it from starting."""
        self._loop = asyncio.get_running_loop()
        server = self.book.settings.server
        sock = sock or bind(server.host, server.port)
        with suppress(ValueError, RuntimeError):  # only the main thread is told of signals
            self._loop.add_signal_handler(signal.SIGHUP, self.hang_up)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a supervisor held it back until now
        try:
            await self.book.open()
            await check_exposure(self.book)
            await self.serve([sock])
        finally:
            sock.close()
            await self._close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if not gc.isenabled():  # so `serve` begins. What is loaded now stays, and next to nothing of it is garbage:
            gc.freeze()  # no collection walks it again, for 20 ms and more; nor is it walked now, while clients wait
            gc.enable()
        if self._on_ready is not None and sockets:
            self._on_ready(url_of(self.book.settings.server.host, sockets[0].getsockname()[1]))
        asyncio.get_running_loop().run_in_executor(None, self.book.metrics.load)  # not before: a start need not wait
        if self._lifeline >= 0:
            asyncio.get_running_loop().add_reader(self._lifeline, self._orphaned)
        if self._hung_up_early:
            self.hang_up()

    def _orphaned(self) -> None:
        """The supervisor is gone: nobody would replace or stop us any more."""
        asyncio.get_running_loop().remove_reader(self._lifeline)
        log.error("the supervisor is gone, so this process stops")
        self.stop()

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again. Before the server is ready, that waits until it is."""
        if not self.started:
            self._hung_up_early = True
            return
        task = asyncio.create_task(self._reload(), name="SIGHUP")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        audit = self._app.state.audit
        try:
            done = await self.book.reload()
        except Exception as error:  # the log says why; nobody waits for an answer
            code = error.problem_code if isinstance(error, SourcebookError) else "internal"
            audit.signal("config reload", refused=code)
        else:
            audit.signal("config reload", changed=done.changed, opened=done.opened)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains and then ends the server; the second ends it as it stands."""
        again = self._told
        self.stop(at_once=again)
        if again:  # whatever does not let itself be cancelled
            last = threading.Timer(_AT_ONCE, os._exit, (1,))
            last.daemon = True
            last.start()

    def stop(self, *, at_once: bool = False) -> None:
        """What a signal does; may be called from any thread."""
        self._told = True
        if at_once or self._loop is None:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        self._app.state.stopping.set()
        if self._ending is None:
            self._ending = asyncio.create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        """Jobs go back to the queue, and answers to their end, for as long as they may take; then the server ends."""
        options, began = self.book.settings.server, time.monotonic()
        try:
            await self.book.reloading.close()
            if self.book.is_open:
                await asyncio.gather(self.book.stop_working(), self.book.runs.drain(options.drain))
                await self.book.runs.close()
        finally:
            left = max(0.0, options.drain - (time.monotonic() - began))
            self.config.timeout_graceful_shutdown = max(1, round(left + options.shutdown_grace / 2))
            self.should_exit = True

    async def _close(self) -> None:
        """Close the Sourcebook, within what is left of the grace."""
        if self.force_exit:
            return
        seconds = max(1.0, self.book.settings.server.shutdown_grace / 2)
        try:
            async with asyncio.timeout(seconds):
                await self.book.close()
        except TimeoutError:
            log.error("some part did not close in %.0f seconds", seconds)


def _hang_up(supervisor: int) -> None:
    if os.getppid() == supervisor:  # or it is gone
        os.kill(supervisor, signal.SIGHUP)


async def check_exposure(book: Sourcebook) -> None:
    """Raise `ConfigError` where other machines could use this server without a key."""
    if is_loopback(book.settings.server.host) or await book.owners.any_keys():
        return
    raise ConfigError(
        f"server.host is {book.settings.server.host!r}: other machines could reach this server, and it has no keys.",
        code="keys_needed",
        remedy="Make one with `sourcebook keys create`, or bind 127.0.0.1.",
    )


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises `ConfigError` where that address is taken or not ours."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"server: cannot listen on {host}:{port}: {error.strerror or error}.",
            code="cannot_listen",
            remedy="Choose another port with --port, or stop what listens there.",
        ) from error
    return sock


def url_of(host: str, port: int) -> str:
    """An address that this machine can open."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - recognised, not bound
        host = "127.0.0.1"
    return f"http://[{host if host != '::' else '::1'}]:{port}" if ":" in host else f"http://{host}:{port}"
