"""Plain text comes out whole, whatever its encoding."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sourcebook import ComponentSettings, Document, Place
from sourcebook.errors import DocumentError, LimitExceeded, Malformed, NoText
from sourcebook.testing.parsers import ParserContract, parse
from sourcebook_plugins.text import TextParser

GERMAN = "Über die Wärme: Straßen, Bäume und größere Gärten liegen dort. " * 4
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей же чаю. " * 6


def parser() -> TextParser:
    return TextParser(ComponentSettings())


def read(data: bytes) -> Document:
    return parse(parser(), data)


class TestText(ParserContract):
    def parser(self) -> TextParser:
        return parser()

    def samples(self) -> Mapping[str, bytes]:
        return {"plain.txt": b"One.\nStill one.\n\n\nTwo.", "cafe.txt": "Cafe\u0301\r\n\r\nnoir".encode()}


def test_paragraphs_end_at_blank_lines_and_are_numbered() -> None:
    document = read(b"First line\nsecond line\n \t\n\nNext paragraph\r\n\r\nLast")
    assert document.text == "First line\nsecond line\n\nNext paragraph\n\nLast"
    assert [b.kind for b in document.blocks] == ["paragraph"] * 3
    assert [x.place for x in document.locators] == [Place(paragraph=n) for n in (1, 2, 3)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_german_is_read_in_every_usual_encoding(encoding: str) -> None:
    assert read(GERMAN.encode(encoding)).text == GERMAN.strip()


def test_a_legacy_encoding_of_another_script_is_found_out_and_named() -> None:
    document = read(RUSSIAN.encode("cp1251"))
    assert document.text == RUSSIAN.strip()
    assert document.metadata["encoding"]


def test_a_few_umlauts_are_read_as_western() -> None:
    assert read("können\näöüß".encode("cp1252")).text == "können\näöüß"


def test_utf8_with_a_broken_byte_stays_utf8_and_says_so() -> None:
    data = RUSSIAN.encode()
    document = read(data[:101] + b"\xff" + data[101:])
    assert "булок" in document.text
    assert [w.code for w in document.warnings] == ["encoding_errors"]


def test_a_page_break_is_a_paragraph_break() -> None:
    assert read(b"end of page\x0cnext page").text == "end of page\n\nnext page"


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, b"\x00" * 100, b"MZ" + b"\x00\x01" * 99]
)
def test_binary_data_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


@pytest.mark.parametrize("data", [b"", b" \n\r\n\t", "\ufeff".encode("utf-16")])
def test_a_blank_file_holds_no_text(data: bytes) -> None:
    with pytest.raises(NoText):
        read(data)


def test_one_line_without_end_is_read() -> None:
    assert len(read(b"word " * 100_000).text) == 499_999


def test_too_much_text_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        read(b"x" * 16_000_001)


def test_every_byte_string_fails_well_or_is_read() -> None:
    codes = set()
    for first in range(256):
        try:
            read(bytes([first, 0x81, 0x0A]) * 9)
        except DocumentError as error:
            codes.add(error.problem_code)
    assert codes <= {"corrupt", "no_text"}
