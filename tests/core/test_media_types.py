"""What a file is, by its first bytes."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator

import pytest

from sourcebook.media_types import HEAD, is_specific, peeked, sniffed

OFFICE = "application/vnd.openxmlformats-officedocument"


def package(*names: str, mimetype: str = "") -> bytes:
    """A ZIP with members of these names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        if mimetype:
            file.writestr(zipfile.ZipInfo("mimetype"), mimetype)
        for name in names:
            file.writestr(name, f"<x>{name}</x>" * 50)
    return out.getvalue()


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"%PDF-1.7\n", "application/pdf"),
        (b"\n\njunk before\n%PDF-1.4", "application/pdf"),
        (b"{\\rtf1\\ansi", "application/rtf"),
        (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio/mp4"),
        (b"\x00" * 257 + b"ustar\x0000", "application/x-tar"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "application/x-ole-storage"),
        (package("[Content_Types].xml", "_rels/.rels", "word/document.xml"), f"{OFFICE}.wordprocessingml.document"),
        (package("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), f"{OFFICE}.spreadsheetml.sheet"),
        (package("[Content_Types].xml", "ppt/presentation.xml"), f"{OFFICE}.presentationml.presentation"),
        (package("OEBPS/a.xhtml", mimetype="application/epub+zip"), "application/epub+zip"),
        (
            package("content.xml", mimetype="application/vnd.oasis.opendocument.text"),
            "application/vnd.oasis.opendocument.text",
        ),
        (package("readme.txt", "word/not-office.txt"), "application/zip"),
        (b"<!-- by hand -->\n<!DOCTYPE html>\n<p>x", "text/html"),
        (b'<?xml version="1.0"?>\n<feed/>', "application/xml"),
        (b"From: a@example.org\r\nSubject: tides\r\n\r\nHello", "message/rfc822"),
        (b"From: me, with love\nand nothing else", "text/plain"),
        ("Grüße\n".encode(), "text/plain"),
        (b"", ""),
        (b" \n", ""),
        (b"\x00\x01\x02 no text", ""),
        (b"\xe4\xf6\xfc in Latin-1", ""),
    ],
)
def test_the_first_bytes_tell_the_type(head: bytes, media_type: str) -> None:
    assert sniffed(head) == media_type


def test_a_character_that_the_cut_divides_is_text_all_the_same() -> None:
    assert sniffed(("x" + "é" * HEAD).encode()[:HEAD]) == "text/plain"


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/zip", "application/octet-stream", "text/html"])
def test_what_only_holds_a_file_is_no_word_on_what_it_is(media_type: str) -> None:
    assert not is_specific(media_type)
    assert is_specific("application/pdf")


@pytest.mark.parametrize("sizes", [[], [3], [HEAD, HEAD, 5], [1000] * 100])
def test_peeking_loses_nothing(sizes: list[int]) -> None:
    pieces = [bytes([n % 256]) * size for n, size in enumerate(sizes)]

    async def upload() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def main() -> None:
        head, chunks = await peeked(upload())
        everything = b"".join([chunk async for chunk in chunks])
        assert everything == b"".join(pieces)
        assert everything.startswith(head)
        assert len(head) >= min(HEAD, len(everything))

    asyncio.run(main())
