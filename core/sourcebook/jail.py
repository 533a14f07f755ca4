"""Parses files in processes that may do nothing else: the client, in the serving process.

A warm server (`jail_server`) is started with exec at first use and forks one child a document (`jail_child`). What the
child sends is taken frame by frame and checked (`jail_frames`); no frame holds the event loop for long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from sourcebook import errors
from sourcebook.confinement import LAYERS, JailLimits, limit_exceeded, missing, refusal
from sourcebook.documents import Box, Chunk, Segment, Warn
from sourcebook.errors import ConfigError, DocumentError, NoText, ParserDied, PluginError, SourcebookError
from sourcebook.jail_child import MESSAGE, Config
from sourcebook.jail_collector import Collector, Raw
from sourcebook.jail_frames import (
    ComponentRef,
    Died,
    End,
    Extras,
    FrameError,
    Overflow,
    Problem,
    Request,
    encode,
    segment_frames,
)
from sourcebook.jail_kept import Kept
from sourcebook.jail_process import Child, Report, ServerGone, ServerProcess
from sourcebook.jail_resident import Resident
from sourcebook.jail_server import NOT_STARTED, TOO_SLOW
from sourcebook.settings import Grant
from sourcebook.writer import Member, clean

__all__ = ["ComponentRef", "Jail", "JailLimits", "Parsed"]

log = logging.getLogger(__name__)

_PNG = b"\x89PNG\r\n\x1a\n"
_RAISED = (DocumentError, PluginError, ConfigError)  # a child may raise nothing else by name
_RESERVED = {"detail", "remedy", "code", "title", "status", "transient", "self"}
_MEMORY = 16 * 1024 * 1024  # of this process, for one document on its way into the store; the rest lies in a file
_MOST_OF_MEMORY = 0.9  # of the limit: a native library that dies here died of it


@dataclass(frozen=True)
class Parsed:
    """A parsed file. `length` is in code points; `chunks` is empty where no chunker was asked for.

    What is long lies in files, and is read from there piece by piece: `close` it.
    """

    segments: Sequence[Segment]
    chunks: Sequence[Chunk]
    metadata: dict[str, Any]
    warnings: tuple[Warn, ...]
    members: Sequence[Raw | Member]
    length: int
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Task:
    """One request: `frames` anew for every attempt. `length` of the text that a chunker gets from here.

    `together`: the notebook whose other documents the child may read too, or nothing. `reached`: see `Jail.parse`.
    """

    frames: Callable[[], Iterable[bytes]]
    path: Path | None = None
    parser: ComponentRef | None = None
    chunker: ComponentRef | None = None
    length: int | None = None
    together: str = ""
    reached: Callable[[int], object] | None = None

    def actor(self, collector: Collector) -> tuple[str, str]:
        """Whose turn it is: "parser" or "chunker", and its place."""
        if self.chunker is not None and (self.parser is None or collector.extras is not None):
            return "chunker", self.chunker.target
        return "parser", self.parser.target if self.parser else ""


class Jail:
    """At most `slots` documents at once, each in a confined process of its own.

    Short ones of one notebook that nothing but memory-safe code reads may share a process, one after the other: see
    `jail_kept`.

    `preload` names the modules that the server imports before its first document; `search_path`, folders to import
    from beside the interpreter's own, where children may read. `layers` names the layers of confinement to put on:
    fewer only where one breaks a parser. `fork=False` starts a new Python for every document. A parser whose isolation
    is "worker" has a long-lived process instead (`jail_resident`), with what `grants` allows its instance. `folder`
    takes what is too long for memory, until it is stored. `readable`: further files and folders that children may read.
    """

    def __init__(
        self,
        limits: JailLimits,
        preload: Sequence[str] = (),
        slots: int = 2,
        *,
        search_path: Sequence[Path] = (),
        layers: Sequence[str] = LAYERS,
        fork: bool = sys.platform == "linux",
        grants: Mapping[str, Grant] | None = None,
        folder: Path | None = None,
        readable: Sequence[Path] = (),
    ) -> None:
        folders = tuple(str(folder.resolve()) for folder in search_path)
        self._config = Config(limits, tuple(preload), folders, tuple(layers), fork, tuple(map(str, readable)))
        self._limits = limits
        self._folder = folder
        self._slots = asyncio.Semaphore(slots)
        self._kept = Kept(slots, limits.wall_seconds)
        self._starting = asyncio.Lock()
        self._server: ServerProcess | None = None
        self._grants = dict(grants or {})
        self._residents: dict[tuple[str, str], Resident] = {}
        self._closed = False

    async def parse(
        self,
        path: Path,
        *,
        name: str,
        media_type: str,
        parser: ComponentRef,
        chunker: ComponentRef | None = None,
        password: str | None = None,
        together: str = "",
        reached: Callable[[int], object] | None = None,
    ) -> Parsed:
        """Read a file and, with a `chunker`, cut its text.

        `together`: the notebook of a short file, whose other short files the same process may read. `reached` is told
        the page of what has been read, where a format has pages.

        Raises the parser's own `DocumentError`; `NoText` for a file with neither text nor members; `LimitExceeded` with
        `details["what"]` (time, cpu, memory, output); `ParserDied` for a crash or any other exception; `PluginError`
        where a component is missing, refuses its settings or breaks its contract; `ConfigError` where the jail is
        strict and a layer is missing. Cancelling kills the child.
        """
        if password is not None or not (parser.memory_safe and (chunker is None or chunker.memory_safe)):
            together = ""
        request = Request("parse", name, media_type, password, parser, chunker, more=bool(together))
        task = _Task(lambda: [encode(request)], path, parser, chunker, together=together, reached=reached)
        collector = await self._run(task)
        if collector.extras is None:
            collector.close()
            raise PluginError(f"{parser.target} sent no document.")
        if not collector.ink and not collector.raw:
            collector.close()
            raise NoText("The file holds no text.")
        return Parsed(
            collector.segments,
            collector.chunks,
            collector.extras.metadata,
            collector.extras.warnings,
            collector.raw,
            collector.length,
            collector.close,
        )

    async def chunk(
        self, segments: Sequence[Segment], metadata: Mapping[str, Any], chunker: ComponentRef
    ) -> tuple[Chunk, ...]:
        """Cut a document that is stored already, given as all its segments in order. Raises like `parse`."""
        request = encode(Request("chunk", chunker=chunker))
        end = (encode(Extras(dict(metadata))), encode(End()))
        length = segments[-1].end if segments else 0
        task = _Task(lambda: chain([request], segment_frames(segments), end), chunker=chunker, length=length)
        collector = await self._run(task)
        try:
            return tuple(collector.chunks)
        finally:
            collector.close()

    async def render(
        self,
        path: Path,
        *,
        name: str,
        media_type: str,
        parser: ComponentRef,
        page: int,
        boxes: Sequence[Box],
        password: str | None = None,
    ) -> bytes:
        """Page `page` (1-based) as a PNG, with `boxes` (in points) marked. Raises like `parse`."""
        request = Request("render", name, media_type, password, parser, None, page, tuple(boxes))
        collector = await self._run(_Task(lambda: [encode(request)], path, parser))
        try:
            image = b"".join(collector.raw[0].pieces) if collector.raw else b""
        finally:
            collector.close()
        if not image.startswith(_PNG):
            raise PluginError(f"{parser.target} drew page {page} as something else than a PNG.")
        return image

    async def layers(self) -> Mapping[str, str]:
        """Every layer of confinement: "active", or "missing: " and why."""
        return (await self._ready()).hello.layers

    async def close(self) -> None:
        """End the server and its children. Idempotent."""
        self._closed = True
        self._kept.close()
        async with self._starting:
            if self._server is not None:
                await self._server.stop()
                self._server = None
            for resident in self._residents.values():
                await resident.stop()

    async def _run(self, task: _Task) -> Collector:
        if task.parser is not None and task.parser.isolation == "worker":
            return await self._run_resident(task, task.parser)
        async with self._slots:
            child = self._kept.take(task.together) if task.together else None
            if child is not None and (found := await self._read_on(child, task)) is not None:
                return found
            for _ in range(2):  # the second time only where the server died, which is no fault of the document
                server = await self._ready()
                if self._limits.mode == "strict" and (lacking := missing(server.hello.layers)):
                    raise refusal(lacking)
                collector = self._collector(task)
                try:
                    await self._read_first(server, task, collector)
                except ServerGone:
                    collector.close()
                    await self._discard(server)
                except BaseException:
                    collector.close()
                    raise
                else:
                    return collector
        raise ParserDied("The parser jail died twice on this file.", remedy="Try again; then look at the server's log.")

    def _collector(self, task: _Task) -> Collector:
        return Collector(task.length, memory=_MEMORY, folder=self._folder, reached=task.reached)

    async def _read_first(self, server: ServerProcess, task: _Task, collector: Collector) -> None:
        """In a new child. Leaving early, also by cancellation, kills it."""
        child = server.begin(task.path, self._limits.wall_seconds)
        try:
            with _told(task, collector, self._limits):
                await child.answer(task.frames(), collector, self._limits)
            if task.together and collector.ended and not self._closed:
                self._kept.keep(task.together, child)
                return
            _check_end(await child.report(), collector, self._limits, task.actor(collector)[0])
        except BaseException:
            child.close()
            raise
        child.close()

    async def _read_on(self, child: Child, task: _Task) -> Collector | None:
        """In a child that has read others. None where anything went wrong: that says nothing of this document."""
        collector = self._collector(task)
        try:
            child.give(task.path)
            await child.answer(task.frames(), collector, self._limits)
        except (OSError, ServerGone, FrameError, ValueError):
            pass
        except BaseException:
            child.close()
            collector.close()
            raise
        if collector.ended and not self._closed:
            self._kept.keep(task.together, child)
            return collector
        child.close()
        collector.close()
        return None

    async def _run_resident(self, task: _Task, parser: ComponentRef) -> Collector:
        settings = orjson.dumps(dict(parser.settings), option=orjson.OPT_SORT_KEYS).decode()
        key = (f"{parser.target} {settings}", parser.instance)
        if self._closed:
            raise RuntimeError("the jail is closed")
        resident = self._residents.get(key)
        if resident is None:
            grant = self._grants.get(parser.instance) or Grant()
            resident = self._residents[key] = Resident(self._config, grant, parser.target)
        collector = self._collector(task)
        try:
            with _told(task, collector, resident.limits):
                report = await resident.exchange(task.path, task.frames(), collector)
            _check_end(report, collector, resident.limits, task.actor(collector)[0])
        except BaseException:
            collector.close()
            raise
        return collector

    async def _ready(self) -> ServerProcess:
        async with self._starting:
            if self._closed:
                raise RuntimeError("the jail is closed")
            if self._server is not None and not self._server.alive:
                await self._server.stop()
                self._server = None
            if self._server is None:
                self._server = await ServerProcess.start(self._config)
                _log_start(self._server, self._limits)
            return self._server

    async def _discard(self, server: ServerProcess) -> None:
        """This one is dead or does not answer; somebody else may have replaced it already."""
        log.warning("the parser jail died while it read a file; another one is started")
        async with self._starting:
            if self._server is server:
                self._server = None
            await server.stop(at_once=True)


@contextmanager
def _told(task: _Task, collector: Collector, limits: JailLimits) -> Iterator[None]:
    """What cannot be a document is told as whoever sent it."""
    try:
        yield
    except Overflow:
        raise limit_exceeded("output", limits) from None
    except FrameError as error:
        raise ParserDied(f"The {task.actor(collector)[0]} sent what is no document: {error}.") from None
    except ValueError as error:
        kind, target = task.actor(collector)
        raise PluginError(f"The {kind} {target} broke its contract: {error}.") from None


def _log_start(server: ServerProcess, limits: JailLimits) -> None:
    for module, why in server.hello.failed.items():
        log.warning("the parser jail cannot import %s: %s", module, why)
    if lacking := missing(server.hello.layers):
        log.warning("the parser jail (%s) lacks %s", limits.mode, ", ".join(lacking))


def _check_end(report: Report, collector: Collector, limits: JailLimits, actor: str) -> None:
    """Raise what the child said, or what became of it; return where all was said."""
    if collector.ended:
        return
    if isinstance(collector.problem, Problem):
        raise _raised(collector.problem)
    if isinstance(collector.problem, Died):
        died = collector.problem
        message = f"The {actor} failed on this file: {died.error[:100]}: {clean(died.detail)[:MESSAGE]}"
        raise ParserDied(message, exception=died.error[:100])
    if report.reason == TOO_SLOW:
        raise limit_exceeded("time", limits)
    if report.reason == NOT_STARTED:
        raise PluginError("No process for a parser could be started.", transient=True)
    code = os.waitstatus_to_exitcode(report.status)
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and report.cpu >= limits.cpu_seconds):
        raise limit_exceeded("cpu", limits)
    if code and report.peak >= _MOST_OF_MEMORY * limits.memory:
        raise limit_exceeded("memory", limits)
    if code < 0:
        raise ParserDied(f"The {actor} crashed on this file ({_signal_name(-code)}).", signal=_signal_name(-code))
    raise ParserDied(f"The {actor}'s process ended with status {code} in the middle of this file.", status=code)


def _raised(problem: Problem) -> SourcebookError:
    """The child's error as the class that it was there; one that it may not raise is a `ParserDied`."""
    cls = getattr(errors, problem.error, None)
    if not (isinstance(cls, type) and issubclass(cls, _RAISED)):
        return ParserDied(f"The parser failed on this file: {clean(problem.detail)[:MESSAGE]}")
    code = problem.code if re.fullmatch("[a-z0-9_]{1,64}", problem.code) and problem.code != cls.code else ""
    details = {name: value for name, value in problem.details.items() if name not in _RESERVED}
    return cls(clean(problem.detail)[:2000], remedy=clean(problem.remedy)[:2000], code=code, **details)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
