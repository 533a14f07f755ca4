"""The jailed child: it confines itself, does one request, and is gone."""

from __future__ import annotations

import errno
import importlib
import json
import mimetypes
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

from sourcebook import confinement
from sourcebook.confinement import JailLimits, Readable, limit_exceeded
from sourcebook.documents import Document, Place
from sourcebook.errors import ConfigError, DocumentError, LimitExceeded, PluginError, SourcebookError
from sourcebook.interfaces import Chunker, Parser
from sourcebook.jail_collector import Collector
from sourcebook.jail_frames import (
    HEADER,
    ComponentRef,
    Died,
    End,
    Extras,
    FrameError,
    Message,
    Problem,
    Request,
    Splitter,
    chunk_frames,
    decode,
    encode,
    raw_frames,
    segment_frames,
)
from sourcebook.languages import with_language
from sourcebook.segments import join_segments, segments_of
from sourcebook.writer import DocumentWriter

CONNECTION, FILE, RULES = 3, 4, 5
"""The child's end of the document's socket, the document, and what may be read, until it is confined."""

NEXT = b"N"
"""Comes to a child that reads on, with the next document."""

MESSAGE = 300
"""Characters of a stranger's exception that are passed on, at most."""

_MEMORY_USED_UP = 0.75  # of the limit: what a native library says then is taken for what it is
_RECEIVE = 256 * 1024
_SEND = 128 * 1024  # bytes at a time: each wakes the serving process
# Shared libraries that native modules load late, time zones, and the fonts that a PDF does not bring along.
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/usr/share/fonts")


@dataclass(frozen=True)
class Config:
    """How the client starts the server. `search_path` comes after the interpreter's own `sys.path`.

    `readable` are further files and folders that children may read.
    """

    limits: JailLimits
    preload: tuple[str, ...] = ()
    search_path: tuple[str, ...] = ()
    layers: tuple[str, ...] = confinement.LAYERS
    fork: bool = True
    readable: tuple[str, ...] = ()

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The inverse of `to_json`."""
        return TypeAdapter(cls).validate_json(text)


class JailedFile:
    """The document, as an open file. A `ParserFile`."""

    def __init__(self, request: Request) -> None:
        self.name = request.name
        self.media_type = request.media_type
        self.password = request.password

    def read(self) -> bytes:
        """All bytes."""
        with self.open() as file:
            return file.read()

    def open(self) -> BinaryIO:
        """A seekable binary stream, at its beginning."""
        os.lseek(FILE, 0, os.SEEK_SET)
        return os.fdopen(os.dup(FILE), "rb")


def readable_folders(modules: Iterable[str] = (), more: Iterable[str] = ()) -> list[Path]:
    """What a parser may still read: the interpreter's own folders, those that code is imported from, and `more`.

    And the system's lists of media types: Python's `mimetypes`, which many a library asks, opens those that it finds.
    The packages of `modules` are imported already, and may lie outside `sys.path` (an editable install).
    """
    packages = [sys.modules.get(module.partition(".")[0]) for module in modules]
    ours = [folder for package in packages for folder in getattr(package, "__path__", ())]
    named = [Path(p) for p in (sys.prefix, sys.base_prefix, *sys.path, *ours, *_SYSTEM_FOLDERS)]
    folders = {p.resolve() for p in named if p.is_absolute() and p.is_dir()}
    folders |= {p.resolve() for p in map(Path, (*more, *mimetypes.knownfiles)) if p.exists()}
    return sorted(p for p in folders if not folders.intersection(p.parents))


def run(
    config: Config,
    server: int,
    readable: Readable,
    base: int,
    due: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Confine this process, answer one request on `CONNECTION`. `server`: the parent's process id.

    `due` returns when the request's files are open; None where they are already. While nothing else is to do it may
    call what it gets: what Python and its libraries write to as they read is then copied ahead.
    """
    memory = Memory(config.limits, base)
    states = confinement.confine(config.limits, readable, server, base, config.layers)
    if due is not None:
        due(lambda: rehearse(config.preload))
    connection = socket.socket(fileno=CONNECTION)
    while answer(connection, memory, states, load_parser) and _next_file(connection):
        pass


def rehearse(modules: Iterable[str] = ()) -> None:
    """Do once what every child does: what Python learns by it is then there, and shared by all that are forked later.

    A module may have a `rehearse` of its own, which reads a sample.
    """
    confinement.prepare()
    decode(encode(Request("parse", parser=ComponentRef("a:b")))[HEADER.size :])
    out = DocumentWriter()
    for number in range(3):
        out.block([("The lamp on the mole is green, and it is lit at night. ", Place(page=1))], "heading", number)
        out.row(("a", "b"), Place(cells="A1"), header=not number)
    document = out.document()
    for _ in segment_frames(segments_of(document)):
        pass
    encode(Extras(with_language(document.metadata, document.text), document.warnings))
    encode(End())
    for module in modules:
        own = getattr(sys.modules.get(module), "rehearse", None)
        if callable(own):
            with suppress(Exception):  # what it cannot read now, it tells of no document
                own()


def answer(
    connection: socket.socket, memory: Memory, states: Mapping[str, str], load: Callable[[ComponentRef], Parser[Any]]
) -> bool:
    """Answer one request. `states` of the layers of confinement; `load` gives the parser.

    Returns whether another may follow: all was well, and the request says so.
    """
    more = False
    unsent = bytearray()
    try:
        lacking = confinement.missing(states)
        if lacking and memory.limits.mode == "strict":
            raise confinement.refusal(lacking)
        frames = _received(connection)
        request = decode(next(frames)[1])
        for frame in _work(request, frames, load):
            unsent += frame
            if len(unsent) > _SEND:
                connection.sendall(unsent)
                unsent.clear()
        last = encode(End())
        more = isinstance(request, Request) and request.more
    except BaseException as error:  # also SystemExit: nothing that a parser raises goes past here
        last = _last_words(error, memory)
    connection.sendall(unsent + last)
    return more


def _next_file(connection: socket.socket) -> bool:
    """Wait for the next document; False where there is none."""
    _, fds, _, _ = socket.recv_fds(connection, len(NEXT), 1)
    for fd in fds:
        os.dup2(fd, FILE)
        os.close(fd)
    return bool(fds)


def message_of(error: BaseException) -> str:
    """An exception's text for a stranger's eyes: short, on one line, and without the folders of this machine."""
    text = " ".join(str(error).split())
    ours = {p for p in (sys.prefix, sys.base_prefix, *sys.path) if len(p) > 1}
    for folder in sorted(ours, key=len, reverse=True):
        text = text.replace(folder, "…")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "", text)[:MESSAGE]


def load_parser(ref: ComponentRef) -> Parser[Any]:
    """Build a parser from its place and settings. Raises `PluginError`."""
    component = _load(ref)
    if not isinstance(component, Parser):
        raise PluginError(f"{ref.target} is no Parser.")
    return component


def load_chunker(ref: ComponentRef) -> Chunker[Any]:
    """Build a chunker from its place and settings. Raises `PluginError`."""
    component = _load(ref)
    if not isinstance(component, Chunker):
        raise PluginError(f"{ref.target} is no Chunker.")
    return component


def _load(ref: ComponentRef) -> object:
    module, _, name = ref.target.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PluginError(f"{ref.target} cannot be imported: {message_of(error)}") from error
    if not (isinstance(cls, type) and issubclass(cls, Parser | Chunker)):
        raise PluginError(f"{ref.target} is no Parser and no Chunker.")
    try:
        return cls(cls.Settings.model_validate(dict(ref.settings)))
    except ValidationError as error:
        raise PluginError(f"{ref.target} refuses its settings: {message_of(error)}") from error


def _work(
    request: Message, frames: Iterator[tuple[bytes, bytes]], load: Callable[[ComponentRef], Parser[Any]]
) -> Iterator[bytes]:
    """The frames that answer the request, all but the last. `frames` come after it."""
    match request:
        case Request("parse", parser=ComponentRef() as parser, chunker=chunker):
            return _parse(request, load(parser), chunker)
        case Request("chunk", chunker=ComponentRef() as chunker):
            return chunk_frames(load_chunker(chunker).chunk(_document(frames)))
        case Request("render", parser=ComponentRef() as parser, page=page, boxes=boxes):
            return raw_frames(load(parser).render(JailedFile(request), page, boxes))
    raise FrameError("no request that this version knows")


def _parse(request: Request, parser: Parser[Any], chunker: ComponentRef | None) -> Iterator[bytes]:
    out = DocumentWriter()
    parser.parse(JailedFile(request), out)
    document = out.document()
    yield from segment_frames(segments_of(document))
    yield encode(Extras(with_language(document.metadata, document.text), document.warnings))
    if chunker is not None and document.text.strip():
        yield from chunk_frames(load_chunker(chunker).chunk(document))
    for member in out.members:
        yield from raw_frames(member.data, member.name)


def _document(frames: Iterator[tuple[bytes, bytes]]) -> Document:
    """The document that follows a `chunk` request."""
    collector = Collector()
    while not collector.take(*next(frames)):
        pass
    extras = collector.extras or Extras({})
    return join_segments(collector.segments, extras.metadata, extras.warnings)


def _received(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    splitter = Splitter(sys.maxsize)  # the serving process is trusted
    while data := connection.recv(_RECEIVE):
        splitter.feed(data)
        yield from splitter.frames()
    raise FrameError("the request broke off")


class Memory:
    """Whether the memory limit was reached. Native libraries report that in their own words, or as damaged input."""

    def __init__(self, limits: JailLimits, base: int) -> None:
        self.limits = limits
        self._base = base
        self._status = os.open("/proc/self/status", os.O_RDONLY) if base else -1  # Landlock closes the way to it

    def used_up(self, error: BaseException) -> bool:
        """Whether this error comes of it."""
        if any(_says_memory(e) for e in _chain(error)):
            return True
        return not isinstance(error, DocumentError) and self._peak() > _MEMORY_USED_UP * self.limits.memory

    def _peak(self) -> int:
        if self._status < 0:
            return 0
        found = re.search(rb"VmPeak:\s+(\d+) kB", os.pread(self._status, 4096, 0))
        return int(found[1]) * 1024 - self._base if found else 0


def _last_words(error: BaseException, memory: Memory) -> bytes:
    if memory.used_up(error):
        confinement.make_room()
        error = limit_exceeded("memory", memory.limits)
    if any(isinstance(e, RecursionError) for e in _chain(error)) and not isinstance(error, DocumentError):
        error = LimitExceeded("The file's parts are nested too deeply.", code="nested_too_deeply")
    if not isinstance(error, DocumentError | PluginError | ConfigError):
        return encode(Died(type(error).__name__[:100], message_of(error)))
    try:
        return encode(_problem(error, error.details))
    except FrameError:
        return encode(_problem(error, {}))


def _problem(error: SourcebookError, details: Mapping[str, Any]) -> Problem:
    """A plugin's own subclass travels as the class of ours that it is derived from."""
    ours = next(cls for cls in type(error).__mro__ if cls.__module__ == SourcebookError.__module__)
    return Problem(ours.__name__, error.detail[:2000], error.remedy[:2000], error.problem_code, dict(details))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _says_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
