from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import pytest

from sourcebook.documents import Document, Passage
from sourcebook.writer import DocumentWriter
from sourcebook_plugins.extractive import pick

DEMO = files("sourcebook_api") / "demo"
PDF, DOCX = "tolvane-harbour-handbook.pdf", "standing-orders-of-the-watch.docx"
EXAMPLES = Path(__file__).parents[2] / "examples"
ANSWERS = {
    "When was the light on Candle Rock first lit?": (PDF, "was first lit on 2 November 1871."),
    "What was the sea temperature in September?": (PDF, "| September | 7.2 | 0.2 | 16.2 | 1 | 162 |"),
    "How many sandbags are kept in the boathouse?": (DOCX, "240 filled sandbags are kept in the boathouse"),
}


@dataclass
class DemoFile:
    name: str
    data: bytes
    media_type: str = ""
    password: str | None = None

    def read(self) -> bytes:
        return self.data

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("build_demo_documents")


def parsed(name: str) -> Document:
    register: Callable[[], Any] = importlib.import_module(
        f"sourcebook_plugins.{name.rpartition('.')[2]}"
    ).register_parsers
    (parser,) = register()
    out = DocumentWriter()
    parser(parser.Settings()).parse(DemoFile(name, (DEMO / name).read_bytes(), parser.media_types[0]), out)
    return out.document()


def page_texts(data: bytes) -> list[str]:
    import pypdfium2

    pdf = pypdfium2.PdfDocument(data)
    texts = [page.get_textpage().get_text_range() for page in pdf]
    pdf.close()
    return texts


def body(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        return package.read("word/document.xml")


def test_the_demo_documents_are_what_the_script_builds(builder: ModuleType, tmp_path: Path) -> None:
    pdf, docx = builder.build(tmp_path)
    assert page_texts(pdf.read_bytes()) == page_texts((DEMO / PDF).read_bytes())
    assert body(docx.read_bytes()) == body((DEMO / DOCX).read_bytes())


def test_the_script_writes_the_same_bytes_again(builder: ModuleType, tmp_path: Path) -> None:
    first, second = builder.build(tmp_path / "a"), builder.build(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_demo_documents_are_small() -> None:
    assert all(len((DEMO / name).read_bytes()) < 200_000 for name in (PDF, DOCX))
    assert len(page_texts((DEMO / PDF).read_bytes())) == 5


def test_the_three_questions_have_answers_here() -> None:
    assert (DEMO / "questions.txt").read_text(encoding="utf-8").splitlines() == list(ANSWERS)


@pytest.mark.parametrize("question", list(ANSWERS))
def test_a_question_is_answered_by_its_document(question: str) -> None:
    name, expected = ANSWERS[question]
    passages = [
        Passage(f, "s", "n", "d", "g", 0, 0, len(document.text), document.text)
        for f, document in ((f, parsed(f)) for f in (DOCX, PDF))
    ]
    quotes = pick(question, passages, 2).quotes
    assert any(expected in quote.text and passages[quote.n - 1].id == name for quote in quotes)
