"""Word documents (.docx), read from their XML.

Text stands in many places of WordprocessingML (text boxes, content controls, tracked insertions, footnotes) that the
usual libraries pass over, so this walks the tree itself: lxml without entities, DTDs or network, and only the parts
that hold text. Format: ECMA-376 part 1, chapter 17, transitional and strict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sourcebook import DocumentWriter, Parser, ParserFile, hookimpl
from sourcebook.errors import NoText
from sourcebook_plugins.docx.body import Body
from sourcebook_plugins.docx.styles import Numbering, Styles
from sourcebook_plugins.packages import Format, Package, PackageSettings

_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml"


_DOCX = Format("a Word document", "a Word 97 document (.doc)", ".docx", "word/document.xml")


class DocxSettings(PackageSettings):
    """See `PackageSettings`."""


class DocxParser(Parser[DocxSettings]):
    """Reads the body in order: headings, lists with their numbers, tables, footnotes, text boxes.

    Deleted revisions, hidden text, comments, headers and footers are left out. A locator is the path of headings and
    the number of the paragraph. Raises `Encrypted`, `Malformed`, `LimitExceeded` (before unpacking) and `NoText`.
    """

    name = "docx"
    Settings = DocxSettings
    media_types = (f"{_WORD}.document", f"{_WORD}.template", "application/vnd.ms-word.document.macroenabled.12")
    extensions = (".docx", ".docm", ".dotx")
    preload = ("lxml.etree", "zipfile")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        with file.open() as stream, Package(stream, self.settings, _DOCX) as package:
            main = package.main()
            found = package.properties()
            styles = Styles(package.related(main, "styles"))
            numbering = Numbering(package.related(main, "numbering"), styles)
            notes = {kind: package.related(main, f"{kind}s") for kind in ("footnote", "endnote")}
            body = Body(out, styles, numbering, notes)
            body.write(package.xml(main))
        if not body.paragraphs:
            raise NoText("The document holds no text.")
        out.meta(**{"title": body.title, **{name: value for name, value in found.items() if value}})


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """Word documents."""
    return [DocxParser]
