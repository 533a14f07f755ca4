from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook_plugins.openai import sse
from sourcebook_plugins.openai.sse import Decoder, TooLong


def decoded(*chunks: bytes) -> list[tuple[bytes, bytes]]:
    decoder = Decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return [tuple(event) for event in [*events, *decoder.close()]]  # type: ignore[misc]  # a NamedTuple is a pair


CASES = {
    "plain": (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "no_space": (b"data:{}\n\n", [(b"", b"{}")]),
    "only_one_space_goes": (b"data:  a\n\n", [(b"", b" a")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "crlf_multi_line": (b"event: x\r\ndata: a\r\ndata: b\r\n\r\n", [(b"x", b"a\nb")]),
    "cr": (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    "mixed_ends": (b"data: a\r\n\rdata: b\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    "a_second_bom_is_no_field": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(b"", b"a")]),
    "multi_line": (b"data: a\ndata:\ndata: b\n\n", [(b"", b"a\n\nb")]),
    "data_without_colon": (b"data: a\ndata\n\n", [(b"", b"a\n")]),
    "comments": (b": OPENROUTER PROCESSING\n\n:\n\ndata: a\n: x\n\n", [(b"", b"a")]),
    "heartbeats": (b"data:\n\ndata: \n\ndata: a\n\n", [(b"", b"a")]),
    "named": (b"event: error\ndata: a\n\ndata: b\n\n", [(b"error", b"a"), (b"", b"b")]),
    "a_name_without_data_is_forgotten": (b"event: error\n\ndata: b\n\n", [(b"", b"b")]),
    "id_and_retry": (b"id: 1\nretry: 9\ndata: a\n\n", [(b"", b"a")]),
    "no_blank_line_at_the_end": (b"data: a\n\ndata: b\n", [(b"", b"a"), (b"", b"b")]),
    "no_line_end_at_the_end": (b"data: a\n\ndata: [DONE]", [(b"", b"a"), (b"", b"[DONE]")]),
    "line_separators_are_data": (
        "data: a\u2028b\u0085c\x0bd\n\n".encode(),
        [(b"", "a\u2028b\u0085c\x0bd".encode())],
    ),
    "a_bare_object": (b'{"error": 1}\ndata: a\n\n', [(b"", b'{"error": 1}'), (b"", b"a")]),
    "nothing": (b"", []),
    "only_a_bom": (b"\xef\xbb\xbf", []),
    "half_a_bom": (b"\xef\xbb", []),
    "code_points": ("data: größe 🌹\r\n\r\n".encode(), [(b"", "größe 🌹".encode())]),
}


@pytest.mark.parametrize(("raw", "events"), CASES.values(), ids=CASES.keys())
def test_events_are_found(raw: bytes, events: list[tuple[bytes, bytes]]) -> None:
    assert decoded(raw) == events


@pytest.mark.parametrize(("raw", "events"), CASES.values(), ids=CASES.keys())
def test_every_split_into_two_gives_the_same_events(raw: bytes, events: list[tuple[bytes, bytes]]) -> None:
    for cut in range(len(raw) + 1):
        assert decoded(raw[:cut], raw[cut:]) == events
    assert decoded(*(raw[i : i + 1] for i in range(len(raw)))) == events


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:",
        b"data",
        b"event: x",
        b": c",
        b"",
        b"\xef\xbb\xbf",
        "data: ö🌹".encode(),
        b"{}",
        b"id: 1",
        b"x",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b""])


@given(st.lists(st.tuples(LINES, ENDS)), st.data())
def test_the_events_do_not_depend_on_how_the_bytes_were_cut(
    lines: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    raw = b"".join(line + end for line, end in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decoded(*chunks) == decoded(raw)


@given(st.lists(st.binary(max_size=30)))
def test_any_bytes_at_all_give_events_and_never_an_error(chunks: list[bytes]) -> None:
    assert decoded(*chunks) == decoded(b"".join(chunks))


@pytest.mark.parametrize("step", [1000, 1 << 22])
def test_a_line_without_end_is_stopped_at_the_cap(step: int) -> None:
    decoder = Decoder()
    with pytest.raises(TooLong, match="line"):
        for _ in range(0, sse.MAX_LINE + 2 * step, step):
            decoder.feed(b"x" * step)


def test_a_whole_line_over_the_cap_is_refused_too() -> None:
    with pytest.raises(TooLong, match="line"):
        Decoder().feed(b"data: " + b"x" * sse.MAX_LINE + b"\n")


def test_an_event_of_many_lines_is_stopped_at_the_cap() -> None:
    line = b"data: " + b"x" * 1_000_000 + b"\n"
    decoder = Decoder()
    with pytest.raises(TooLong, match="event"):
        for _ in range(5):
            decoder.feed(line)
