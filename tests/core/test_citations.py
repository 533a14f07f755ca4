"""Markers become citations: the same however the answer was cut, and every quote is the document's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.citations import Marker, MarkerReader, sentence_before, support, without_markers
from sourcebook.documents import Passage

DOCUMENT = (
    "Care of roses. Roses need water every morning. In summer, 4.2 litres are enough for one bush. "
    "Tulips want sun and little water.\nFerns stand in the shade, far from the wall. 薔薇は毎朝水が必要です。"
)


def passage(start: int = 0, end: int = len(DOCUMENT), n: int = 1) -> Passage:
    return Passage(f"p{n}", "s", "n", "d", "g", n, start, end, DOCUMENT[start:end])


def read(text: str, passages: int = 3) -> tuple[list[Marker], MarkerReader]:
    reader = MarkerReader(passages)
    return reader.feed(text), reader


def claims(text: str, passages: int = 3) -> list[tuple[int, str]]:
    return [(m.n, text[m.answer_start : m.answer_end]) for m in read(text, passages)[0]]


# Markers and their sentences.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Roses need water [1].", [(1, "Roses need water")]),
        ("Roses need water. [1]", [(1, "Roses need water.")]),
        ("Roses need water.[1] Tulips do not [2].", [(1, "Roses need water."), (2, "Tulips do not")]),
        ("One. Roses need water [1][2].", [(1, "Roses need water"), (2, "Roses need water")]),
        ("Roses need water [1] [2].", [(1, "Roses need water"), (2, "Roses need water")]),
        ("Roses [1, 2].", [(1, "Roses"), (2, "Roses")]),
        ("Roses [1,2].", [(1, "Roses"), (2, "Roses")]),
        ("Roses [1; 3].", [(1, "Roses"), (3, "Roses")]),
        ("Roses 【2】.", [(2, "Roses")]),
        ("- Roses need water [1]\n- Tulips do not [2]", [(1, "- Roses need water"), (2, "- Tulips do not")]),
        ("No. 5 is wrong. Roses, e.g. red ones, need 4.2 l [3].", [(3, "Roses, e.g. red ones, need 4.2 l")]),
        ("See [link](x) and [a] and [1", []),
        ("[[1]]", []),
    ],
)
def test_a_marker_stands_for_the_sentence_it_closes(text: str, found: list[tuple[int, str]]) -> None:
    assert claims(text) == found


def test_a_number_that_names_nothing_is_dropped_and_counted() -> None:
    markers, reader = read("Roses [99]. Tulips [0]. Ferns [1, 7].", 3)
    assert [m.n for m in markers] == [1]
    assert reader.dropped == 3


def test_a_marker_without_a_sentence_is_dropped() -> None:
    markers, reader = read("[1] Roses need water.")
    assert (markers, reader.dropped) == ([], 1)


def test_a_marker_that_is_split_over_pieces_is_found_when_it_closes() -> None:
    reader = MarkerReader(12)
    assert [reader.feed(piece) for piece in ("Roses need water [", "1", "", "2")] == [[], [], [], []]
    assert reader.feed("] and") == [Marker(12, 0, 16)]
    assert reader.feed(" sun.") == []


def test_a_long_marker_is_found_however_slowly_it_comes() -> None:
    text = "Roses need water [" + ",  ".join(str(n) for n in range(1, 22)) + "]."
    whole = read(text, 30)[0]
    reader = MarkerReader(30)
    assert [m for c in text for m in reader.feed(c)] == whole
    assert [m.n for m in whole] == list(range(1, 22))


def test_a_marker_far_into_an_answer_has_its_own_sentence() -> None:
    text = "Some words are here. " * 400 + "Roses need water [1]."
    assert claims(text) == [(1, "Roses need water")]


PARTS = st.one_of(
    st.sampled_from(
        [
            "[1]",
            "[2]",
            "[3",
            "]",
            "[",
            "[1, 2]",
            "[1,3]",
            "[99]",
            "[0]",
            "【1】",
            "【",
            ". ",
            "!\n",
            "\n\n",
            " ",
            "- ",
            "1, ",
            "e.g. ",
        ]
    ),
    st.sampled_from(
        ["Roses need water", "In summer, 4.2 litres", "薔薇は毎朝水が必要です。", "Ünï", "😀", "| a | b |"]
    ),
    st.text(max_size=8),
)


@given(st.lists(PARTS, max_size=25), st.lists(st.integers(0, 12), max_size=60), st.integers(0, 3))
def test_any_answer_in_any_pieces_gives_what_it_gives_whole(parts: list[str], cuts: list[int], count: int) -> None:
    text = "".join(parts)
    whole, all_at_once = read(text, count)
    reader, found, at = MarkerReader(count), [], 0
    for size in cuts:
        found += reader.feed(text[at : at + size])
        at += size
    found += reader.feed(text[at:])
    assert found == whole
    assert (reader.text, reader.dropped) == (text, all_at_once.dropped)
    for marker in whole:
        assert 1 <= marker.n <= count
        assert 0 <= marker.answer_start < marker.answer_end <= len(text)
        claim = text[marker.answer_start : marker.answer_end]
        assert claim == claim.strip()


@given(st.lists(PARTS, max_size=25), st.integers(0, len(DOCUMENT) - 1), st.integers(1, 60), st.booleans())
def test_any_quote_is_the_documents_text_at_its_range(parts: list[str], start: int, size: int, shown: bool) -> None:
    end = min(start + size, len(DOCUMENT))
    p = passage(start, end)
    if shown:  # the model read more than the passage
        begin = max(start - 20, 0)
        p = replace(p, shown_start=begin, shown=DOCUMENT[begin : end + 20])
    found = support("".join(parts), p)
    assert p.prompt_start <= found.start <= found.end <= p.prompt_start + len(p.prompt_text)
    assert DOCUMENT[found.start : found.end] == found.quote


@given(st.text(), st.integers(0, 40))
def test_a_sentence_lies_before_its_marker(text: str, at: int) -> None:
    start, end = sentence_before(text, min(at, len(text)))
    assert 0 <= start <= end <= min(at, len(text))


# Support.


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        ("Roses need water every morning.", "Roses need water every morning."),
        ("“Tulips want sun and little water”", "Tulips want sun and little water"),
        ("little  water. Ferns [2] stand in", "little water.\nFerns stand in"),
        ("4.2 litres are enough", "4.2 litres are enough"),
        ("毎朝水が必要", "毎朝水が必要"),
    ],
)
def test_a_claim_that_stands_there_word_for_word_is_quoted_so(claim: str, quote: str) -> None:
    found = support(claim, passage())
    assert (found.quote, found.supported) == (quote, True)
    assert DOCUMENT[found.start : found.end] == quote


def test_a_paraphrase_is_supported_by_the_sentence_that_shares_its_words() -> None:
    found = support("Every morning, water is what roses need", passage())
    assert (found.quote, found.supported) == ("Roses need water every morning.", True)


def test_two_sentences_are_quoted_only_where_both_are_needed() -> None:
    claim = "Roses need water every morning, and in summer 4.2 litres for one bush are enough"
    found = support(claim, passage())
    assert found.quote.startswith("Roses need water every morning.")
    assert found.quote.endswith("for one bush.")
    assert found.supported


@pytest.mark.parametrize(
    "claim",
    [
        "The moon is made of green cheese",
        "In summer, 4.5 litres are enough for one bush",  # another number
        "In summer, 42 litres are enough for one bush",
    ],
)
def test_what_the_passage_does_not_say_is_not_supported(claim: str) -> None:
    assert not support(claim, passage()).supported


@pytest.mark.parametrize("claim", ["4", "2 litres", "4.2 litre", "ose", "need wat", "Tulip"])
def test_part_of_a_word_or_of_a_number_is_not_word_for_word(claim: str) -> None:
    assert support(claim, passage()).quote != claim


def test_a_passage_of_white_space_supports_nothing() -> None:
    empty = replace(passage(0, 1), text=" ")
    assert not support("Roses need water", empty).supported


def test_an_answer_is_quoted_without_its_markers() -> None:
    assert without_markers("Roses need water [1][2]. Tulips [3, 4] do not.【5】") == "Roses need water. Tulips do not."
    assert without_markers("a [link] [x1]") == "a [link] [x1]"
