"""Frames and messages, and the collector that trusts none of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.documents import MAX_TEXT, SEGMENT, Block, Chunk, Document, Locator, Place, Warn, check_document
from sourcebook.jail_collector import Collector
from sourcebook.jail_frames import (
    HEADER,
    MAX_FRAME,
    MESSAGE,
    RAW,
    ROWS,
    Blocks,
    Chunks,
    End,
    Extras,
    FrameError,
    Locators,
    Message,
    Overflow,
    RawHead,
    Request,
    Splitter,
    TextPiece,
    chunk_frames,
    decode,
    encode,
    raw_frames,
    segment_frames,
)
from sourcebook.segments import join_segments, segments_of


def split(data: bytes, limit: int = 1 << 40) -> list[tuple[bytes, bytes]]:
    splitter = Splitter(limit)
    splitter.feed(data)
    return list(splitter.frames())


def collected(frames: Iterable[bytes], collector: Collector | None = None) -> Collector:
    collector = collector or Collector()
    for frame in frames:
        for kind, payload in split(frame):
            collector.take(kind, payload)
    return collector


def messages(*given: Message) -> Collector:
    return collected(encode(message) for message in given)


TEXT = TextPiece(0, "0123456789")


def test_frames_are_the_same_however_the_stream_is_cut() -> None:
    stream = encode(TEXT) + b"".join(raw_frames(bytes(10), "x")) + encode(End())
    whole = split(stream)
    assert [kind for kind, _ in whole] == [MESSAGE, MESSAGE, RAW, MESSAGE]
    splitter = Splitter(len(stream))
    found: list[tuple[bytes, bytes]] = []
    for byte in stream:
        splitter.feed(bytes([byte]))
        found.extend(splitter.frames())
    assert found == whole


def test_a_stream_over_its_limit_is_an_overflow() -> None:
    with pytest.raises(Overflow):
        split(encode(TEXT), limit=20)


@pytest.mark.parametrize("header", [HEADER.pack(b"X", 1), HEADER.pack(MESSAGE, MAX_FRAME + 1)])
def test_a_header_that_cannot_be_is_refused_before_its_bytes_come(header: bytes) -> None:
    with pytest.raises(FrameError):
        split(header)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"kind":"nothing"}',
        b'{"kind":"text","start":"0","text":""}',
        b'{"kind":"text","start":true,"text":""}',
        b'{"kind":"text","start":0,"text":"\\ud800"}',
        b'{"kind":"text","start":0,"text":"\xff"}',
        b'{"kind":"blocks","rows":[{"start":0,"end":1,"kind":"poem","level":0}]}',
        b'{"kind":"locators","rows":[{"start":0,"end":1,"place":{"box":[1,2,3]}}]}',
        b'{"kind":"locators","rows":[{"start":0,"end":1,"place":{"box":[1,2,3,null]}}]}',
        b"[" * 100_000,
        b'{"kind":"extras","metadata":' + b'{"a":' * 100_000,
    ],
)
def test_a_payload_that_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode(payload)


def test_a_request_survives_the_way() -> None:
    request = Request("render", "ä.pdf", "application/pdf", "sesame", page=3, boxes=((1, 2.5, 3, 4),))
    assert decode(split(encode(request))[0][1]) == request


def test_many_rows_become_many_small_frames() -> None:
    chunks = [Chunk(i, i + 1) for i in range(3 * ROWS + 1)]
    assert len(list(chunk_frames(chunks))) == 4


def test_long_rows_are_spread_over_more_frames_and_an_impossible_one_is_an_error() -> None:
    chunks = [Chunk(i, i + 1, "x" * 10_000) for i in range(500)]
    frames = list(chunk_frames(chunks))
    assert max(map(len, frames)) <= MAX_FRAME + HEADER.size
    assert collected(frames, Collector(500)).chunks == chunks
    with pytest.raises(FrameError):
        list(chunk_frames([Chunk(0, 1, "x" * MAX_FRAME)]))


places = st.builds(
    Place,
    page=st.none() | st.integers(1, 10**6),
    box=st.none() | st.tuples(*[st.floats(-1e6, 1e6)] * 4),
    path=st.none() | st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3).map(tuple),
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Of up to three segments, with locators and blocks that run over their borders."""
    part = draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
    text = part * draw(st.sampled_from([1, 1, 4_000]))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    ranges = [(a, b) for a, b in pairwise(cuts) if a < b]
    blocks = tuple(Block(a, b, "paragraph", draw(st.integers(0, 6))) for a, b in ranges)
    locators = tuple(Locator(a, b, draw(places)) for a, b in ranges)
    return Document(text, blocks, locators, {"title": part, "pages": 3}, (Warn("odd", part),))


@given(documents())
def test_every_document_survives_the_way(document: Document) -> None:
    check_document(document)
    frames = [*segment_frames(segments_of(document)), encode(Extras(dict(document.metadata), document.warnings))]
    collector = collected([*frames, encode(End())])
    assert collector.ended
    assert collector.segments == list(segments_of(document))
    assert collector.ink == bool(document.text.strip())
    assert collector.extras is not None
    assert join_segments(collector.segments, collector.extras.metadata, collector.extras.warnings) == join_segments(
        segments_of(document), document.metadata, document.warnings
    )


def test_raw_bytes_arrive_under_their_names() -> None:
    data = bytes(range(256)) * 5_000
    collector = collected([*raw_frames(data, "a"), *raw_frames(b"", "b"), *raw_frames(b"x", "c")])
    assert [(r.name, b"".join(r.pieces)) for r in collector.raw] == [("a", data), ("b", b""), ("c", b"x")]


def test_what_is_over_the_memory_lies_in_a_file_and_comes_back_the_same(tmp_path: Path) -> None:
    place = Place(page=3, box=(1.0, 2.0, 3.0, 4.0), path=("A", "B"))
    size = 150_000
    locators = tuple(Locator(at, at + 10, place if at % 3 else Place(page=1)) for at in range(0, size, 100))
    document = Document("word " * (size // 5), (Block(0, 50, "heading", 2), Block(60, size - 1, "code")), locators)
    chunks = [Chunk(at, at + 50, "context", (0, size) if at % 100 else None) for at in range(0, size - 50, 50)]
    frames = [
        *segment_frames(segments_of(document)),
        encode(Extras({})),
        *chunk_frames(chunks),
        *raw_frames(b"y" * 3_000_000, "a"),
        *raw_frames(b"z", "b"),
    ]
    small = collected(frames, Collector(memory=1000, folder=tmp_path))
    large = collected(frames, Collector())
    assert [s._file is not None for s in (small.segments, small.chunks, small._bytes)] == [True, True, True]
    assert small.segments == large.segments == list(segments_of(document))
    assert small.chunks == large.chunks == chunks
    assert small.chunks[-1] == chunks[-1]
    assert small.chunks[5:8] == chunks[5:8]
    assert [(r.name, r.size, b"".join(r.pieces)) for r in small.raw] == [
        (r.name, r.size, b"".join(r.pieces)) for r in large.raw
    ]
    small.close()
    small.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([TEXT, Blocks.of([Block(5, 4, "code")])], "block"),
        ([TEXT, Blocks.of([Block(11, 11, "code")])], "block"),
        ([TEXT, Blocks.of([Block(5, 6, "code"), Block(4, 6, "code")])], "block"),
        ([TEXT, Blocks.of([Block(5, 6, "code")]), Blocks.of([Block(4, 6, "code")])], "block"),
        ([TEXT, TextPiece(10, "abc"), Blocks.of([Block(5, 6, "code")])], "block"),
        ([TEXT, Blocks.of([Block(5, 11, "code")]), Extras({})], "block ends"),
        ([TEXT, Locators((Locator(0, 11, Place()),))], "locator"),
        ([TEXT, Locators((Locator(-1, 2, Place()),))], "locator"),
        ([TEXT, Locators((Locator(0, 5, Place()), Locator(4, 6, Place())))], "overlaps"),
        ([TEXT, Locators((Locator(0, 5, Place()),)), Locators((Locator(4, 6, Place()),))], "overlaps"),
        ([TEXT, TextPiece(10, "abc"), Locators((Locator(9, 11, Place()),))], "locator"),
        ([TextPiece(0, "a\0b")], "NUL"),
        ([Extras({}, tuple(Warn("w", "") for _ in range(101)))], "warnings"),
        ([TEXT, Extras({}), Chunks((Chunk(0, 11),))], "chunk"),
        ([TEXT, Extras({}), Chunks((Chunk(3, 3),))], "chunk"),
        ([TEXT, Extras({}), Chunks((Chunk(5, 6), Chunk(4, 6)))], "chunk"),
        ([TEXT, Extras({}), Chunks((Chunk(5, 6),)), Chunks((Chunk(4, 6),))], "chunk"),
        ([TEXT, Extras({}), Chunks((Chunk(5, 6, "", (6, 9)),))], "parent"),
    ],
)
def test_a_broken_rule_is_found_on_the_way(given: list[Message], said: str) -> None:
    messages(*given[:-1])
    with pytest.raises(ValueError, match=said):
        messages(*given)


@pytest.mark.parametrize(
    "given",
    [
        [TextPiece(1, "a")],
        [TEXT, TextPiece(9, "a")],
        [TEXT, TextPiece(10, "")],
        [TextPiece(0, "x" * (SEGMENT + 1))],
        [Blocks.of([Block(0, 0, "code")])],
        [TEXT, Blocks.of([])],
        [TEXT, Blocks([0, 1], [1], ["code", "code"], [0, 0])],
        [TEXT, Blocks([0], [1], ["code"], [])],
        [TEXT, Extras({}), Locators((Locator(0, 1, Place()),))],
        [TEXT, Extras({}), TextPiece(10, "a")],
        [Extras({}), Extras({})],
        [TEXT, Chunks((Chunk(0, 1),))],
        [TEXT, End()],
        [TEXT, RawHead(1)],
        [RawHead(-1)],
        [RawHead(1), End()],
        [Request("parse")],
    ],
)
def test_a_message_that_is_not_due_is_refused(given: list[Message]) -> None:
    messages(*given[:-1])
    with pytest.raises(FrameError):
        messages(*given)


def test_raw_bytes_in_crumbs_are_refused() -> None:
    """Or millions of tiny pieces would cost the serving process more than the limit of the output."""
    with pytest.raises(FrameError):
        collected([encode(RawHead(2)), HEADER.pack(RAW, 1) + b"x"])


def test_a_text_over_the_cap_is_refused() -> None:
    collector = Collector()
    with pytest.raises(ValueError, match=str(MAX_TEXT)):
        for start in range(0, MAX_TEXT + SEGMENT, SEGMENT):
            collected([encode(TextPiece(start, "x" * SEGMENT))], collector)
    assert collector.length <= MAX_TEXT + SEGMENT
