from collections.abc import Mapping

from sourcebook_icalendar import Calendar

from sourcebook.testing.parsers import ParserContract, parse

SAMPLE = b"""BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//Harbour//Office//EN\r
X-WR-CALNAME:Harbour office\r
BEGIN:VEVENT\r
UID:1\r
DTSTART;TZID=Europe/Lisbon:20260511T060000\r
DTEND;TZID=Europe/Lisbon:20260511T073000\r
SUMMARY:Dredging of the north basin\r
LOCATION:North basin\r
ORGANIZER;CN=Ana Pires:mailto:ana@example.org\r
DESCRIPTION:No berth may be used. The lamp on the mole is dark\\, so keep\r
  clear of it.\r
END:VEVENT\r
BEGIN:VTODO\r
UID:2\r
DUE;VALUE=DATE:20260601\r
SUMMARY:Paint the bollards\r
STATUS:NEEDS-ACTION\r
END:VTODO\r
END:VCALENDAR\r
"""


class TestCalendar(ParserContract):
    def parser(self) -> Calendar:
        return Calendar(Calendar.Settings())

    def samples(self) -> Mapping[str, bytes]:
        return {"office.ics": SAMPLE}

    def broken(self) -> Mapping[str, bytes]:
        return {"no entries": b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", "not one": b"BEGIN:VCARD\r\nEND:VCARD\r\n"}

    def test_what_a_person_would_ask_is_in_the_text(self) -> None:
        document = parse(self.parser(), SAMPLE)
        assert document.metadata == {"title": "Harbour office", "events": 2}
        for line in (
            "Starts: 2026-05-11 06:00+01:00",
            "Organiser: Ana Pires <ana@example.org>",
            "The lamp on the mole is dark, so keep clear of it.",
            "Due: 2026-06-01",
        ):
            assert line in document.text

    def test_a_passage_knows_its_event(self) -> None:
        document = parse(self.parser(), SAMPLE)
        at = document.text.index("NEEDS-ACTION")
        assert document.places(at, at + 1)[0].path == ("Paint the bollards",)
