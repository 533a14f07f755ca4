"""A page of a PDF as it is read, without pypdfium2's own object: to make and close one takes as long as a few lines."""

from __future__ import annotations

from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from sourcebook_plugins.pdf.lines import View


class LoadedPage:
    """Page `index` of a pypdfium2 document, from 0, to be closed. Raises `PdfiumError` for one that is damaged.

    `raw` and `form` are pdfium's handles of the page and of the document's form; `form` is None where it has none.
    """

    __slots__ = ("form", "raw")

    def __init__(self, pdf: Any, index: int) -> None:
        self.raw = pdfium.FPDF_LoadPage(pdf.raw, index)
        if not self.raw:
            raise pypdfium2.PdfiumError("The page cannot be loaded.")
        self.form = pdf.formenv.raw if pdf.formenv is not None else None
        if self.form is not None:
            pdfium.FORM_OnAfterLoadPage(self.raw, self.form)

    def close(self) -> None:
        """Once."""
        if self.form is not None:
            pdfium.FORM_OnBeforeClosePage(self.raw, self.form)
        pdfium.FPDF_ClosePage(self.raw)

    def height(self) -> float:
        """In points, as shown."""
        return float(pdfium.FPDF_GetPageHeightF(self.raw))

    def view(self) -> View:
        """How it is shown. Raises `PdfiumError`."""
        box = pdfium.FS_RECTF()
        quarters = pdfium.FPDFPage_GetRotation(self.raw)
        if quarters < 0 or not pdfium.FPDF_GetPageBoundingBox(self.raw, box):
            raise pypdfium2.PdfiumError("The page has no bounds.")
        return View(box.left, box.bottom, box.right, box.top, 90 * quarters)
