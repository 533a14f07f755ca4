"""PDF through pdfium: text in reading order, a page and a box for every line, headings and simple tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, hookimpl
from sourcebook.documents import Box
from sourcebook.errors import DocumentError, Encrypted, LimitExceeded, Malformed, NoText

if TYPE_CHECKING:
    from sourcebook_plugins.pdf.lines import Line
    from sourcebook_plugins.pdf.scanned import Recogniser
    from sourcebook_plugins.pdf.writing import Page

_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_MOST_ATTACHMENTS, _ATTACHMENT_BYTES = 100, 64 * 1024 * 1024


class PdfSettings(ComponentSettings):
    """`max_pages`: a longer file is refused. `attachments`: whether embedded files become sources of their own.

    `running`: whether running headers, footers and page numbers are read too. `annotations`: whether notes, text that
    was written onto a page and the values of form fields are. `ocr`: whether pages whose text layer is
    missing or poor are read from their picture, where the extra `ocr` is installed; at most `max_ocr_pages` of a file.
    """

    max_pages: int = Field(default=5000, ge=1)
    attachments: bool = True
    running: bool = False
    annotations: bool = True
    ocr: bool = True
    max_ocr_pages: int = Field(default=100, ge=0)


class PdfParser(Parser[PdfSettings]):
    """Reads the text layer of a PDF. A locator is a line: its page and its box.

    A page without text gives a warning, a file without any is `NoText`; `Encrypted` without the right password,
    `Malformed` when pdfium cannot open it, `LimitExceeded` over `max_pages`.
    """

    name = "pdf"
    Settings = PdfSettings
    media_types = ("application/pdf", "application/x-pdf")
    extensions = (".pdf",)
    preload = (
        "pypdfium2",
        "pypdfium2.raw",
        "sourcebook_plugins.pdf.annotations",
        "sourcebook_plugins.pdf.lines",
        "sourcebook_plugins.pdf.loaded",
        "sourcebook_plugins.pdf.metadata",
        "sourcebook_plugins.pdf.scanned",
        "sourcebook_plugins.pdf.writing",
        "sourcebook_plugins.pdf.warm",
    )

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        from sourcebook_plugins.pdf.metadata import metadata_of
        from sourcebook_plugins.pdf.scanned import installed
        from sourcebook_plugins.pdf.writing import write_pages

        with _opened(file) as pdf:
            if len(pdf) > self.settings.max_pages:
                raise LimitExceeded(
                    f"The file has {len(pdf):,} pages.", code="too_many_pages", limit=self.settings.max_pages
                )
            out.meta(pages=len(pdf), **metadata_of(pdf))
            tally = _Tally(self.settings.max_ocr_pages if self.settings.ocr and installed() else 0)
            pages = _pages(pdf, out, tally, annotations=self.settings.annotations)
            write_pages(out, pages, running=self.settings.running)
            if self.settings.attachments:
                _attachments(pdf, out)
            if tally.written:
                return
            if tally.damaged == len(pdf):
                raise Malformed("None of the file's pages can be read.")
        if tally.failed:
            raise NoText(
                f"The file holds images of pages, and OCR failed: {tally.failed}",
                code="no_text_layer",
                remedy="Give the jail more memory and time, or run the file through OCR and upload the result.",
            )
        raise NoText(
            "The file holds images of pages and no text.",
            code="no_text_layer",
            remedy="Run it through OCR and upload the result, or install sourcebook[ocr].",
        )

    def render(self, file: ParserFile, page: int, boxes: Sequence[Box]) -> bytes:
        """See `Parser.render`. Raises `DocumentError` with code `page_not_found` for a page that is not there."""
        import pypdfium2

        from sourcebook_plugins.pdf.drawing import draw

        with _opened(file) as pdf:
            if not 1 <= page <= len(pdf):
                raise DocumentError(f"The file has {len(pdf)} pages, and no page {page}.", code="page_not_found")
            try:
                shown = pdf[page - 1]
            except pypdfium2.PdfiumError as error:
                raise Malformed(f"Page {page} is damaged.") from error
            return draw(shown, boxes)


@contextmanager
def _opened(file: ParserFile) -> Iterator[Any]:
    """The file as a pypdfium2 document."""
    import pypdfium2

    data = file.read()
    if not data:
        raise Malformed("The file is empty.")
    try:
        pdf = pypdfium2.PdfDocument(data, password=file.password)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _PASSWORD_ERROR:
            wrong = "The password is wrong." if file.password else "The file is protected by a password."
            raise Encrypted(wrong, remedy="Give the password with the file.") from error
        raise Malformed("This is not a PDF, or it is damaged.") from error
    try:
        with suppress(pypdfium2.PdfiumError):
            pdf.init_forms()  # before any page is loaded: else fields have no values, and are not drawn
        yield pdf
    finally:
        pdf.close()


@dataclass
class _Tally:
    """How many pages may yet be read by OCR, how many hold text, and how many are damaged."""

    ocr: int
    failed: str = ""  # what the engine last said when it could not
    written: int = 0
    damaged: int = 0


def _pages(pdf: Any, out: DocumentWriter, tally: _Tally, *, annotations: bool) -> Iterator[Page]:
    """Every page that holds text; warns of those that are damaged, and of those that hold none."""
    import pypdfium2

    from sourcebook_plugins.pdf.annotations import Note, annotated
    from sourcebook_plugins.pdf.lines import lines_of
    from sourcebook_plugins.pdf.loaded import LoadedPage
    from sourcebook_plugins.pdf.scanned import Recogniser
    from sourcebook_plugins.pdf.writing import Page

    engine = Recogniser()
    for number in range(1, len(pdf) + 1):
        lines, height = None, 0.0
        notes: list[Note] = []
        with suppress(pypdfium2.PdfiumError), closing(LoadedPage(pdf, number - 1)) as page:
            lines, height = lines_of(page), page.height()
            if tally.ocr:
                lines = _recognised(engine, pdf, number, lines, out, tally)
            if annotations:
                lines, notes = annotated(page, lines)
        if lines is None:
            tally.damaged += 1
            out.warn("page_damaged", f"Page {number} is damaged and was left out.")
        elif not lines and not notes:
            out.warn("page_without_text", f"Page {number} holds no text.")
        else:
            tally.written += 1
            yield Page(number, lines, height, notes)


def _recognised(
    engine: Recogniser, pdf: Any, number: int, drawn: list[Line], out: DocumentWriter, tally: _Tally
) -> list[Line]:
    """The page's lines from its picture where its text layer is missing or poor, else those that were drawn."""
    from sourcebook_plugins.pdf.scanned import is_pictured, is_unreadable, says_little

    little = says_little(drawn)
    if not little and not is_unreadable(drawn):
        return drawn
    with closing(pdf[number - 1]) as page:
        if little and not is_pictured(page):
            return drawn
        tally.ocr -= 1
        try:
            found = engine.lines_of(page)
        except Exception as error:  # the engine's own: one page is lost, and not the file
            tally.failed = (str(error).strip().splitlines() or [""])[-1][-200:] or type(error).__name__
            out.warn("ocr_failed", f"Page {number} could not be read by OCR: {tally.failed}")
            return drawn
    if not found:
        return drawn
    out.warn("page_recognised", f"Page {number} is a picture; its text was recognised (OCR) and may have errors.")
    return found


def _attachments(pdf: Any, out: DocumentWriter) -> None:
    import pypdfium2

    size = 0
    for index in range(min(pdf.count_attachments(), _MOST_ATTACHMENTS)):
        try:
            attachment = pdf.get_attachment(index)
            name, data = attachment.get_name(), bytes(attachment.get_data())
        except pypdfium2.PdfiumError:
            continue  # named, and not embedded
        size += len(data)
        if size > _ATTACHMENT_BYTES:
            out.warn("attachments_left_out", f"The files attached from {name} on are too large.")
            return
        out.member(name or f"attachment {index + 1}", data)


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """PDF."""
    return [PdfParser]
