"""An export as a Word document: what Markdown says of structure becomes Word's own, and nothing else does.

Text goes in as runs of plain characters, so that no field, link or picture can come out of it. The one thing that can
be clicked is a reference's address, which is ours.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sourcebook.errors import TooLarge
from sourcebook.export_words import Words
from sourcebook.exporting import Export, Reference, line_of, said_of
from sourcebook.hidden import without_hidden
from sourcebook.rendering import parsed

if TYPE_CHECKING:
    from markdown_it.token import Token

MOST = 1_000_000
"""Characters; a larger document takes longer to make than anybody waits for it."""

_CODE = "Code"
_DEEPEST_LIST, _DEEPEST_HEADING = 3, 9
_HYPERLINK = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/hyperlink"


def to_docx(export: Export) -> bytes:
    """The file's bytes. Raises `TooLarge` (code `export_too_large`). Takes a while: to be called in a thread."""
    if sum(len(part.text) + len(part.heading) for part in export.parts) > MOST:
        raise TooLarge(
            f"A Word document is made of {MOST} characters at most.",
            code="export_too_large",
            remedy="Export it as Markdown: `?format=md`.",
        )
    from docx import Document

    document = Document()
    title = line_of(export.title)
    _prepare(document, title)
    document.add_heading(title, 0)
    for part in export.parts:
        if part.heading:
            document.add_heading(line_of(part.heading), 1)
        _Writer(document).write(parsed(without_hidden(part.text)))
        if part.remark:
            document.add_paragraph().add_run(part.remark).italic = True
    if export.references:
        document.add_heading(export.words.references, 1)
        for reference in export.references:
            _add_reference(document, reference, export.words)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def _prepare(document: Any, title: str) -> None:
    """What the library's template lacks, and what it says of itself in place of us."""
    from docx.shared import Pt

    style = document.styles.add_style(_CODE, 1)  # of paragraphs
    style.base_style = document.styles["Normal"]
    style.font.name, style.font.size = "Courier New", Pt(9.5)
    properties = document.core_properties
    properties.title, properties.author, properties.comments = title[:255], "", ""


class _Writer:
    """Writes the blocks of one text. What stands open is kept in stacks, as the tokens nest."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._lists: list[Any] = []  # of an open list its numbering, or None for bullets
        self._quotes = 0
        self._first_of_item = False
        self._at = 0

    def write(self, tokens: Sequence[Token]) -> None:
        """All of a text's tokens."""
        while self._at < len(tokens):
            token = tokens[self._at]
            self._at += 1
            match token.type:
                case "heading_open":
                    level = min(int(token.tag[1:]) + 1, _DEEPEST_HEADING)
                    _add_runs(self._document.add_heading("", level), tokens[self._at])
                    self._at += 1
                case "inline":
                    _add_runs(self._paragraph(), token)
                case "fence" | "code_block":
                    self._document.add_paragraph(token.content.rstrip("\n"), style=_CODE)
                case "table_open":
                    self._table(tokens)
                case "hr":
                    self._document.add_paragraph("—")
                case _:
                    self._nest(token)

    def _nest(self, token: Token) -> None:
        match token.type:
            case "bullet_list_open":
                self._lists.append(None)
            case "ordered_list_open":
                self._lists.append(self._numbering(int(token.attrGet("start") or 1)))
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
            case "list_item_open":
                self._first_of_item = True
            case "blockquote_open":
                self._quotes += 1
            case "blockquote_close":
                self._quotes -= 1

    def _paragraph(self) -> Any:
        """A paragraph in the style of where it stands. Only the first one of a list's item bears its mark."""
        if not self._lists:
            return self._document.add_paragraph(style="Quote" if self._quotes else None)
        depth = min(len(self._lists), _DEEPEST_LIST)
        suffix = f" {depth}" if depth > 1 else ""
        numbering = self._lists[-1]
        kind = "List Continue" if not self._first_of_item else "List Bullet" if numbering is None else "List Number"
        made = self._document.add_paragraph(style=kind + suffix)
        if self._first_of_item and numbering is not None:
            marks = made._p.get_or_add_pPr().get_or_add_numPr()
            marks.get_or_add_ilvl().val, marks.get_or_add_numId().val = 0, numbering
        self._first_of_item = False
        return made

    def _numbering(self, start: int) -> int:
        """A numbering of its own for each list, or the second would go on where the first one ended."""
        depth = min(len(self._lists) + 1, _DEEPEST_LIST)
        style = self._document.styles["List Number" + (f" {depth}" if depth > 1 else "")]
        known = self._document.part.numbering_part.element
        of_style = known.num_having_numId(style.element.pPr.numPr.numId.val)
        made = known.add_num(of_style.abstractNumId.val)
        made.add_lvlOverride(ilvl=0).add_startOverride(start)
        return int(made.numId)

    def _table(self, tokens: Sequence[Token]) -> None:
        rows: list[list[Token]] = []
        head = False
        while (token := tokens[self._at]).type != "table_close":
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(token)
            head = head or token.type == "thead_open"
            self._at += 1
        self._at += 1
        made = self._document.add_table(len(rows), max(map(len, rows)), style="Table Grid")
        for n, (row, cells) in enumerate(zip(made.rows, rows, strict=True)):
            for cell, token in zip(row.cells, cells, strict=False):
                _add_runs(cell.paragraphs[0], token, bold=head and n == 0)


def _add_runs(paragraph: Any, inline: Token, *, bold: bool = False) -> None:
    """The words of a paragraph. A link is its words and, in brackets, where it leads."""
    styles = {"strong": int(bold), "em": 0, "s": 0}
    targets: list[str] = []
    said = ""
    for token in inline.children or ():
        name, _, way = token.type.rpartition("_")
        text = token.content
        if name in styles:
            styles[name] += 1 if way == "open" else -1
        elif token.type == "link_open":
            targets.append(str(token.attrGet("href") or ""))
            said = ""
        elif token.type == "link_close":
            target = targets.pop()
            text = "" if said.strip() == target else f" ({target})"
        elif token.type in ("softbreak", "hardbreak"):
            text = " " if token.type == "softbreak" else "\n"
        if not text:
            continue
        said += text
        run = paragraph.add_run(text)
        run.bold, run.italic, run.font.strike = (True if styles[k] else None for k in ("strong", "em", "s"))
        if token.type == "code_inline":
            run.font.name = "Courier New"


def _add_reference(document: Any, reference: Reference, words: Words) -> None:
    from docx.shared import Pt

    paragraph = document.add_paragraph()
    paragraph.paragraph_format.left_indent, paragraph.paragraph_format.first_line_indent = Pt(24), Pt(-24)
    paragraph.add_run(f"[{reference.n}]\t")
    for kind, text in said_of(reference, words):
        run = paragraph.add_run(text)
        run.bold, run.italic = kind == "name", kind == "quote"
    if reference.url:
        paragraph.add_run(" ")
        _add_link(paragraph, reference.url)


def _add_link(paragraph: Any, url: str) -> None:
    """The library reads links and makes none."""
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn
    from docx.text.run import Run

    link = OxmlElement("w:hyperlink")
    link.set(qn("r:id"), paragraph.part.relate_to(url, _HYPERLINK, is_external=True))
    inner = OxmlElement("w:r")
    link.append(inner)
    paragraph._p.append(link)
    run = Run(inner, paragraph)
    run.text, run.underline = "open the passage", True
