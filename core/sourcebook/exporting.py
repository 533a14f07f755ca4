"""A note or a conversation as a document to take away: its text, and at its end the numbered references.

An export is opened by other programs, which show what they find. So it holds no raw HTML, no image and no link but to
the web: what a model or a source wrote can do no more there than on our own page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sourcebook.citations import MARKER, numbers_of
from sourcebook.conversations import Conversation, StoredMessage
from sourcebook.documents import Place
from sourcebook.export_words import WORDS, Language, Words
from sourcebook.hidden import without_hidden
from sourcebook.links import Links
from sourcebook.notes import Note
from sourcebook.reading import Reading
from sourcebook.rendering import is_safe, parsed
from sourcebook.turns import title_of

_QUOTE = 500  # characters of a quote, at most


@dataclass(frozen=True)
class Quote:
    """What an answer cites of a passage. `where` is its place for people: 'page 3'."""

    text: str
    where: str
    supported: bool


@dataclass(frozen=True)
class Reference:
    """What `[n]` stands for. `name` is None where the source has been deleted; `url` is empty without a public one."""

    n: int
    name: str | None
    quotes: tuple[Quote, ...]
    url: str = ""


@dataclass(frozen=True)
class Part:
    """A piece of Markdown under a heading, or under none. `remark` is for the reader: 'This answer is incomplete.'"""

    text: str
    heading: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Export:
    """The whole document, of which every format is made. What writes one leaves out what nobody sees."""

    title: str
    parts: tuple[Part, ...]
    references: tuple[Reference, ...]
    words: Words = WORDS["en"]


class Exporting:
    """Makes exports of what has been read for somebody who may see it, in their language."""

    def __init__(self, reading: Reading, links: Links, language: Language = "en") -> None:
        self._reading = reading
        self._links = links
        self._words = WORDS[language]

    async def note(self, note: Note) -> Export:
        """A note keeps its numbers: whoever wrote `[2]` into it meant that one."""
        references = _References(await self._placed(note.citations), self._links, self._words)
        named = sorted(n for match in MARKER.finditer(note.text) for n in numbers_of(match.group()))
        for n in dict.fromkeys(named):
            references.of_note(n)
        title = note.title or title_of(note.text)
        return Export(line_of(title), (Part(note.text),), references.all(), self._words)

    async def conversation(self, conversation: Conversation, messages: Sequence[StoredMessage]) -> Export:
        """Each answer counts its own passages from 1: here they are numbered through, each passage once."""
        cited = await self._placed([row for m in messages for row in m.citations])
        references = _References(cited, self._links, self._words)
        parts: list[Part] = []
        for message in messages:
            if message.role == "user":
                heading = title_of(message.text)
                rest = "" if heading == " ".join(message.text.split()) else message.text
                parts.append(Part(rest, heading))
            else:
                remark = self._words.incomplete if message.state == "incomplete" else ""
                parts.append(Part(references.renumbered(message), remark=remark))
        title = line_of(conversation.title) or self._words.conversation
        return Export(title, tuple(parts), references.all(), self._words)

    async def _placed(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Citations with their `places`; one whose source is gone has none."""
        found = [dict(row) for row in rows]
        there = [row for row in found if row["document_id"] is not None]
        places = await self._reading.places_of([(r["document_id"], r["start"], r["end"]) for r in there])
        for row, where in zip(there, places, strict=True):
            row["places"] = where
        return found


class _References:
    """Numbers what is cited, in the order in which it is met."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], links: Links, words: Words) -> None:
        self._rows = rows
        self._links = links
        self._words = words
        self._numbers: dict[Any, int] = {}
        self._found: dict[int, Reference] = {}

    def of_note(self, n: int) -> None:
        rows = [row for row in self._rows if row["n"] == n]
        if rows:
            self._add(n, rows)

    def renumbered(self, message: StoredMessage) -> str:
        """An answer's text with the document's numbers; a marker that names nothing goes."""
        mine = [row for row in self._rows if row["message_id"] == message.id]

        def number(match: re.Match[str]) -> str:
            kept = [self._number(rows) for n in numbers_of(match.group()) if (rows := _of(mine, n))]
            return f"[{', '.join(map(str, dict.fromkeys(kept)))}]" if kept else ""

        return MARKER.sub(number, message.text)

    def all(self) -> tuple[Reference, ...]:
        return tuple(self._found[n] for n in sorted(self._found))

    def _number(self, rows: Sequence[Mapping[str, Any]]) -> int:
        first = rows[0]
        key = first["passage_id"] or (first["source_id"], first["start"], first["end"], first["id"])
        n = self._numbers.setdefault(key, len(self._numbers) + 1)
        self._add(n, rows)
        return n

    def _add(self, n: int, rows: Sequence[Mapping[str, Any]]) -> None:
        quotes = [_quote(row, self._words) for row in rows if row["quote"]]
        if n in self._found:
            was = self._found[n]
            self._found[n] = replace(was, quotes=tuple(dict.fromkeys((*was.quotes, *quotes))))
            return
        url = self._links.url(rows[0]["id"]) if self._links.public and rows[0]["removed_at"] is None else ""
        name = rows[0]["source_name"] if rows[0]["removed_at"] is None else None
        self._found[n] = Reference(n, name or None, tuple(dict.fromkeys(quotes)), url)


def _of(rows: Sequence[Mapping[str, Any]], n: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["n"] == n]


def _quote(row: Mapping[str, Any], words: Words) -> Quote:
    text = line_of(row["quote"])
    places: Sequence[Place] = row.get("places") or ()
    where = next((said for place in places if (said := place.said(*words.kinds))), "")
    cut = f"{text[: _QUOTE - 1]}…" if len(text) > _QUOTE else text
    return Quote(cut, where, bool(row["supported"]))


def line_of(text: str) -> str:
    """A text in one line, without characters that nobody sees."""
    return " ".join(without_hidden(text).split())


def said_of(reference: Reference, words: Words) -> list[tuple[str, str]]:
    """A reference as pieces of plain text, each with how it stands: `name`, `quote` or `plain`."""
    if reference.name is None:
        return [("plain", words.removed)]
    pieces = [("name", line_of(reference.name))]
    for number, quote in enumerate(reference.quotes):
        where = f"{line_of(quote.where)}: " if quote.where else ""
        where = f"; {where}" if number else f", {where}" if where else ": "
        pieces += [("plain", where), ("quote", f"“{line_of(quote.text)}”")]
        if not quote.supported:
            pieces.append(("plain", f" {words.unsupported}"))
    return pieces


def to_markdown(export: Export) -> str:
    """The document as CommonMark with tables, which does no more in any viewer than ours would let it."""
    blocks = [f"# {_escaped(line_of(export.title))}"]
    for part in export.parts:
        if part.heading:
            blocks.append(f"## {_escaped(line_of(part.heading))}")
        if part.text.strip():
            blocks.append(harmless(without_hidden(part.text)).strip("\n"))
        if part.remark:
            blocks.append(f"*{part.remark}*")
    if export.references:
        blocks.append(f"## {export.words.references}")
    styles: Mapping[str, Callable[[str], str]] = {
        "name": lambda text: f"**{_escaped(text)}**",
        "quote": _escaped,
        "plain": _escaped,
    }
    for reference in export.references:
        told = "".join(styles[kind](text) for kind, text in said_of(reference, export.words))
        blocks.append(f"\\[{reference.n}\\] {told}{f' <{reference.url}>' if reference.url else ''}")
    return "\n\n".join(blocks) + "\n"


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$=-])")


def _escaped(text: str) -> str:
    """Plain text, to be read as just that."""
    return _SPECIAL.sub(r"\\\1", without_hidden(text))


def harmless(markdown: str) -> str:
    """Markdown in which no viewer finds HTML, an image, a definition of a link, or a link to anything but the web.

    What stands in code stays as it is; elsewhere a backslash takes the special meaning away.
    """
    lines = markdown.split("\n")
    out: list[str] = []
    for start, end, code in _blocks(markdown, len(lines)):
        piece = "\n".join(lines[start:end])
        out.append(piece if code else _without_active(piece))
    return "\n".join(out)


def _blocks(markdown: str, count: int) -> list[tuple[int, int, bool]]:
    """Ranges of lines, in order, each with whether it is a block of code."""
    code = [t.map for t in parsed(markdown) if t.type in ("fence", "code_block") and t.map]
    found: list[tuple[int, int, bool]] = []
    at = 0
    for start, end in code:
        if start > at:
            found.append((at, start, False))
        found.append((max(start, at), end, True))
        at = max(end, at)
    if at < count:
        found.append((at, count, False))
    return found


_BACKTICKS = re.compile(r"`+")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_TARGET = re.compile(r"\s*<?([^\s>)]*)")


def _without_active(text: str) -> str:
    """In the order in which CommonMark reads: an escape is passed by as a whole, and so is a span of code.

    A span is believed only where every line of the text is whole in itself: over the ends of lines and in the cells of
    tables programs differ in what they take for code, and a picture could hide in the difference.
    """
    believed = all(_is_whole(line) for line in text.split("\n"))
    out: list[str] = []
    at = 0
    while at < len(text):
        end, escaped = at + 1, False
        match text[at]:
            case "\\":
                end = min(at + 2, len(text))
            case "`" if believed:
                end = _end_of_code(text, at) or end
            case "[":
                escaped = text.startswith("!", at - 1) if at else False
            case "]":
                escaped = _opens_wrong(text, at)
            case "<":
                escaped = _TAG.match(text, at) is not None
        out.append(f"\\{text[at:end]}" if escaped else text[at:end])
        at = end
    return "".join(out)


def _is_whole(line: str) -> bool:
    """Whether all backticks of a line open or close a span of code within it, and none stands in a table."""
    if "`" in line and "|" in line:
        return False
    at = 0
    while (at := next((i for i in range(at, len(line)) if line[i] in "\\`"), -1)) >= 0:
        end = at + 2 if line[at] == "\\" else _end_of_code(line, at)
        if end is None:
            return False
        at = end
    return True


def _end_of_code(text: str, start: int) -> int | None:
    """Where the span of code that begins here ends; None where it does not."""
    opening = _BACKTICKS.match(text, start)
    length = len(opening.group()) if opening else 0
    runs = _BACKTICKS.finditer(text, start + length)
    return next((closing.end() for closing in runs if len(closing.group()) == length), None)


def _opens_wrong(text: str, bracket: int) -> bool:
    """Whether a definition follows this `]`, or a link that goes where none of ours would."""
    if text.startswith(":", bracket + 1):
        return True
    if not text.startswith("(", bracket + 1):
        return False
    target = _TARGET.match(text, bracket + 2)
    return target is not None and not is_safe(target.group(1))
