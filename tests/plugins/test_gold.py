"""Ten documents of every format, made by code: each word is read, in order, with its structure, title and place."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sourcebook import Document, Parser
from sourcebook.testing.parsers import parse
from sourcebook_plugins.delimited import CsvParser
from sourcebook_plugins.docx import DocxParser
from sourcebook_plugins.epub import EpubParser
from sourcebook_plugins.hypertext import HtmlParser
from sourcebook_plugins.mail import MailParser
from sourcebook_plugins.markdown import MarkdownParser
from sourcebook_plugins.opendocument import OdtParser
from sourcebook_plugins.pdf import PdfParser
from sourcebook_plugins.pptx import PptxParser
from sourcebook_plugins.records import JsonParser
from sourcebook_plugins.text import TextParser
from sourcebook_plugins.xlsx import XlsxParser
from tests.plugins.fidelity import fidelity, words
from tests.plugins.making import Made, made

PARSERS: dict[str, type[Parser[Any]]] = {
    "docx": DocxParser, "pptx": PptxParser, "xlsx": XlsxParser, "html": HtmlParser, "md": MarkdownParser,
    "txt": TextParser, "epub": EpubParser, "odt": OdtParser, "pdf": PdfParser, "eml": MailParser, "csv": CsvParser,
    "tsv": CsvParser, "json": JsonParser, "jsonl": JsonParser,
}  # fmt: skip
# What a format adds to its text on purpose: keys of JSON, the header lines of a mail, a sheet's name.
ADDED = {"json": r"items\.\d+\.(?:kind|text)|name", "jsonl": "kind|text", "eml": "", "xlsx": "Tides"}
PLACES = {"pptx": ("slide", "shape"), "xlsx": ("sheet", "cells"), "csv": ("cells",), "tsv": ("cells",)}
PLACES |= {"pdf": ("page", "box"), "eml": ("part",), "epub": ("chapter", "paragraph"), "jsonl": ("paragraph",)}
PLACES |= {"json": ("path",), "txt": ("paragraph",)}


def read(kind: str, seed: int) -> tuple[Made, Document]:
    given, parser = made(kind, seed), PARSERS[kind]
    return given, parse(parser(parser.Settings()), given.data, given.name)


@pytest.mark.parametrize("kind", PARSERS)
def test_every_word_is_read_in_order(kind: str) -> None:
    for seed in range(10):
        given, document = read(kind, seed)
        expected = " ".join(given.words)
        if kind in ("json", "jsonl"):
            expected = " ".join(f"{u.kind} {u.text}" for u in given.units)
        score = fidelity(expected, _without_added(kind, document.text))
        assert score > (0.97 if kind == "pdf" else 0.999), (given.name, score, document.text)


def _without_added(kind: str, text: str) -> str:
    if kind == "eml":
        text = text.partition("Subject:")[2].partition("\n\n")[2]
    if kind == "json":
        text = re.sub(r"^name: .*$", "", text, flags=re.MULTILINE)
    return re.sub(rf"(?m)^(?:{ADDED[kind]}):? ", "", text.replace("Tides\n", " ")) if ADDED.get(kind) else text


@pytest.mark.parametrize("kind", ["docx", "html", "md", "epub", "odt", "pdf", "pptx"])
def test_headings_have_their_levels_and_tables_their_cells(kind: str) -> None:
    for seed in range(10):
        given, document = read(kind, seed)
        found = [(document.text[b.start : b.end], b.level) for b in document.blocks if b.kind == "heading"]
        wanted = [(u.text, u.level) for u in given.units if u.kind == "heading"]
        if kind in ("pptx", "pdf"):  # every slide's title is a title; type sizes tell levels apart, not their numbers
            assert [t for t, _ in found] == [t for t, _ in wanted], given.name
        else:
            assert found == wanted, given.name
        rows = [document.text[b.start : b.end].split("\n")[0] for b in document.blocks if b.kind == "table_row"]
        cells = [["".join(words(cell)) for cell in row.strip("| ").split(" | ")] for row in rows]
        expected = [["".join(words(c)) for c in row] for u in given.units for row in u.rows]
        assert cells == expected or (kind == "pdf" and len(cells) >= 0.8 * len(expected)), given.name


@pytest.mark.parametrize("kind", PARSERS)
def test_every_block_has_its_place(kind: str) -> None:
    for seed in range(3):
        given, document = read(kind, seed)
        for block in document.blocks:
            places = document.places(block.start, block.end)
            assert places, (given.name, document.text[block.start : block.end])
            needed = PLACES.get(kind, ("paragraph",))
            assert all(getattr(p, name) is not None for p in places for name in needed if name != "cells" or p.cells), (
                given.name,
                places,
            )


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx", "html", "md", "epub", "odt", "pdf", "eml", "json"])
def test_the_title_is_metadata(kind: str) -> None:
    given, document = read(kind, 1)
    assert document.metadata["title"] == given.title


@pytest.mark.parametrize("kind", ["docx", "epub", "odt", "pdf", "eml"])
def test_the_author_is_metadata(kind: str) -> None:
    _, document = read(kind, 1)
    assert document.metadata["authors"] == (["ada@example.org"] if kind == "eml" else ["Ada Tide"])


def test_what_stands_on_every_page_and_what_only_navigates_is_left_out() -> None:
    for kind in ("docx", "html", "epub", "pdf"):
        _, document = read(kind, 0)
        for noise in ("RUNNING HEADER", "Running header", "SCRIPT", "Page 1", "Page 2"):
            assert noise not in document.text, (kind, noise)
    assert "MENU" not in read("html", 0)[1].text
