"""What a PDF says of itself: title, authors, dates."""

from __future__ import annotations

import re
from typing import Any

from sourcebook_plugins.pdf.strings import utf16

_KEYS = ("Title", "Author", "Subject", "Keywords", "CreationDate", "ModDate")
_PLACEHOLDERS = ("(anonymous)", "(unspecified)", "anonymous", "untitled", "unknown")  # of PDF libraries
_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:([+\-])(\d\d)'?(\d\d)?|(Z))?")


def metadata_of(pdf: Any) -> dict[str, Any]:
    """Of a pypdfium2 document; what it does not say is empty."""
    found = {key: _entry(pdf, key) for key in _KEYS}
    authors = [name.strip() for name in re.split(r"[;\n]", found["Author"]) if name.strip()]
    return {
        "title": found["Title"],
        "authors": authors,
        "subject": found["Subject"],
        "keywords": found["Keywords"],
        "created": iso_date(found["CreationDate"]),
        "modified": iso_date(found["ModDate"]),
    }


def _entry(pdf: Any, key: str) -> str:
    import pypdfium2.raw as pdfium

    value = utf16(lambda *into: pdfium.FPDF_GetMetaText(pdf.raw, key.encode(), *into))
    return "" if value.lower() in _PLACEHOLDERS else value


def iso_date(text: str) -> str:
    """A PDF date ("D:20240103101500+01'00'", ISO 32000 7.9.4) in ISO 8601, as exact as it is; "" for any other text."""
    match = _DATE.match(text)
    if match is None:
        return ""
    year, month, day, hour, minute, second, sign, off_hours, off_minutes, zulu = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    if not (day and hour):
        return date
    zone = "+00:00" if zulu else f"{sign}{off_hours}:{off_minutes or '00'}" if sign else ""
    return f"{date}T{hour}:{minute or '00'}:{second or '00'}{zone}"
