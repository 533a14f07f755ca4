"""Reads calendars (iCalendar, RFC 5545): one event or task a block, which is its own place."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.errors import Malformed

API_VERSION = 1


class Calendar(Parser[ComponentSettings]):
    """Summary as a heading; when, where, who and what below it. Times keep the zone that the file gives them."""

    name = "icalendar"
    media_types = ("text/calendar",)
    extensions = (".ics",)
    preload = ("icalendar",)

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        from icalendar import Calendar as Read

        try:
            calendars = Read.from_ical(file.read(), multiple=True)
        except (ValueError, IndexError, KeyError) as error:
            raise Malformed("The file is not a calendar.") from error
        entries = [entry for calendar in calendars for entry in calendar.walk() if entry.name in ("VEVENT", "VTODO")]
        if not entries:
            raise Malformed("The calendar holds no event and no task.")
        out.meta(title=_text(calendars[0].get("X-WR-CALNAME")), events=len(entries))
        for number, entry in enumerate(entries, start=1):
            title = _text(entry.get("SUMMARY")) or "Untitled"
            place = Place(part=str(number), path=(title,))
            out.block([(title, place)], "heading", 2)
            for name, value in _lines(entry):
                out.block([(f"{name}: {value}", place)], "list_item")
            out.block([(_text(entry.get("DESCRIPTION")), place)])


def _lines(entry: Any) -> Iterator[tuple[str, str]]:
    for label, key in (("Starts", "DTSTART"), ("Ends", "DTEND"), ("Due", "DUE")):
        if (moment := getattr(entry.get(key), "dt", None)) is not None:
            yield label, _moment(moment)
    for label, key in (
        ("Where", "LOCATION"),
        ("Organiser", "ORGANIZER"),
        ("Attendee", "ATTENDEE"),
        ("State", "STATUS"),
    ):
        values = entry.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            yield label, _person(value)


def _moment(moment: date | datetime) -> str:
    return moment.isoformat(" ", "minutes") if isinstance(moment, datetime) else moment.isoformat()


def _person(value: Any) -> str:
    address = _text(value).removeprefix("mailto:").removeprefix("MAILTO:")
    name = _text(getattr(value, "params", {}).get("CN"))
    return f"{name} <{address}>" if name else address


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


@hookimpl
def register_parsers() -> list[type[Calendar]]:
    return [Calendar]
