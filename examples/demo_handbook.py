"""The demo PDF: the handbook of a harbour that does not exist. `build_demo_documents.py` writes it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from demo_handbook_text import (
    ASK,
    COLUMNS,
    COMING_IN,
    DUES,
    FLEET,
    FLOOD,
    FOOTNOTES,
    GATE,
    GAUGE,
    GLANCE,
    GOING_OUT,
    HARBOUR,
    LIGHTS,
    MONTHS,
    STAGES,
    TIDES,
    WORDS,
    YEAR,
)
from fpdf import FPDF, FontFace
from fpdf.enums import Align, TableBordersLayout, XPos, YPos

ISSUED = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
NAVY, TEAL, GREY, PALE = (22, 50, 79), (20, 120, 128), (96, 104, 112), (232, 241, 243)
MARGIN = 22.0  # millimetres


class Handbook(FPDF):
    """An A4 booklet in the PDF core fonts."""

    def __init__(self) -> None:
        super().__init__(format="A4")
        self.core_fonts_encoding = "windows-1252"  # the fonts' own encoding: dashes and quotation marks
        self.set_creation_date(ISSUED)
        self.set_title("Tolvane Harbour Handbook")
        self.set_author("Tolvane Harbour Trust")
        self.set_subject("Tides, lights and dues")
        self.set_lang("en-GB")
        self.set_margins(MARGIN, MARGIN, MARGIN)
        self.set_auto_page_break(True, 24)

    def header(self) -> None:
        if self.page_no() > 1:
            self.set_font("Helvetica", "", 8.5)
            self.set_text_color(*GREY)
            self.set_y(12)
            self.cell(0, 4, "Tolvane Harbour Handbook", align="L")
            self.set_draw_color(*GREY)
            self.set_line_width(0.15)
            self.line(MARGIN, 17, self.w - MARGIN, 17)
            self.set_y(MARGIN + 1)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", "", 8.5)
        self.set_text_color(*GREY)
        self.cell(0, 4, str(self.page_no()), align="C")

    def heading(self, text: str, level: int = 1) -> None:
        """A heading with its bookmark."""
        self.ln(2 if level == 1 else 1)
        self.start_section(text, level - 1)
        self.set_font("Helvetica", "B", 16 if level == 1 else 11.5)
        self.set_text_color(*(NAVY if level == 1 else TEAL))
        self.multi_cell(0, 8 if level == 1 else 6, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1)

    def body(self) -> None:
        """The font of the running text."""
        self.set_font("Times", "", 11.5)
        self.set_text_color(25, 25, 25)

    def paragraphs(self, text: str) -> None:
        """Running text."""
        self.body()
        for paragraph in text.split("\n\n"):
            self.multi_cell(0, 5.6, paragraph, align="J", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
            self.ln(2)

    def caption(self, text: str) -> None:
        """A figure's or a table's caption."""
        self.set_font("Helvetica", "I", 9)
        self.set_text_color(*GREY)
        self.multi_cell(0, 4.6, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(2)

    def footnotes(self) -> None:
        """At the foot of the page, under a short rule."""
        self.set_y(-37)
        self.set_draw_color(*GREY)
        self.line(MARGIN, self.get_y(), MARGIN + 40, self.get_y())
        self.ln(2)
        self.set_font("Times", "", 9)
        self.set_text_color(50, 50, 50)
        for note in FOOTNOTES:
            self.multi_cell(0, 4.3, note, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def title_page(pdf: Handbook) -> None:
    """The title, the box of what one needs at once, and the first section."""
    pdf.add_page()
    pdf.set_fill_color(*NAVY)
    pdf.rect(0, 0, pdf.w, 62, style="F")
    pdf.set_y(22)
    pdf.set_text_color(255, 255, 255)
    pdf.set_font("Helvetica", "B", 27)
    pdf.cell(0, 12, "Tolvane Harbour Handbook", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font("Helvetica", "", 12)
    pdf.cell(0, 7, "Tides, lights and dues for all who come in over the sill", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font("Helvetica", "", 9.5)
    pdf.cell(0, 7, "Edition of 2026, issued by the Tolvane Harbour Trust", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_fill_color(*PALE)
    pdf.rect(MARGIN, 70, pdf.w - 2 * MARGIN, 6.4 * len(GLANCE) + 8, style="F")
    pdf.set_y(74)
    for name, value in GLANCE:
        pdf.set_x(MARGIN + 5)
        pdf.set_text_color(*TEAL)
        pdf.set_font("Helvetica", "B", 9.5)
        pdf.cell(46, 6.4, name)
        pdf.set_text_color(25, 25, 25)
        pdf.set_font("Helvetica", "", 9.5)
        pdf.cell(0, 6.4, value, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(9)
    pdf.heading("1 The harbour")
    pdf.paragraphs(HARBOUR)
    pdf.heading("1.1 Coming in", 2)
    pdf.paragraphs(COMING_IN)
    pdf.heading("1.2 Going out", 2)
    pdf.paragraphs(GOING_OUT)


def tide_curves(pdf: Handbook, top: float) -> None:
    """Figure 1: springs and neaps over thirteen hours, and the top of the gate. 48 mm high."""
    left, width, height = MARGIN + 10, pdf.w - 2 * MARGIN - 22, 40.0
    pdf.set_font("Helvetica", "", 8)
    pdf.set_text_color(*GREY)
    pdf.set_line_width(0.1)

    def y(metres: float) -> float:
        return top + height * (1 - metres / 8)

    for metres in range(0, 9, 2):
        pdf.set_draw_color(205, 210, 214)
        pdf.line(left, y(metres), left + width, y(metres))
        pdf.text(left - 9, y(metres) + 1, f"{metres} m")
    for hours in range(-6, 7, 2):
        x = left + width * (hours + 6.5) / 13
        pdf.text(x - 4, top + height + 4.5, f"{hours:+} h" if hours else "high")
    for label, mean, half, colour in (("springs", 3.9, 2.7, NAVY), ("neaps", 3.95, 1.15, TEAL)):
        pdf.set_draw_color(*colour)
        pdf.set_line_width(0.5)
        hours_of = [i / 10 for i in range(-65, 66)]
        points = [(left + width * (t + 6.5) / 13, y(mean + half * math.cos(math.pi * t / 6.2))) for t in hours_of]
        pdf.polyline(points)
        pdf.set_text_color(*colour)
        hour, aside, above = (2.1, 3.0, 0.0) if label == "springs" else (-4.6, -8.0, 1.6)
        across, height_then = left + width * (hour + 6.5) / 13, mean + half * math.cos(math.pi * hour / 6.2)
        pdf.text(across + aside, y(height_then) - above, label)
    pdf.set_draw_color(150, 60, 40)
    pdf.set_line_width(0.3)
    pdf.set_dash_pattern(dash=2, gap=1.2)
    pdf.line(left, y(4.6), left + width, y(4.6))
    pdf.set_dash_pattern()
    pdf.set_text_color(150, 60, 40)
    pdf.text(left + width + 1, y(4.6) + 1, "gate")


def tides_page(pdf: Handbook) -> None:
    """Section 2 with its figure and its footnotes."""
    pdf.add_page()
    pdf.heading("2 Tides")
    pdf.heading("2.1 High water and low water", 2)
    pdf.paragraphs(TIDES)
    tide_curves(pdf, pdf.get_y() + 3)
    pdf.set_y(pdf.get_y() + 52)
    pdf.caption(
        "Figure 1. The height of the tide above chart datum on a mean spring day and on a mean neap day, by hours from "
        "high water. The dashed line is the top of the shut gate."
    )
    pdf.heading("2.2 The gauge", 2)
    pdf.paragraphs(GAUGE)
    pdf.heading("2.3 The hours of the gate", 2)
    pdf.paragraphs(GATE)
    pdf.footnotes()


def lights_page(pdf: Handbook) -> None:
    """Section 3 in two columns."""
    pdf.add_page()
    pdf.heading("3 Lights and signals")
    pdf.body()
    with pdf.text_columns(ncols=2, gutter=9, text_align="J", line_height=1.22) as columns:
        for title, text in LIGHTS:
            pdf.set_font("Helvetica", "B", 11.5)
            pdf.set_text_color(*TEAL)
            with columns.paragraph(text_align=Align.L, top_margin=2, bottom_margin=1) as heading:
                heading.write(title)
            pdf.body()
            for part in text.split("\n\n"):
                with columns.paragraph(bottom_margin=1.6) as paragraph:
                    paragraph.write(part)


def year_page(pdf: Handbook) -> None:
    """Section 4: the table, and the dues."""
    pdf.add_page()
    pdf.heading("4 The year in figures")
    pdf.paragraphs(YEAR)
    pdf.caption("Table 1. Tides, sea and traffic at Tolvane in 2025, month by month.")
    pdf.set_font("Helvetica", "", 9.5)
    pdf.set_text_color(25, 25, 25)
    pdf.set_draw_color(190, 198, 204)
    pdf.set_fill_color(255, 255, 255)
    pdf.set_line_width(0.15)
    shape: dict[str, Any] = {
        "borders_layout": TableBordersLayout.HORIZONTAL_LINES,
        "headings_style": FontFace(emphasis="BOLD", size_pt=8, color=(255, 255, 255), fill_color=NAVY),
        "cell_fill_color": PALE,
        "cell_fill_mode": "EVEN_ROWS",
        "col_widths": (24, 27, 27, 33, 28, 27),
        "text_align": ("LEFT", "RIGHT", "RIGHT", "RIGHT", "RIGHT", "RIGHT"),
        "line_height": 5.8,
        "padding": (0.9, 2),
    }
    boats = sum(month[5] for month in MONTHS)
    warmth = sum(month[3] for month in MONTHS) / len(MONTHS)
    year = ("Whole year", "7.3", "0.2", f"{warmth:.1f}", str(sum(month[4] for month in MONTHS)), f"{boats:,}")
    with pdf.table(**shape) as table:
        for row in (COLUMNS, *MONTHS, year):
            table.row([str(cell) for cell in row])
    pdf.ln(5)
    pdf.heading("4.1 Dues", 2)
    pdf.paragraphs(DUES)
    pdf.heading("4.2 The fleet", 2)
    pdf.paragraphs(FLEET)


def last_page(pdf: Handbook) -> None:
    """Section 5, the words and the telephone numbers."""
    pdf.add_page()
    pdf.heading("5 The flood of 1962")
    pdf.paragraphs(FLOOD)
    pdf.heading("5.1 The three stages", 2)
    pdf.paragraphs(STAGES)
    pdf.heading("6 Words used in this book")
    for word, meaning in WORDS:
        pdf.body()
        pdf.multi_cell(0, 5.6, f"**{word}:** {meaning}", markdown=True, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        pdf.ln(0.8)
    pdf.heading("7 Whom to ask")
    for name, number, matter in ASK:
        pdf.set_font("Times", "B", 11.5)
        pdf.set_text_color(25, 25, 25)
        pdf.cell(46, 6.5, name)
        pdf.set_font("Times", "", 11.5)
        pdf.cell(34, 6.5, number)
        pdf.cell(0, 6.5, matter, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def handbook() -> bytes:
    """The PDF."""
    pdf = Handbook()
    for page in (title_page, tides_page, lights_page, year_page, last_page):
        page(pdf)
    return bytes(pdf.output())
