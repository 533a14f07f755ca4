"""E-books (.epub): the chapters of the spine in order, each an XHTML page. Format: EPUB 3.3 and 2.0.1 (OPF, OCF).

EbookLib is under the AGPL, so the package document is read here: two small XML files say where the chapters are.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from sourcebook import DocumentWriter, Parser, ParserFile, hookimpl
from sourcebook.errors import Encrypted, Malformed, NoText
from sourcebook_plugins.hypertext import declared_encoding
from sourcebook_plugins.markup import Markup, parse_html
from sourcebook_plugins.packages import Element, Format, Package, PackageSettings
from sourcebook_plugins.text import decode

_EPUB = Format("an e-book")
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_OCF = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_NAMES = {"title": "title", "creator": "authors", "language": "language", "date": "created", "publisher": "publisher"}
_NAMES |= {"description": "description", "subject": "keywords", "identifier": "identifier", "rights": "rights"}
_LISTS = ("authors", "keywords")
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # obfuscation of fonts, no secret


class EpubSettings(PackageSettings):
    """See `PackageSettings`."""


class EpubParser(Parser[EpubSettings]):
    """Reads the chapters in the order of the spine. A locator is the chapter, the path of headings and the block.

    Raises `Encrypted` for a book with DRM, `Malformed`, `LimitExceeded` and `NoText`.
    """

    name = "epub"
    Settings = EpubSettings
    media_types = ("application/epub+zip",)
    extensions = (".epub",)
    preload = ("lxml.etree", "zipfile", "selectolax.lexbor", "sourcebook_plugins.markup")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        with file.open() as stream, Package(stream, self.settings, _EPUB) as package:
            _refuse_locked(package)
            name = _package_document(package)
            book = package.xml(name)
            out.meta(**_metadata(book))
            written = 0
            for chapter in _chapters(book, posixpath.dirname(name)):
                if chapter not in package:
                    out.warn("chapter_missing", f"The chapter {chapter} is not in the file.")
                    continue
                written += _write(package, chapter, out)
        if not written:
            raise NoText("The book holds no text.")


def _write(package: Package, name: str, out: DocumentWriter) -> int:
    """Write a chapter; how many blocks it has."""
    data = package.read(name)
    if not data.strip():
        return 0
    try:
        tree = parse_html(decode(data, out, declared_encoding(data)))
    except (Malformed, NoText):
        out.warn("chapter_damaged", f"The chapter {name} is damaged and was left out.")
        return 0
    # A chapter is called by its first heading, else by its title, which is the book's in many books.
    heading = tree.css_first("h1, h2, h3")
    title = heading if heading is not None else tree.css_first("title")
    label = " ".join((title.text() or "").split()) if title is not None else ""
    markup = Markup(out, {"chapter": label[:200] or posixpath.basename(name)})
    if tree.body is not None:
        markup.write(tree.body)
    return markup.number


def _refuse_locked(package: Package) -> None:
    """Raise `Encrypted` where more than fonts is encrypted."""
    if "META-INF/encryption.xml" not in package:
        return
    methods = [e.get("Algorithm", "") for e in package.xml("META-INF/encryption.xml").iter("{*}EncryptionMethod")]
    if any(method not in _FONTS for method in methods):
        raise Encrypted("The book is protected against copying (DRM).", remedy="Upload a copy without protection.")


def _package_document(package: Package) -> str:
    if "META-INF/container.xml" in package:
        for root in package.xml("META-INF/container.xml").iter(_OCF + "rootfile"):
            path = posixpath.normpath(unquote(root.get("full-path", ""))).lstrip("/")
            if path in package:
                return path
    raise Malformed("This is not an e-book: it names no package document.")


def _metadata(book: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for element in book.iter(*(_DC + name for name in _NAMES)):
        name, text = _NAMES[element.tag.removeprefix(_DC)], " ".join((element.text or "").split())
        if not text:
            continue
        if name in _LISTS:
            found.setdefault(name, []).append(text)
        else:
            found.setdefault(name, text)
    for meta in book.iter(_OPF + "meta"):
        if meta.get("property") == "dcterms:modified" and meta.text:
            found["modified"] = meta.text.strip()
    return found


def _chapters(book: Element, folder: str) -> list[str]:
    """The parts of the spine, in reading order, without its navigation page."""
    items = {e.get("id", ""): e for e in book.iter(_OPF + "item")}
    found: list[str] = []
    for ref in book.iter(_OPF + "itemref"):
        item = items.get(ref.get("idref", ""))
        if item is None or "nav" in (item.get("properties") or "").split():
            continue
        if (item.get("media-type") or _PAGES[0]) in _PAGES:
            found.append(posixpath.normpath(posixpath.join("/", folder, unquote(item.get("href", "")))).lstrip("/"))
    return found


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """E-books."""
    return [EpubParser]
