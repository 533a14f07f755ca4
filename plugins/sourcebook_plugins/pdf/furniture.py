"""What stands on every page and belongs to none: running headers, footers and page numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from sourcebook_plugins.pdf.lines import Line

_BAND = 0.13  # of the page's height, at its top and at its bottom
_LINES = 4  # of a header or footer, at most
_STEP = 6.0  # points; a running line stands at the same height on every page
_LARGE = 1.2  # of the body's size; running lines are no larger, and titles of slides are
_SPACE = 0.6  # of the size, between the text and what runs
_OFTEN = 3  # pages; a line that only two pages have may be a letterhead, and is kept once
_DIGITS = re.compile(r"\d+|\b[ivxl]+\b")
_NUMBER = re.compile(
    r"\W*(?:p(?:age|\.)?|s(?:eite|\.)?|página|pagina)?\s*(?:\d{1,4}|[ivxl]{1,7})(?:\s*(?:of|/|von|de|di|sur|-)\s*\d{1,4})?\W*",
    re.IGNORECASE,
)

_ANYWHERE = -1
_Key = tuple[str, bool, int]
Candidate = tuple[Line, _Key]
"""A line that may run, and what makes two of them the same."""


class Furniture:
    """Learns the running lines of a document page by page, and takes them out of one."""

    def __init__(self) -> None:
        self._seen: Counter[_Key] = Counter()
        self._pages: set[int] = set()
        self._kept: set[_Key] = set()

    def learn(self, lines: Sequence[Line], height: float) -> list[Candidate]:
        """Take in a page; what of it may run.

        A copy of an earlier page says nothing of what runs. Neither does a page with nothing beside: what runs, runs
        beside text, and that text is never taken out. So no document loses all that it says.
        """
        found = _candidates(lines, height)
        page = hash(tuple([line.text for line in lines]))
        if len(found) < len(lines) and page not in self._pages:
            self._pages.add(page)
            self._seen.update({key for _, key in found})
        return found

    def without(self, lines: Sequence[Line], candidates: Sequence[Candidate], body: float) -> list[Line]:
        """The lines of a page without what runs. `body` is the size of the running text in points."""
        found = [
            (line, key[1])
            for line, key in candidates
            if not (body and line.size > _LARGE * body) and self._runs(line, key, lines, len(lines) - len(candidates))
        ]
        gone = {id(line) for line, _ in found}
        for at_top in (True, False):
            running = [line for line, top in found if top == at_top]
            if running and not _set_apart(running, [line for line in lines if id(line) not in gone], at_top=at_top):
                gone -= {id(line) for line in running if not _NUMBER.fullmatch(line.text)}
        return [line for line in lines if id(line) not in gone] if gone else list(lines)

    def _runs(self, line: Line, key: _Key, lines: Sequence[Line], beside: int) -> bool:
        """`beside`: how many lines of the page are no candidates."""
        if _NUMBER.fullmatch(line.text) and key[2] != _ANYWHERE:
            return self._seen[key] > 1 or (beside > 0 and _apart(line, lines))
        if self._seen[key] < 2 or (key[2] == _ANYWHERE and (self._seen[key] < _OFTEN or "#" not in key[0])):
            return False
        if self._seen[key] >= _OFTEN or key[0] != line.text.casefold() or key in self._kept:
            return True
        self._kept.add(key)
        return False


def _candidates(lines: Sequence[Line], height: float) -> list[Candidate]:
    """The outermost lines with what makes two of them the same: the words without figures, and where they stand."""
    if not height:
        return []
    top, bottom = _BAND * height, (1 - _BAND) * height
    first = sorted([x for x in lines if x.box[3] < top], key=lambda x: x.box[1])[:_LINES]
    last = sorted([x for x in lines if x.box[1] > bottom], key=lambda x: -x.box[3])[:_LINES]
    if not last and len(lines) > 1:
        lowest = max(lines, key=lambda x: x.box[3])
        # Pages printed from the web end where their text does, and their footers stand there.
        key = (_DIGITS.sub("#", lowest.text.casefold()), False, _ANYWHERE)
        return [*_keyed(first, height, at_top=True), (lowest, key)]
    return [*_keyed(first, height, at_top=True), *_keyed(last, height, at_top=False)]


def _keyed(lines: Sequence[Line], height: float, *, at_top: bool) -> Iterator[Candidate]:
    for line in lines:
        at = line.top if at_top else height - line.bottom
        yield line, (_DIGITS.sub("#", line.text.casefold()), at_top, round(at / _STEP))


def _set_apart(running: Sequence[Line], rest: Sequence[Line], *, at_top: bool) -> bool:
    """Whether there is space between what runs and the text: a paragraph may begin with the same line on two pages."""
    size = max(line.size for line in running)
    if at_top:
        edge = max(line.box[3] for line in running)
        return all(line.box[1] - edge > _SPACE * size for line in rest if line.box[3] > edge + size)
    edge = min(line.box[1] for line in running)
    return all(edge - line.box[3] > _SPACE * size for line in rest if line.box[1] < edge - size)


def _apart(line: Line, lines: Sequence[Line]) -> bool:
    """Whether a lone number has nothing beside it, and some space to what is above or below."""
    above = max((x.box[3] for x in lines if x.box[3] <= line.box[1] + 1), default=None)
    below = min((x.box[1] for x in lines if x.box[1] >= line.box[3] - 1), default=None)
    beside = any(x is not line and x.box[1] < line.box[3] - 1 and line.box[1] + 1 < x.box[3] for x in lines)
    gaps = [gap for gap in (line.box[1] - above if above is not None else None,
                            below - line.box[3] if below is not None else None) if gap is not None]  # fmt: skip
    return not beside and len(gaps) == 1 and gaps[0] > line.size
