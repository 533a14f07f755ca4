"""What people added to a PDF page: notes, remarks on marked text, text written onto it, and the values of form fields.

pdfium's text of a page has none of it. Text written onto the page and values become lines where they stand; notes come
behind what they are about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sourcebook.documents import Box
from sourcebook_plugins.pdf.layout import Group
from sourcebook_plugins.pdf.lines import Line
from sourcebook_plugins.pdf.loaded import LoadedPage
from sourcebook_plugins.pdf.strings import utf16
from sourcebook_plugins.pdf.tables import Table

_MOST = 1000  # annotations of a page
_LONGEST = 20_000  # characters of one
_HIDDEN = 1 << 1 | 1 << 5  # flags: hidden, no view (ISO 32000 12.5.3)
_LINK, _FREE_TEXT, _POPUP, _WIDGET = 2, 3, 16, 20  # a pop-up's text is its parent's
_CHECKBOX, _RADIO, _COMBO, _LIST, _TEXT_FIELD = range(2, 7)
_SECRET = 1 << 13  # a text field's flag: a password
_TICK = "[x]"
_SIZE = 10.0  # points, of a value on a page without text


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody remarked, "author: text" where they are named, and where its mark stands on the page."""

    text: str
    box: Box


def annotated(page: LoadedPage, lines: list[Line]) -> tuple[list[Line], list[Note]]:
    """The lines of a page with what was written onto it and the values of its fields; and its notes."""
    import pypdfium2.raw as pdfium

    count = min(pdfium.FPDFPage_GetAnnotCount(page.raw), _MOST)
    if count < 1:
        return lines, []
    found = list(_annotations(page, count))
    added = [(text, box) for subtype, text, box in found if subtype in (_FREE_TEXT, _WIDGET)]
    notes = [Note(text, box) for subtype, text, box in found if subtype not in (_FREE_TEXT, _WIDGET)]
    if added:
        size = median(line.size for line in lines) if lines else _SIZE
        lines = list(lines)
        for text, box in added:
            if not _shown_already(text, box, lines):
                _insert(lines, text, box, size)
    return lines, sorted(notes, key=lambda note: (note.box[1], note.box[0]))


def with_notes(groups: list[Group | Table], notes: Sequence[Note]) -> list[Group | Table]:
    """The units of a page, with each note behind the one that it stands on or beside."""
    behind: dict[int, list[Group | Table]] = {}
    for note in notes:
        line = Line(" ".join(note.text.split()), note.box, note.box[1], note.box[3])
        behind.setdefault(_about(groups, note.box), []).append(Group(line, "footnote"))
    found = behind.get(-1, [])
    for i, group in enumerate(groups):
        found += [group, *behind.get(i, ())]
    return found


def _about(groups: Sequence[Group | Table], box: Box) -> int:
    """The index of the unit at a box: on it, else beside it, else the last above; -1 where there is none."""
    best, nearest, above = -1, float("inf"), -1
    for i, group in enumerate(groups):
        for line in group.lines:
            left, top, right, bottom = line.box
            if top < box[3] and box[1] < bottom:
                away = max(left - box[2], box[0] - right, 0.0)
                if away < nearest:
                    best, nearest = i, away
            elif bottom <= box[1]:
                above = i
    return best if best >= 0 else above


def _annotations(page: LoadedPage, count: int) -> Iterator[tuple[int, str, Box]]:
    """Subtype, text and box of those that are seen and say something."""
    import pypdfium2.raw as pdfium

    view = page.view()
    rect = pdfium.FS_RECTF()
    for i in range(count):
        handle = pdfium.FPDFPage_GetAnnot(page.raw, i)
        if not handle:
            continue
        try:
            subtype = pdfium.FPDFAnnot_GetSubtype(handle)
            if subtype in (_LINK, _POPUP) or pdfium.FPDFAnnot_GetFlags(handle) & _HIDDEN:
                continue
            text = _value(page, handle) if subtype == _WIDGET else _remark(handle, subtype)
            if text and pdfium.FPDFAnnot_GetRect(handle, rect):
                yield subtype, text, view.box(rect.left, rect.bottom, rect.right, rect.top)
        finally:
            pdfium.FPDFPage_CloseAnnot(handle)


def _remark(handle: Any, subtype: int) -> str:
    import pypdfium2.raw as pdfium

    def entry(name: bytes) -> str:
        return utf16(lambda *into: pdfium.FPDFAnnot_GetStringValue(handle, name, *into), _LONGEST)

    text = entry(b"Contents")
    author = " ".join(entry(b"T").split()) if text and subtype != _FREE_TEXT else ""
    return f"{author}: {text}" if author else text


def _value(page: LoadedPage, handle: Any) -> str:
    """What a form field holds, as it is shown: nothing for one that is empty or secret, or an unticked box."""
    import pypdfium2.raw as pdfium

    form = page.form
    if form is None:
        return ""
    kind = pdfium.FPDFAnnot_GetFormFieldType(form, handle)
    if kind in (_CHECKBOX, _RADIO):
        return _TICK if pdfium.FPDFAnnot_IsChecked(form, handle) else ""
    secret = kind == _TEXT_FIELD and pdfium.FPDFAnnot_GetFormFieldFlags(form, handle) & _SECRET
    if kind not in (_COMBO, _LIST, _TEXT_FIELD) or secret:
        return ""
    return utf16(lambda *into: pdfium.FPDFAnnot_GetFormFieldValue(form, handle, *into), _LONGEST)


def _shown_already(text: str, box: Box, lines: Sequence[Line]) -> bool:
    """Whether the page's own text says the same there: some programs draw values onto the page too."""
    inside = (x.text for x in lines if x.box[1] < box[3] and box[1] < x.box[3] and x.box[0] < box[2])
    return text != _TICK and " ".join(text.split()) in " ".join(inside)


def _insert(lines: list[Line], text: str, box: Box, size: float) -> None:
    """Put a text among the lines: behind what stands left of it in its row, else before what stands below it."""
    rows = [" ".join(row.split()) for row in text.splitlines()]
    middle = (box[1] + box[3]) / 2
    top = middle - size / 2 if len(rows) == 1 else box[1]
    beside = [i for i, x in enumerate(lines) if x.box[1] < middle < x.box[3] and x.box[0] < box[0]]
    below = next((i for i, x in enumerate(lines) if x.box[1] > middle), len(lines))
    at = beside[-1] + 1 if beside else below
    lines[at:at] = [Line(row, box, top + n * size, top + (n + 1) * size) for n, row in enumerate(rows) if row]
