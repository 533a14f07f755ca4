"""What a file is, told from its first bytes: names and browsers are often wrong.

The signatures are those of the formats' own specifications. A ZIP is told apart by the names of its first members,
which stand in the open in its local headers (APPNOTE.TXT 4.3.7), so that nothing is inflated here.
"""

from __future__ import annotations

import codecs
import mimetypes
import re
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

HEAD = 64 * 1024
"""Bytes from the start of a file that `sniffed` looks at."""

_OFFICE = "application/vnd.openxmlformats-officedocument"
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "application/pdf"),
    (b"{\\rtf", "application/rtf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"(\xb5/\xfd", "application/zstd"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
)
# The part that makes a package what it is.
_PARTS: tuple[tuple[bytes, str], ...] = (
    (b"word/", f"{_OFFICE}.wordprocessingml.document"),
    (b"xl/", f"{_OFFICE}.spreadsheetml.sheet"),
    (b"ppt/", f"{_OFFICE}.presentationml.presentation"),
)
_MIMETYPE = re.compile(rb"^PK\x03\x04.{26}mimetype(application/[a-z0-9.+-]{3,80})", re.DOTALL)
_MEMBER = re.compile(rb"PK\x03\x04.{22}(..)(..)", re.DOTALL)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_HTML = re.compile(
    rb"^\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.DOTALL | re.I
)
_MAIL = re.compile(
    rb"^(?:(?:From|To|Received|Return-Path|Delivered-To|Date|Subject|Message-ID|MIME-Version):[^\n]*\n"
    rb"(?:[ \t][^\n]*\n)*){2}",
    re.IGNORECASE,
)

# A hint of what holds the file, not of what it is: many formats are a ZIP or an OLE storage, and all text is text.
_VAGUE = {
    "",
    "application/octet-stream",
    "application/zip",
    "application/gzip",
    "application/x-ole-storage",
    "application/xml",
    "message/rfc822",
    "text/html",
    "text/plain",
}


# What `mimetypes` knows on some systems only, or by another name.
_KNOWN_TYPES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/x-ndjson",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".epub": "application/epub+zip",
    ".eml": "message/rfc822",
    ".xhtml": "application/xhtml+xml",
    ".zip": "application/zip",
    ".heic": "image/heic",
    ".m4a": "audio/mp4",
    ".mkv": "video/x-matroska",
}


def media_type_of(name: str) -> str:
    """From the extension; `application/octet-stream` where it says nothing."""
    extension = PurePosixPath(name.lower()).suffix
    return _KNOWN_TYPES.get(extension) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def sniffed(head: bytes) -> str:
    """The media type that the first bytes tell of (`HEAD` of them are enough), or an empty string."""
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return media_type
    if b"%PDF-" in head[:1024]:  # what readers accept: ISO 32000-1, annex H, note 13
        return "application/pdf"
    if head.startswith(b"PK\x03\x04"):
        return _package(head)
    if head.startswith(b"RIFF") and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:11] == b"M4A" else "video/mp4"
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return _text(head)


def is_specific(media_type: str) -> bool:
    """Whether a sniffed type says what the file is, against whatever its name says."""
    return media_type not in _VAGUE


async def peeked(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first bytes of an upload, as many as `sniffed` wants, and an iterator over all of them."""
    first: list[bytes] = []
    while sum(map(len, first)) < HEAD and (chunk := await anext(chunks, None)) is not None:
        first.append(chunk)

    async def again() -> AsyncIterator[bytes]:
        for chunk in first:
            yield chunk
        async for chunk in chunks:
            yield chunk

    return b"".join(first), again()


def _package(head: bytes) -> str:
    if named := _MIMETYPE.match(head):  # EPUB (OCF 3.3, 4.3) and OpenDocument (part 2, 3.3) name it first, unpacked
        return named[1].decode("ascii")
    names = [_name_at(head, found) for found in _MEMBER.finditer(head)]
    if b"[Content_Types].xml" in names:
        for prefix, media_type in _PARTS:
            if any(name.startswith(prefix) for name in names):
                return media_type
    return "application/zip"


def _name_at(head: bytes, found: re.Match[bytes]) -> bytes:
    return head[found.end() : found.end() + int.from_bytes(found[1], "little")]


def _text(head: bytes) -> str:
    head = head.removeprefix(b"\xef\xbb\xbf")
    if b"\x00" in head[:1024]:
        return ""
    if _HTML.match(head[:4096]):
        return "text/html"
    if head.lstrip().startswith(b"<?xml"):
        return "application/xml"
    if _MAIL.match(head[:8192].replace(b"\r\n", b"\n")):
        return "message/rfc822"
    try:
        # Not the last word on the last character: the cut may divide it.
        return "text/plain" if codecs.getincrementaldecoder("utf-8")().decode(head).strip() else ""
    except UnicodeDecodeError:
        return ""
