"""The demo DOCX: the standing orders of the watch of an invented harbour. `build_demo_documents.py` writes it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import Any

import docx
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt, RGBColor

ISSUED = datetime(2026, 1, 5, 9, 0)  # the format's dates have no zone
NAVY, TEAL = RGBColor(22, 50, 79), RGBColor(20, 120, 128)

Part = tuple[str, Any]
"""A style and what is set in it: a text, a list's items, or a table's rows (the first is the header)."""

ORDERS: tuple[Part, ...] = (
    ("Title", "Standing Orders of the Harbour Watch"),
    ("Subtitle", "Tolvane Harbour Trust. In force from 1 February 2026."),
    (
        "Normal",
        "These orders bind everyone who stands a watch at Tolvane. They say what is done every day, what is done when "
        "the sea rises, and where things are. Whoever finds one of them wrong or impossible writes it into the log "
        "and tells the harbour master, Ines Carrow, or her deputy, Tobias Lane, on the same day.",
    ),
    ("Heading 1", "1 The watch"),
    ("Heading 2", "1.1 Who stands it"),
    (
        "Normal",
        "The watch has nine officers and four learners. A learner stands forty watches beside an officer before "
        "taking the examination, which is held in April and in November. No one stands two watches in a row, and no "
        "one stands the night watch more than three times in a week.",
    ),
    (
        "Normal",
        "One officer is always in the watch room on the Old Quay, from where the gate, the entrance and the gauge "
        "can be seen. The second officer of a watch, where there is one, goes the rounds.",
    ),
    ("Heading 2", "1.2 Hours and rounds"),
    (
        "Normal",
        "The day has three watches. A round leads along both piers and about the basin, takes thirty-five minutes, "
        "and is signed at the four tag boards.",
    ),
    (
        "Table",
        (
            ("Watch", "Hours", "Officers", "Rounds", "Who relieves it"),
            ("Morning watch", "06:00 to 14:00", "2", "3", "Tobias Lane’s section"),
            ("Afternoon watch", "14:00 to 22:00", "2", "4", "Miriam Stroud’s section"),
            ("Night watch", "22:00 to 06:00", "1", "2", "Paul Ansty’s section"),
        ),
    ),
    (
        "Normal",
        "From 1 June to 31 August the afternoon watch has a third officer, who meets visiting boats at the pontoon "
        "and takes their dues.",
    ),
    ("Heading 2", "1.3 Taking over"),
    ("Normal", "The officer who comes on duty takes the watch over in this order, and signs the log last."),
    (
        "List Number",
        (
            "Read the log of the last two watches from the first line to the last.",
            "Compare the gauge with the tide table; a difference of more than 0.3 metres is reported to the harbour "
            "master.",
            "Test the radio on channel 12 with the ferry or with the boatyard.",
            "Move the gate’s leaf by a hand’s breadth and back, and write down the oil pressure, which must be between "
            "90 and 110 bar.",
            "Count the keys: there are seventeen on the board.",
            "Ask what is unfinished, and sign.",
        ),
    ),
    ("Heading 1", "2 Storm and flood"),
    ("Heading 2", "2.1 The stages"),
    (
        "Normal",
        "The stage is set by the height that is expected at the next high water: the table’s height and the surge "
        "together. The officer on watch sets it without asking anyone, and lowers it only with the harbour master’s "
        "word. When two forecasts differ, the higher one counts.",
    ),
    (
        "Table",
        (
            ("Stage", "Expected height", "Called out", "What is done"),
            ("Yellow", "6.9 metres or more", "nobody", "loose gear is stowed, pontoon lines are doubled"),
            ("Amber", "7.2 metres or more", "6 people", "flood boards are set in Fore Street, pumps are placed"),
            ("Red", "7.5 metres or more", "all 13", "the bell is rung, the lower town is left"),
        ),
    ),
    ("Heading 2", "2.2 The flood boards"),
    (
        "Normal",
        "Fore Street has 31 openings in the wall, and each has a numbered board of larch. Four people set all of them "
        "in fifty minutes, beginning at the chapel, where the street is lowest. A board is seated when the brass pin "
        "drops of itself. Boards that were wet are dried for a week before they go back into the rack.",
    ),
    ("Heading 2", "2.3 The stores"),
    ("Normal", "The stores are counted on the first Monday of the month. What is missing is bought within ten days."),
    (
        "List Bullet",
        (
            "240 filled sandbags are kept in the boathouse, under the north window, and 600 empty ones in its loft.",
            "Six petrol pumps stand in the shed behind the chapel; each of them moves 900 litres a minute.",
            "The spare bell rope, 24 metres of tarred hemp, hangs inside the door of the bell house.",
            "Fourteen hand lamps and their charger are in the watch room, in the red cupboard.",
            "Blankets for 80 people lie in the school, whose key is number 11 on the board.",
            "Two flat boats with oars are moored at the ferry steps from October to March.",
        ),
    ),
    ("Heading 2", "2.4 Leaving the lower town"),
    (
        "Normal",
        "At red the bell is rung without a pause until the last house is empty. Three pairs go from door to door: the "
        "first takes Fore Street, the second Net Lane and the third the cottages by the slip. There are 74 houses on "
        "the list, and the nine where someone needs to be carried stand at its head. People gather in the school on "
        "Chapel Hill, 31 metres above the sea, where the teacher, Ruth Calloway, keeps the roll.",
    ),
    ("Heading 1", "3 Boats and people"),
    ("Heading 2", "3.1 Visiting boats"),
    (
        "Normal",
        "A visiting boat is given a berth by radio before it passes the gate. The officer writes down its name, its "
        "length, its draught and the number of people aboard. Boats over 14 metres lie on the Old Quay, all others "
        "on the pontoon, which has 18 places. Nobody is sent away in bad weather for want of a berth: boats lie "
        "alongside each other, at most three deep.",
    ),
    ("Heading 2", "3.2 Somebody in the water"),
    (
        "Normal",
        "The officer throws the nearest ring, sounds the horn without a break and calls on channel 16, in this order. "
        "There are twelve rings, eight on the piers and four about the basin, each with 25 metres of floating line. "
        "The rescue boat lies at the ferry steps and must be under way within four minutes; its engine is started "
        "every day at 11:00 and runs for five minutes.",
    ),
    ("Heading 2", "3.3 Oil on the water"),
    (
        "Normal",
        "The gate is shut at once, whatever the tide. The boom, 60 metres in six lengths, is drawn from the West Arm "
        "to the ferry steps. Before anything is washed away, a bottle of the oil is taken, labelled with the hour and "
        "the place, and put into the cold box in the office.",
    ),
    ("Heading 2", "3.4 The log"),
    (
        "Normal",
        "The log is written in ink, in whole sentences, at the time of the event. Nothing in it is struck out; a "
        "mistake is put right by a new entry. Full volumes go to the Trust’s archive, which holds every one since "
        "1853 but that of 1917. The watch of the night of the flood filled eleven pages.",
    ),
)


def orders() -> bytes:
    """The DOCX."""
    document = docx.Document()
    _dress(document)
    for style, content in ORDERS:
        if style == "Table":
            _table(document, content)
        elif style.startswith("List"):
            for item in content:
                document.add_paragraph(item, style=style)
        else:
            document.add_paragraph(content, style=style)
    properties = document.core_properties
    properties.title, properties.author = "Standing Orders of the Harbour Watch", "Tolvane Harbour Trust"
    properties.created = properties.modified = ISSUED
    properties.last_modified_by, properties.comments, properties.language = "Tolvane Harbour Trust", "", "en-GB"
    out = BytesIO()
    document.save(out)
    return _dated(out.getvalue())


def _dress(document: Any) -> None:
    """A4, the colours of the handbook, a footer."""
    section = document.sections[0]
    section.page_width, section.page_height = Cm(21), Cm(29.7)
    section.left_margin = section.right_margin = Cm(2.4)
    section.footer.paragraphs[0].text = "Standing Orders of the Harbour Watch, 2026"
    styles = document.styles
    styles["Normal"].font.name, styles["Normal"].font.size = "Cambria", Pt(11)
    styles["Normal"].paragraph_format.space_after = Pt(8)
    styles["Normal"].paragraph_format.line_spacing = 1.2
    styles["Footer"].font.size = Pt(8.5)
    for name, size, colour in (("Title", 26, NAVY), ("Heading 1", 17, NAVY), ("Heading 2", 12.5, TEAL)):
        styles[name].font.size, styles[name].font.color.rgb = Pt(size), colour
    styles["Heading 1"].paragraph_format.space_before = Pt(22)
    styles["Heading 1"].paragraph_format.space_after = Pt(6)
    styles["Heading 2"].paragraph_format.space_before = Pt(14)
    styles["Heading 2"].paragraph_format.space_after = Pt(4)


def _table(document: Any, rows: Sequence[Sequence[str]]) -> None:
    table = document.add_table(rows=0, cols=len(rows[0]), style="Light List Accent 1")
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
            cell.paragraphs[0].paragraph_format.space_after = Pt(3)
    header = OxmlElement("w:tblHeader")
    header.set(qn("w:val"), "true")
    table.rows[0]._tr.get_or_add_trPr().append(header)  # python-docx has no call of its own for it
    document.add_paragraph().paragraph_format.space_after = Pt(0)


def _dated(package: bytes) -> bytes:
    """The same package with fixed dates in its directory: `save` puts the time of day there."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(package)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            info = zipfile.ZipInfo(entry.filename, date_time=ISSUED.timetuple()[:6])
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            new.writestr(info, old.read(entry))
    return out.getvalue()
