"""What the serving process and a jailed child say to each other: messages, and the frames that carry them.

A frame is a kind (one byte), a length (four bytes, big-endian) and at most `MAX_FRAME` bytes. A `J` frame is one
message as JSON; `R` frames are raw bytes, which a message announced. Nothing is pickled, and what arrives is validated
message by message, each small enough to be decoded in a few milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, starmap
from operator import le
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from sourcebook.documents import Block, BlockKind, Box, Chunk, Locator, Segment, Warn
from sourcebook.placed import PlacedLines

MAX_FRAME = 1024 * 1024
"""Bytes in one frame, without its header."""

ROWS = 500
"""Blocks, locators or chunks in one message, at most."""

HEADER = struct.Struct("!cI")
MESSAGE, RAW = b"J", b"R"


class FrameError(Exception):
    """What arrived is no frame, or no message that is due now."""


class Overflow(FrameError):
    """More bytes than the limit allows."""


@dataclass(frozen=True)
class ComponentRef:
    """A parser or chunker by its place, `package.module:ClassName`, and its JSON-safe settings.

    `isolation` and `instance` (its name in the configuration) say where a parser runs, and with what grants;
    `memory_safe`, as its class says, whether a process may read on.
    """

    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    isolation: Literal["jail", "worker"] = "jail"
    instance: str = ""
    memory_safe: bool = False


# From the serving process. After a `chunk` request come the document's messages and `End`.


@dataclass(frozen=True)
class Request:
    """What the child is to do. `page` is 1-based, `boxes` are in points: both for `render`.

    `more`: another request may follow, with its file, where all goes well.
    """

    action: Literal["parse", "chunk", "render"]
    name: str = ""
    media_type: str = ""
    password: str | None = None
    parser: ComponentRef | None = None
    chunker: ComponentRef | None = None
    page: int = 0
    boxes: tuple[Box, ...] = ()
    more: bool = False
    kind: Literal["request"] = "request"


# Both ways: a document, piece by piece.


@dataclass(frozen=True)
class TextPiece:
    """The text of one segment; its blocks and locators follow."""

    start: int
    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Blocks:
    """Blocks of the segment before, column by column: so they take half the time to send, check and make."""

    starts: list[int]
    ends: list[int]
    kinds: list[BlockKind]
    levels: list[int]
    kind: Literal["blocks"] = "blocks"

    @classmethod
    def of(cls, rows: Sequence[Block]) -> Self:
        """These."""
        return cls([b.start for b in rows], [b.end for b in rows], [b.kind for b in rows], [b.level for b in rows])

    def rows(self) -> list[Block]:
        """Raises `FrameError` where the columns differ in length."""
        try:
            return list(starmap(Block, zip(self.starts, self.ends, self.kinds, self.levels, strict=True)))
        except ValueError as error:
            raise FrameError(str(error)) from None

    def in_order(self, first: int, last: int) -> bool:
        """Whether they begin in `[first, last]`, sorted, and none ends before it begins."""
        s, e = self.starts, self.ends
        return s[0] >= first and s[-1] <= last and all(map(le, s, s[1:])) and all(map(le, s, e))


@dataclass(frozen=True)
class Locators:
    """Locators of the segment before."""

    rows: tuple[Locator, ...]
    kind: Literal["locators"] = "locators"


@dataclass(frozen=True)
class PageLocators:
    """Locators of a page and a box each, column by column: a PDF has one a line, and these take a third of the time.

    `boxes` has four numbers each.
    """

    starts: list[int]
    ends: list[int]
    pages: list[int]
    boxes: list[float]
    kind: Literal["page_locators"] = "page_locators"

    @classmethod
    def of(cls, rows: Sequence[Locator]) -> PageLocators | None:
        """These, or None where one says more than its page and box, or less."""
        if isinstance(rows, PlacedLines):
            return cls(rows.starts, rows.ends, rows.pages, rows.boxes)
        places = [vars(row.place) for row in rows]
        if set(map(len, places)) != {2}:
            return None
        pages = [page for place in places if (page := place.get("page")) is not None]
        boxes = [box for place in places if (box := place.get("box")) is not None]
        if not len(pages) == len(boxes) == len(rows):
            return None
        return cls([row.start for row in rows], [row.end for row in rows], pages, list(chain.from_iterable(boxes)))

    def lines(self) -> PlacedLines:
        """Raises `FrameError` where the columns differ in length."""
        try:
            return PlacedLines(self.starts, self.ends, self.pages, self.boxes)
        except ValueError as error:
            raise FrameError(str(error)) from None


@dataclass(frozen=True)
class Extras:
    """What a document has beside its text. Comes once, after the last segment."""

    metadata: dict[str, Any]
    warnings: tuple[Warn, ...] = ()
    kind: Literal["extras"] = "extras"


@dataclass(frozen=True)
class End:
    """The last message: all was said."""

    kind: Literal["end"] = "end"


# From the child.


@dataclass(frozen=True)
class Chunks:
    """Chunks, in order."""

    rows: tuple[Chunk, ...]
    kind: Literal["chunks"] = "chunks"


@dataclass(frozen=True)
class RawHead:
    """`size` raw bytes follow: a member of this name, or a drawn page (no name)."""

    size: int
    name: str = ""
    kind: Literal["raw"] = "raw"


@dataclass(frozen=True)
class Problem:
    """An error that was raised on purpose. `error` is a class of `sourcebook.errors`."""

    error: str
    detail: str
    remedy: str = ""
    code: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    kind: Literal["problem"] = "problem"


@dataclass(frozen=True)
class Died:
    """Any other exception: its type's name and its message."""

    error: str
    detail: str
    kind: Literal["died"] = "died"


# From the fork server, once.


@dataclass(frozen=True)
class Hello:
    """The server is ready. `layers`: name -> "active" or "missing: why"; `failed`: preloaded module -> why not."""

    layers: dict[str, str]
    failed: dict[str, str]
    kind: Literal["hello"] = "hello"


Message = (
    Request | TextPiece | Blocks | Locators | PageLocators | Extras | End | Chunks | RawHead | Problem | Died | Hello
)  # fmt: skip
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """One message as a frame. Raises `FrameError` when it is too large or holds what JSON cannot."""
    try:
        payload = orjson.dumps(message, default=_plain)
    except TypeError as error:
        raise FrameError(f"{type(message).__name__} is not JSON: {error}") from error
    if len(payload) > MAX_FRAME:
        raise FrameError(f"one {type(message).__name__} has {len(payload)} bytes, more than {MAX_FRAME}")
    return HEADER.pack(MESSAGE, len(payload)) + payload


def decode(payload: bytes) -> Message:
    """The inverse of `encode`, without the header. Raises `FrameError`."""
    try:
        return _ADAPTER.validate_json(payload, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise FrameError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def segment_frames(segments: Iterable[Segment]) -> Iterator[bytes]:
    """The frames of a document's segments."""
    for segment in segments:
        yield encode(TextPiece(segment.start, segment.text))
        yield from _rows(Blocks.of, segment.blocks)
        yield from _rows(_located, segment.locators)


def _located(rows: Sequence[Locator]) -> Message:
    return PageLocators.of(rows) or Locators(tuple(rows))


def chunk_frames(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """The frames of a document's chunks."""
    left = iter(chunks)
    while batch := tuple(islice(left, ROWS)):
        yield from _halved(Chunks, batch)


def raw_frames(data: bytes, name: str = "") -> Iterator[bytes]:
    """The frames of a member or a drawn page: the announcement, then the bytes, `MAX_FRAME` at a time."""
    yield encode(RawHead(len(data), name))
    for start in range(0, len(data), MAX_FRAME):
        piece = data[start : start + MAX_FRAME]
        yield HEADER.pack(RAW, len(piece)) + piece


def _rows(make: Callable[[Any], Message], rows: Sequence[Any]) -> Iterator[bytes]:
    for start in range(0, len(rows), ROWS):
        yield from _halved(make, rows[start : start + ROWS])


def _halved(make: Callable[[Any], Message], rows: Sequence[Any]) -> Iterator[bytes]:
    """One frame, or more where headings or contexts are long."""
    try:
        yield encode(make(rows))
    except FrameError:
        if len(rows) == 1:
            raise
        middle = len(rows) // 2
        yield from _halved(make, rows[:middle])
        yield from _halved(make, rows[middle:])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class Splitter:
    """Cuts a stream of bytes into frames: `feed` it, then take `frames`. Does no input or output itself."""

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._left = limit

    def feed(self, data: bytes) -> None:
        """Raises `Overflow` when the stream is longer than the limit."""
        self._left -= len(data)
        if self._left < 0:
            raise Overflow("the stream is longer than its limit")
        self._buffer += data

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """(kind, payload) of every frame that is complete. Raises `FrameError` for a header that cannot be."""
        while len(self._buffer) >= HEADER.size:
            kind, size = HEADER.unpack_from(self._buffer)
            if kind not in (MESSAGE, RAW) or size > MAX_FRAME:
                raise FrameError(f"a frame of kind {kind!r} and {size} bytes")
            end = HEADER.size + size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield kind, payload
