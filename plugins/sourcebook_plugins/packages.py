"""The zip around an Office document, an OpenDocument or an e-book: checked before it is unpacked, XML without entities.

Parts of Office documents are found by their relationships (ECMA-376 part 2, Open Packaging Conventions).
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, BinaryIO, Self
from urllib.parse import unquote

from pydantic import Field

from sourcebook import ComponentSettings
from sourcebook.errors import Encrypted, LimitExceeded, Malformed, UnsupportedType

Element = Any
"""An lxml element: lxml ships no types."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MAX_ENTRIES = 10_000
_MAX_RATIO, _RATIO_FROM = 200, 1024 * 1024
_STRICT, _TRANSITIONAL = b"http://purl.oclc.org/ooxml/", b"http://schemas.openxmlformats.org/"
# Strict and transitional differ in their namespaces, and in little else that a reader of text meets.
_NAMESPACES = tuple(
    (_STRICT + part + b"/" + name, _TRANSITIONAL + part + b"/2006/" + name)
    for part, name in (
        (b"wordprocessingml", b"main"),
        (b"presentationml", b"main"),
        (b"spreadsheetml", b"main"),
        (b"drawingml", b"main"),
        (b"drawingml", b"chart"),
        (b"officeDocument", b"math"),
        (b"officeDocument", b"relationships"),
    )
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


# What broken, patched or password-protected archives make zipfile raise.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, NotImplementedError)


class PackageSettings(ComponentSettings):
    """Bytes that the file may unpack to: together and per part."""

    max_unpacked: int = Field(default=512 * 1024 * 1024, ge=1)
    max_part: int = Field(default=128 * 1024 * 1024, ge=1)


@dataclass(frozen=True, slots=True)
class Format:
    """What a package should be: for messages (`name`, the `old` format's name and suffix), and where its body is."""

    name: str
    old: str = ""
    suffix: str = ""
    main: str = ""


class Package:
    """An open package. Raises `Encrypted`, `UnsupportedType`, `Malformed` or `LimitExceeded` when opened."""

    def __init__(self, stream: BinaryIO, settings: PackageSettings, wanted: Format) -> None:
        self._wanted = wanted
        head = stream.read(8)
        if head == _OLE:
            raise _not_a_zip(stream, wanted)
        stream.seek(0)
        try:
            self._zip = zipfile.ZipFile(stream)
        except DAMAGE as error:
            raise Malformed(f"This is not {wanted.name}: its zip archive is damaged.") from error
        self._names = {info.filename.lower().lstrip("/"): info for info in self._zip.infolist()}
        check_entries(self._zip.infolist(), settings.max_unpacked, settings.max_part)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._names

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def main(self) -> str:
        """The name of the part that holds the body."""
        target = self._target("", "officeDocument") or self._wanted.main
        if target not in self:
            raise Malformed(f"This is not {self._wanted.name}: it has no body.")
        return target

    def xml(self, name: str) -> Element:
        """The root of a part. Raises `Malformed`, and `LimitExceeded` where it is nested too deeply."""
        from lxml import etree

        data = self.read(name)
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
            if "Excessive depth" in str(error):
                raise LimitExceeded("The document's parts are nested too deeply.", code="nested_too_deeply") from error
            raise Malformed(f"The part {name} of the document is damaged.") from error
        if root is None:
            raise Malformed(f"The part {name} of the document is empty.")
        return root

    def related(self, part: str, kind: str) -> Element | None:
        """The root of the part that `part` names as its styles, numbering, footnotes...; None where it has none.

        A damaged side part costs its own content only.
        """
        target = self._target(part, kind)
        if not target or target not in self:
            return None
        try:
            return self.xml(target)
        except Malformed:
            return None

    def properties(self) -> dict[str, Any]:
        """The core properties under the names of our metadata; dates as they stand there, which is ISO 8601."""
        target = self._target("", "metadata/core-properties") or "docProps/core.xml"
        if target not in self:
            return {}
        try:
            root = self.xml(target)
        except Malformed:
            return {}
        found = {_PROPERTIES[e.tag]: (e.text or "").strip() for e in root if e.tag in _PROPERTIES}
        authors = [name.strip() for name in str(found.pop("authors", "")).split(";") if name.strip()]
        return {**found, "authors": authors}

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Relationship id -> (last part of its type, the part it points to), without what lies outside the package."""
        folder, name = posixpath.split(part)
        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        if rels not in self:
            return {}
        return {
            relation.get("Id", str(i)): (
                relation.get("Type", ""),
                posixpath.normpath(posixpath.join("/", folder, unquote(relation.get("Target", "")))).lstrip("/"),
            )
            for i, relation in enumerate(self.xml(rels))
            if relation.get("TargetMode") != "External"
        }

    def targets(self, part: str, kind: str) -> list[str]:
        """The parts that relationships of `part` ("" = the package) of this kind point to, where they exist."""
        found = self.relations(part).values()
        return [target for type_, target in found if type_.endswith("/" + kind) and target in self]

    def _target(self, part: str, kind: str) -> str:
        found = (target for type_, target in self.relations(part).values() if type_.endswith("/" + kind))
        return next(found, "")

    def read(self, name: str) -> bytes:
        """The bytes of a part, at most `max_part`. Raises `Malformed`."""
        try:
            return self._zip.read(self._names[name.lower()])
        except (KeyError, *DAMAGE) as error:
            raise Malformed(f"The part {name} of the document is damaged.") from error

    def open(self, name: str) -> IO[bytes]:
        """A part as a stream, for what is too large to hold whole. Reading from it may raise any of `DAMAGE`."""
        try:
            return self._zip.open(self._names[name.lower()])
        except (KeyError, *DAMAGE) as error:
            raise Malformed(f"The part {name} of the document is damaged.") from error


def _not_a_zip(stream: BinaryIO, wanted: Format) -> Encrypted | UnsupportedType:
    stream.seek(0)
    # The names of the streams inside stand in the container's directory, in UTF-16.
    if "EncryptedPackage".encode("utf-16-le") in stream.read():
        return Encrypted("The document is protected by a password.", remedy="Save it without a password and upload it.")
    return UnsupportedType(
        f"This is {wanted.old}." if wanted.old else f"This is not {wanted.name}.",
        remedy=f"Save it as {wanted.suffix} and upload it." if wanted.suffix else "",
    )


def check_entries(entries: list[zipfile.ZipInfo], max_unpacked: int, max_part: int) -> None:
    """Raise `LimitExceeded` by what the archive declares: Python unpacks no more of an entry than that."""
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
