"""What a parser writes comes out as one clean text whose places are true."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.documents import BLOCK_KINDS, MAX_TEXT, Document, Place, check_document
from sourcebook.errors import LimitExceeded
from sourcebook.writer import MAX_WARNINGS, DocumentWriter, clean

# Characters that compose, reorder, vanish or end lines, beside any other.
AWKWARD = "ae\u0301\u0323\u0315\u0308\u1100\u1161\u11a8\uac00\u09c7\u09be\u212b\u0344"
AWKWARD += "\r\n\t \x0b\x0c\x00\x85\u2028\ud800\ufeff|\\"
TEXTS = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters(exclude_categories=())), max_size=12)
PLACES = st.one_of(st.none(), st.integers(1, 3).map(lambda n: Place(page=n)))
PIECES = st.lists(st.tuples(TEXTS, PLACES), max_size=5)
KINDS = st.sampled_from([kind for kind in BLOCK_KINDS if kind != "table"])
BLOCKS = st.lists(st.tuples(PIECES, KINDS), max_size=6)


def written(blocks: list[tuple[list[tuple[str, Place | None]], str]]) -> Document:
    out = DocumentWriter()
    for pieces, kind in blocks:
        out.block(pieces, kind)  # type: ignore[arg-type]  # the strategy draws from the known kinds
    return out.document()


def ink(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())


@given(BLOCKS)
def test_any_pieces_give_a_clean_text_whose_blocks_and_locators_lie_in_it(
    blocks: list[tuple[list[tuple[str, Place | None]], str]],
) -> None:
    document = written(blocks)
    check_document(document)
    assert unicodedata.is_normalized("NFC", document.text)
    assert not set(document.text) & set("\r\x00\x0b\x0c\x85\u2028\ufeff")
    document.text.encode()  # no lone surrogates
    for block in document.blocks:
        assert document.text[block.start : block.end].strip()


@given(BLOCKS)
def test_nothing_but_white_space_is_lost(blocks: list[tuple[list[tuple[str, Place | None]], str]]) -> None:
    expected = "".join(ink(clean("".join(clean(text) for text, _ in pieces))) for pieces, _ in blocks)
    # White space goes before the comparison, so marks that stood behind it may compose now: on both sides alike.
    assert ink("".join(written(blocks).text.split())) == ink(expected)


@given(st.lists(TEXTS, max_size=6))
def test_a_piece_is_found_at_its_locator(texts: list[str]) -> None:
    pieces: list[tuple[str, Place | None]] = [(text, Place(page=n)) for n, text in enumerate(texts, 1)]
    out = DocumentWriter()
    out.block(pieces)
    document = out.document()
    for locator in document.locators:
        page = locator.place.page
        assert page is not None
        # A mark may have moved into the letter of the piece before: base letters tell which piece it is.
        found = _letters(document.text[locator.start : locator.end])
        assert found in _letters(clean("".join(texts))), "a locator holds text of its document"
        if not _has_joints(texts):
            assert document.text[locator.start : locator.end].strip() == clean(texts[page - 1]).strip()


def _letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c) and not c.isspace())


def _has_joints(texts: list[str]) -> bool:
    return not unicodedata.is_normalized("NFC", "".join(clean(text) for text in texts))


def test_a_mark_that_begins_a_piece_joins_the_letter_before_it() -> None:
    out = DocumentWriter()
    out.block([("Cafe", Place(page=1)), ("\u0301 noir", Place(page=2))])
    document = out.document()
    assert document.text == "Café noir"
    assert [(x.start, x.end, x.place.page) for x in document.locators] == [(0, 4, 1), (4, 9, 2)]


def test_marks_in_pieces_of_their_own_come_into_canonical_order() -> None:
    out = DocumentWriter()
    out.block([("a\u0315", None), ("\u0315", None), ("\u0323", None)])
    assert out.document().text == unicodedata.normalize("NFC", "a\u0315\u0315\u0323")


def test_form_feeds_and_vertical_tabs_do_not_glue_words() -> None:
    assert clean("one\x0ctwo\x0bthree\r\nfour\rfive\u2029six") == "one\ntwo\nthree\nfour\nfive\nsix"


def test_a_code_block_keeps_its_indent_and_loses_blank_lines() -> None:
    out = DocumentWriter()
    out.block(" \n\t\n    if x:\n        y\n\n", "code")
    assert out.document().text == "    if x:\n        y"


def test_units_are_kept_apart_and_list_items_and_rows_stand_close() -> None:
    out = DocumentWriter()
    out.block("Care", "heading", 1)
    out.block("- water", "list_item")
    out.block("- light", "list_item")
    out.row(["plant", "litres"], header=True)
    out.row(["fern", "a|b"])
    out.row(["x", "y"], header=True)
    out.block("End.")
    assert out.document().text == (
        "Care\n\n- water\n- light\n\n"
        "| plant | litres |\n| --- | --- |\n| fern | a\\|b |\n\n| x | y |\n| --- | --- |\n\nEnd."
    )


def test_a_table_holds_its_rows_and_stands_before_them_even_with_one() -> None:
    out = DocumentWriter()
    out.row(["only"], Place(sheet="A"))
    document = out.document()
    assert [(b.kind, b.start, b.end) for b in document.blocks] == [("table", 0, 8), ("table_row", 0, 8)]


def test_end_table_begins_another() -> None:
    out = DocumentWriter()
    out.row(["a"])
    out.end_table()
    out.row(["b"])
    assert [b.kind for b in out.document().blocks] == ["table", "table_row", "table", "table_row"]


def test_an_empty_unit_is_left_out() -> None:
    out = DocumentWriter()
    out.block(" \n\x00")
    out.block([("", Place(page=1)), ("\t", Place(page=2))])
    assert out.document() == Document("")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown block kind 'verse'"):
        DocumentWriter().block("x", "verse")  # type: ignore[arg-type]  # what is wrong is the point


def test_the_cap_holds_to_the_character() -> None:
    out = DocumentWriter(max_text=10)
    out.block("12345")
    out.block("678")
    with pytest.raises(LimitExceeded) as caught:
        out.block("9")
    assert caught.value.details["limit"] == 10
    assert len(out.document().text) <= 10 <= MAX_TEXT


def test_metadata_is_json_safe_and_empty_values_are_left_out() -> None:
    out = DocumentWriter()
    out.meta(title=" A\x00 title\r\n", authors=("Ann", "Bob\ud800"), created=datetime(2024, 5, 1, tzinfo=UTC))
    out.meta(pages=0, language="", subject=None, weight=float("nan"))
    metadata = out.document().metadata
    assert metadata["title"] == "A title"
    assert metadata["authors"] == ["Ann", "Bob\ufffd"]
    assert metadata["created"] == "2024-05-01T00:00:00+00:00"
    assert metadata["pages"] == 0
    assert "language" not in metadata
    json.loads(json.dumps(dict(metadata), allow_nan=False))


def test_warnings_are_bounded() -> None:
    out = DocumentWriter()
    for n in range(MAX_WARNINGS + 5):
        out.warn("page_without_text", f"Page {n} holds no text.")
    assert len(out.document().warnings) == MAX_WARNINGS


def test_members_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook.writer.MAX_MEMBER_BYTES", 10)
    out = DocumentWriter()
    out.member("a\x00.txt", b"12345")
    with pytest.raises(LimitExceeded):
        out.member("b.txt", b"678901")
    assert [(m.name, m.data) for m in out.members] == [("a.txt", b"12345")]
