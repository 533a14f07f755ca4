"""What is taken away as a file does no more in any viewer than it would on our own page."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sourcebook.documents import Place
from sourcebook.errors import TooLarge
from sourcebook.export_docx import MOST, to_docx
from sourcebook.export_words import WORDS
from sourcebook.exporting import Export, Part, Quote, Reference, harmless, to_markdown

from .test_rendering import EXFILTRATION, SCRIPTS

HOSTILE = [*EXFILTRATION, *SCRIPTS]
SPANS = [
    "| ` | x ` `` y ` ![i](https://evil.example) `` |",
    "a ` b\nc ` ![x](https://evil.example) `",
    "# a `\n![x](https://evil.example) `",
    "\\` ![x](https://evil.example) `",
    "`` ` ![x](https://evil.example)",
    "\\\\![x](https://evil.example)",
    "> ```\n![x](https://evil.example)\n> ```",
    "- ```\n\n![x](https://evil.example)\n\n```",
    "    code\n![x](https://evil.example)",
    "[1]: https://evil.example\n\nSee [1].",
    "> [1]: https://evil.example\n\nSee [1].",
    "[x](\njavascript:alert(1))",
    "![x\n](https://evil.example)",
]
PIECES = [
    "`",
    "``",
    "```",
    "~~~",
    "\n",
    "\n\n",
    "    ",
    "|",
    "> ",
    "- ",
    "# ",
    "\\",
    "![x](https://evil.example)",
    "<b>",
    "a",
]
PIECES += ["[1]: https://evil.example", "[x](javascript:y)", "]", "[", "(", "![", "<!--"]


def active(markdown: str) -> list[str]:
    """What a viewer that renders everything would do with it: HTML, pictures, definitions, links to but the web."""
    env: dict[str, dict[str, object]] = {}
    viewer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    viewer.validateLink = lambda url: True  # type: ignore[method-assign]
    found: list[str] = []
    for block in viewer.parse(markdown, env):
        for token in [block, *(block.children or ())]:
            if token.type in ("html_block", "html_inline", "image"):
                found.append(token.content or "picture")
            href = str(token.attrGet("href") or "https://")
            if not href.startswith(("http://", "https://", "mailto:")) or "@evil" in href:
                found.append(href)
    return [*found, *env.get("references", ())]


@pytest.mark.parametrize("text", [*HOSTILE, *SPANS])
def test_hostile_markdown_does_nothing_in_a_viewer_that_would_let_it(text: str) -> None:
    assert active(harmless(text)) == []
    whole = to_markdown(Export(text, (Part(text, text),), (Reference(1, text, (Quote(text, text, True),)),)))
    assert active(whole) == []


def test_the_viewer_of_this_test_would_have_shown_it() -> None:
    """Else the tests here could not fail."""
    assert active("![x](https://evil.example)") == ["x"]
    assert active("[1]: https://evil.example") == ["1"]
    assert active("<b>")
    assert active("[x](javascript:y)") == ["javascript:y"]
    assert sum(bool(active(text)) for text in HOSTILE) > 30


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_mixture_of_code_and_lines_brings_a_picture_back(text: str) -> None:
    assert active(harmless(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "# Head\n\nplain *em* **bold** `code <b> ![x](y)` 1 < 2",
        "- one\n  - two\n\n```html\n<b>![x](y)</b>\n```\n\n[a](https://good.example) a[0]",
        "| a | b |\n|---|---|\n| 1 | `c` |\n",
        "",
    ],
)
def test_what_is_harmless_stays_as_it_was_written(text: str) -> None:
    assert harmless(text) == text


def test_hidden_characters_are_left_out() -> None:
    whole = to_markdown(Export("A\u202eB\x00\x07", (Part("x\u200by\U000e0041", "h\x1b"),), ()))
    assert whole == "# AB\n\n## h\n\nxy\n"


def test_references_say_name_place_words_and_what_is_gone() -> None:
    quotes = (Quote("At ten.", "page 3", True), Quote("At six.", "", False))
    export = Export(
        "T",
        (Part("a [1] b [2]"),),
        (Reference(1, "a_b.pdf", quotes, "https://x.example/open/t"), Reference(2, None, ())),
    )
    assert to_markdown(export).split("## References\n\n")[1] == (
        "\\[1\\] **a\\_b.pdf**, page 3: “At ten.”; “At six.” \\(does not support what was said\\)"
        " <https://x.example/open/t>\n\n\\[2\\] \\(the source has been removed\\)\n"
    )


def test_headings_remarks_and_places_are_in_the_reader_s_language() -> None:
    from docx import Document

    words = WORDS["de"]
    references = (Reference(1, "a.pdf", (Quote("At ten.", "", False),)), Reference(2, None, ()))
    export = Export("T", (Part("a [1]"),), references, words)
    document: Any = Document(io.BytesIO(to_docx(export)))
    for told in (to_markdown(export).replace("\\", ""), "\n".join(p.text for p in document.paragraphs)):
        assert all(said in told for said in (words.references, words.removed, words.unsupported))
        assert "References" not in told
    assert Place(page=3, sheet="Costs", paragraph=4).said(*words.kinds) == "Seite 3, Blatt Costs, Absatz 4"
    assert str(Place(page=3, sheet="Costs")) == "page 3, sheet Costs"


def test_markdown_becomes_words_own_structure() -> None:
    from docx import Document

    text = (
        "# Head\n\npara **bold** *em* `code` ~~s~~ [x](https://good.example)\n\n1. one\n   - in\n\n     more\n"
        "2. two\n\ntext\n\n1. again\n\n> quote\n\n```\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | **2** |\n\n---\n"
    )
    document: Any = Document(io.BytesIO(to_docx(Export("Title", (Part(text, "Question", "Incomplete."),), ()))))
    styles = [(p.style.name, p.text) for p in document.paragraphs]
    assert styles == [
        ("Title", "Title"),
        ("Heading 1", "Question"),
        ("Heading 2", "Head"),
        ("Normal", "para bold em code s x (https://good.example)"),
        ("List Number", "one"),
        ("List Bullet 2", "in"),
        ("List Continue 2", "more"),
        ("List Number", "two"),
        ("Normal", "text"),
        ("List Number", "again"),
        ("Quote", "quote"),
        ("Code", "x = 1"),
        ("Normal", "—"),
        ("Normal", "Incomplete."),
    ]
    runs = {run.text: run for run in document.paragraphs[3].runs}
    assert (runs["bold"].bold, runs["em"].italic, runs["s"].font.strike) == (True, True, True)
    assert runs["code"].font.name == "Courier New"
    numbered = [p._p.pPr.numPr.numId.val for p in document.paragraphs if p.style.name == "List Number"]
    assert numbered[0] == numbered[1] != numbered[2]
    (table,) = document.tables
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["a", "b"], ["1", "2"]]
    assert table.rows[0].cells[0].paragraphs[0].runs[0].bold


@pytest.mark.parametrize("text", [*HOSTILE, *SPANS, "=cmd|' /C calc'!A0", "\x01\x0b\u202e\ufffe\U000e0041x"])
def test_a_word_document_holds_no_field_picture_or_foreign_link(text: str) -> None:
    import zipfile

    data = to_docx(Export(text, (Part(text, text),), (Reference(1, text, (Quote(text, text, True),)),)))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        body = file.read("word/document.xml").decode()
        links = file.read("word/_rels/document.xml.rels").decode()
    assert not [
        tag for tag in ("w:fld", "w:instr", "w:drawing", "w:pict", "w:object", "w:hyperlink") if f"<{tag}" in body
    ]
    assert "External" not in links
    assert "\u202e" not in body


def test_a_document_that_would_take_too_long_says_what_to_do() -> None:
    with pytest.raises(TooLarge) as caught:
        to_docx(Export("T", (Part("x" * (MOST + 1)),), ()))
    assert caught.value.problem_code == "export_too_large"
    assert "md" in caught.value.remedy
