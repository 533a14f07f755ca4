"""The zip around a Word document: checked before it is unpacked, its parts found by their relationships."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from types import TracebackType
from typing import Any, BinaryIO, Self

from sourcebook.errors import Encrypted, LimitExceeded, Malformed, UnsupportedType

Element = Any
"""An lxml element: lxml ships no types."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MAX_ENTRIES = 10_000
_MAX_RATIO, _RATIO_FROM = 200, 1024 * 1024
_STRICT, _TRANSITIONAL = b"http://purl.oclc.org/ooxml/", b"http://schemas.openxmlformats.org/"
# Strict and transitional differ in their namespaces, and in little else that a reader of text meets.
_NAMESPACES = (
    (_STRICT + b"wordprocessingml/main", _TRANSITIONAL + b"wordprocessingml/2006/main"),
    (_STRICT + b"officeDocument/math", _TRANSITIONAL + b"officeDocument/2006/math"),
    (_STRICT + b"officeDocument/relationships", _TRANSITIONAL + b"officeDocument/2006/relationships"),
)
_PROPERTIES = {
    "{http://purl.org/dc/elements/1.1/}title": "title",
    "{http://purl.org/dc/elements/1.1/}creator": "authors",
    "{http://purl.org/dc/elements/1.1/}subject": "subject",
    "{http://purl.org/dc/elements/1.1/}description": "description",
    "{http://purl.org/dc/elements/1.1/}language": "language",
    "{http://schemas.openxmlformats.org/package/2006/metadata/core-properties}keywords": "keywords",
    "{http://purl.org/dc/terms/}created": "created",
    "{http://purl.org/dc/terms/}modified": "modified",
}


class Package:
    """An open Office package. Raises `Encrypted`, `UnsupportedType`, `Malformed` or `LimitExceeded` when opened."""

    def __init__(self, stream: BinaryIO, max_unpacked: int, max_part: int) -> None:
        head = stream.read(8)
        if head == _OLE:
            raise _not_a_zip(stream)
        stream.seek(0)
        try:
            self._zip = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise Malformed("This is not a Word document: its zip archive is damaged.") from error
        self._names = {info.filename.lower().lstrip("/"): info for info in self._zip.infolist()}
        _check_sizes(self._zip.infolist(), max_unpacked, max_part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def main(self) -> str:
        """The name of the part that holds the body."""
        target = self._target("", "officeDocument") or "word/document.xml"
        if target.lower() not in self._names:
            raise Malformed("This is not a Word document: it has no body.")
        return target

    def xml(self, name: str) -> Element:
        """The root of a part. Raises `Malformed`."""
        from lxml import etree

        data = self._read(name)
        for strict, transitional in _NAMESPACES:
            data = data.replace(strict, transitional)
        reader = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        try:
            root = etree.fromstring(data, reader)
        except (etree.XMLSyntaxError, ValueError) as error:
            raise Malformed(f"The part {name} of the document is damaged.") from error
        if root is None:
            raise Malformed(f"The part {name} of the document is empty.")
        return root

    def related(self, part: str, kind: str) -> Element | None:
        """The root of the part that `part` names as its styles, numbering, footnotes...; None where it has none.

        A damaged side part costs its own content only.
        """
        target = self._target(part, kind)
        if not target or target.lower() not in self._names:
            return None
        try:
            return self.xml(target)
        except Malformed:
            return None

    def properties(self) -> dict[str, Any]:
        """The core properties under the names of our metadata; dates as they stand there, which is ISO 8601."""
        target = self._target("", "metadata/core-properties") or "docProps/core.xml"
        if target.lower() not in self._names:
            return {}
        try:
            root = self.xml(target)
        except Malformed:
            return {}
        found = {_PROPERTIES[e.tag]: (e.text or "").strip() for e in root if e.tag in _PROPERTIES}
        authors = [name.strip() for name in str(found.pop("authors", "")).split(";") if name.strip()]
        return {**found, "authors": authors}

    def _target(self, part: str, kind: str) -> str:
        """The part that a relationship of `part` ("" = the package) of this kind points to."""
        folder, name = posixpath.split(part)
        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        if rels.lower() not in self._names:
            return ""
        for relation in self.xml(rels):
            if relation.get("Type", "").endswith("/" + kind) and relation.get("TargetMode") != "External":
                return posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
        return ""

    def _read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._names[name.lower()])
        # A truncated or patched archive, a password on an entry, an unknown compression.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
            raise Malformed(f"The part {name} of the document is damaged.") from error


def _not_a_zip(stream: BinaryIO) -> Encrypted | UnsupportedType:
    stream.seek(0)
    # The names of the streams inside stand in the container's directory, in UTF-16.
    if "EncryptedPackage".encode("utf-16-le") in stream.read():
        return Encrypted("The document is protected by a password.", remedy="Save it without a password and upload it.")
    return UnsupportedType("This is a Word 97 document (.doc).", remedy="Save it as .docx and upload it.")


def _check_sizes(entries: list[zipfile.ZipInfo], max_unpacked: int, max_part: int) -> None:
    """By what the archive declares: Python unpacks no more of an entry than that."""
    if len(entries) > _MAX_ENTRIES:
        raise LimitExceeded(f"The file holds {len(entries):,} parts.", code="too_many_members", limit=_MAX_ENTRIES)
    if (total := sum(entry.file_size for entry in entries)) > max_unpacked:
        raise _too_large(f"The file unpacks to {total:,} bytes.", max_unpacked)
    for entry in entries:
        if entry.file_size > max_part:
            raise _too_large(f"A part of the file unpacks to {entry.file_size:,} bytes.", max_part)
        if entry.file_size > _RATIO_FROM and entry.file_size > _MAX_RATIO * max(entry.compress_size, 1):
            raise _too_large("A part of the file is packed over 200 to 1, as a zip bomb is.", _MAX_RATIO)


def _too_large(detail: str, limit: int) -> LimitExceeded:
    return LimitExceeded(detail, code="too_large_unpacked", limit=limit)
