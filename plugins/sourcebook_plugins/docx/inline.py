"""The text of one paragraph, and what hangs on it: footnotes and text boxes."""

from __future__ import annotations

from dataclasses import dataclass, field

from sourcebook_plugins.docx.styles import W, val
from sourcebook_plugins.packages import Element

_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"

# Deleted and moved-away text, field instructions, phonetic guides, and properties, which hold no text.
_SKIPPED = {W + tag for tag in ("del", "moveFrom", "instrText", "delText", "rt", "pPr", "rPr", "sdtPr", "sdtEndPr")}
_CHARACTERS = {W + "tab": "\t", W + "cr": "\n", W + "noBreakHyphen": "\u2011", W + "ptab": "\t"}
_NOTES = {W + "footnoteReference": "footnote", W + "endnoteReference": "endnote"}
# On one line: a fraction, power or index between its operands, what stands in brackets, a root.
_OPERATORS = {_M + "f": ("", "/", ""), _M + "sSup": ("", "^", ""), _M + "sSub": ("", "_", "")}
_OPERATORS |= {_M + "d": ("(", ", ", ")"), _M + "rad": ("√(", ", ", ")")}
_OFF = ("0", "false", "off")


@dataclass
class Paragraph:
    """`notes` are (kind, id) in order; `boxes` are the contents of text boxes, to be read as blocks of their own."""

    text: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    boxes: list[Element] = field(default_factory=list)


def read(element: Element, marks: dict[tuple[str, str], str]) -> Paragraph:
    """The paragraph below `element`. `marks` gets the mark of every note met for the first time: "[^1]"."""
    paragraph = Paragraph()
    _walk(element, paragraph, marks)
    return paragraph


def _walk(element: Element, into: Paragraph, marks: dict[tuple[str, str], str]) -> None:
    for child in element:
        tag = child.tag
        if not isinstance(tag, str) or tag in _SKIPPED:  # an unresolved entity has no name
            continue
        if tag in (W + "t", _M + "t"):
            into.text.append(child.text or "")
        elif tag in _CHARACTERS:
            into.text.append(_CHARACTERS[tag])
        elif tag == W + "br":
            into.text.append(" " if child.get(W + "type") in ("page", "column") else "\n")
        elif tag == W + "sym":
            into.text.append(_symbol(child))
        elif tag in _NOTES:
            key = (_NOTES[tag], child.get(W + "id", ""))
            into.notes.append(key)
            into.text.append(marks.setdefault(key, f"[^{len(marks) + 1}]"))
        elif tag == W + "txbxContent":
            into.boxes.append(child)
        elif tag == _MC + "AlternateContent":
            # Choice and Fallback say the same twice.
            _walk(child[:1], into, marks)
        elif tag in _OPERATORS:
            _operation(child, into, marks)
        elif tag == _M + "nary":
            _sum(child, into, marks)
        elif tag != W + "r" or not _hidden(child):
            _walk(child, into, marks)


def _hidden(run: Element) -> bool:
    vanish = run.find(f"{W}rPr/{W}vanish")
    return vanish is not None and vanish.get(W + "val") not in _OFF


def _symbol(element: Element) -> str:
    try:
        code = int(element.get(W + "char", ""), 16)
    except ValueError:
        return ""
    # Symbol fonts live in the private use area, where a code says nothing without its font.
    return chr(code) if 0x20 <= code < 0xD800 else ""


def _operation(element: Element, into: Paragraph, marks: dict[tuple[str, str], str]) -> None:
    """Mathematics on one line: "(a+b)/2", "x^2"."""
    opening, operator, closing = _OPERATORS[element.tag]
    operands: list[str] = []
    for child in element:
        if isinstance(child.tag, str) and not child.tag.endswith("Pr"):
            operand = Paragraph(notes=into.notes, boxes=into.boxes)
            _walk(child, operand, marks)
            text = "".join(operand.text)
            operands.append(text if opening or len(text) < 2 or text.isalnum() or text[0] == "(" else f"({text})")
    into.text.append(opening + operator.join(text for text in operands if text) + closing)


def _sum(element: Element, into: Paragraph, marks: dict[tuple[str, str], str]) -> None:
    """A sum, product or integral: its sign, then bounds and body as they come."""
    sign = element.find(f"{_M}naryPr/{_M}chr")
    into.text.append(sign.get(_M + "val", "∫") if sign is not None else "∫")
    _walk(element, into, marks)


def properties(paragraph: Element) -> Element | None:
    """The `w:pPr` of a paragraph."""
    return paragraph.find(W + "pPr")


def style_of(paragraph: Element) -> str | None:
    """The id of a paragraph's style."""
    return val(properties(paragraph), W + "pStyle")
