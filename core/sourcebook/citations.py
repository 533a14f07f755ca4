"""Turns the `[n]` markers of a streamed answer into citations, each with the exact range that supports its sentence.

The quote is cut from the stored text at that range, so no model can invent one.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from sourcebook.documents import Passage
from sourcebook.sentences import sentences, terms

MARKER = re.compile(r"\[\d{1,3}(?:\s{0,2}[,;]\s{0,2}\d{1,3}){0,20}\]|【\d{1,3}】")
"""Of bounded length, so that a growing answer is searched from a bounded distance before its end."""

_LONGEST = 192  # characters of a marker
_NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*")
_LOOKBACK = 3000  # characters of the answer in which a marker's sentence is looked for
_SUPPORT = 0.5
_WINDOW = 3


@dataclass(frozen=True)
class Marker:
    """One number of one marker that closed: `[answer_start, answer_end)` is the sentence that it stands for."""

    n: int
    answer_start: int
    answer_end: int


@dataclass(frozen=True)
class Support:
    """The best range, in the document's coordinates. `supported` is False where it does not carry the claim."""

    start: int
    end: int
    quote: str
    supported: bool


class MarkerReader:
    """Reads an answer as it grows. A marker split over pieces is found when it closes, once."""

    def __init__(self, passages: int) -> None:
        self.dropped = 0
        self._passages = passages
        self._pieces: list[str] = []
        self._from = 0  # in the text: what lies before was looked at

    @property
    def text(self) -> str:
        """The answer so far. Joined when it is asked for: to add to one string a word at a time copies it each time."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def feed(self, piece: str) -> list[Marker]:
        """The markers that this piece closed; a number that names no passage is dropped and counted."""
        self._pieces.append(piece)
        if "]" not in piece and "】" not in piece:
            return []
        text = self.text
        found: list[Marker] = []
        # Nothing that ended before this piece was left over; a marker that ends in it began not long before.
        self._from = max(self._from, len(text) - len(piece) - _LONGEST)
        for match in MARKER.finditer(text, self._from):
            self._from = match.end()
            start, end = sentence_before(text, match.start())
            stands = any(c.isalnum() for c in text[start:end])  # for a claim, not for a bullet or a bracket
            for number in numbers_of(match.group()):
                if 1 <= number <= self._passages and stands:
                    found.append(Marker(number, start, end))
                else:
                    self.dropped += 1
        return found


def without_markers(text: str) -> str:
    """An answer as a reader would quote it: its markers' numbers mean nothing elsewhere."""
    return re.sub(rf"[ \t]*(?:{MARKER.pattern})", "", text)


def numbers_of(marker: str) -> list[int]:
    """The numbers of one marker, each once: `[2, 5]` names two."""
    return list(dict.fromkeys(map(int, re.findall(r"\d+", marker))))


def numbers_in(text: str) -> set[int]:
    """The numbers of all markers of a text."""
    return {n for match in MARKER.finditer(text) for n in numbers_of(match.group())}


def sentence_before(text: str, marker: int) -> tuple[int, int]:
    """The range of the sentence that a marker at `marker` stands for: the one it stands in or right after."""
    floor = max(0, marker - _LOOKBACK)
    end = marker
    while True:  # markers before this one belong to the same sentence
        before = text[floor:end].rstrip()
        previous = next((m for m in MARKER.finditer(before) if m.end() == len(before)), None)
        end = floor + len(before)
        if previous is None:
            break
        end = floor + previous.start()
    found = sentences(text[floor:end])
    if not found:
        return end, end
    start, stop = found[-1]
    # A sentence never begins with the marker of the one before.
    lead = re.match(rf"(?:\s*(?:{MARKER.pattern}))+\s*", text[floor + start : floor + stop])
    return floor + start + (lead.end() if lead else 0), floor + stop


def support(claim: str, passage: Passage) -> Support:
    """The range of what the model read of `passage` that best carries `claim`: verbatim, else by shared terms."""
    text, base = passage.prompt_text, passage.prompt_start
    plain = MARKER.sub(" ", claim).strip()
    exact = _verbatim(plain, text)
    if exact is not None:
        start, end = exact
        return Support(base + start, base + end, text[start:end], supported=True)
    start, end, share = _best_window(plain, text)
    numbers_hold = set(_NUMBERS.findall(plain)) <= set(_NUMBERS.findall(text))
    return Support(base + start, base + end, text[start:end], supported=share >= _SUPPORT and numbers_hold)


def _verbatim(claim: str, text: str) -> tuple[int, int] | None:
    """Where `claim` stands word for word, white space and quotation marks around it aside."""
    words = claim.strip("\"'“”„«»‘’ ").split()
    if not words:
        return None
    # "42" does not stand in "420", "1.42" or "42nd"; scripts without spaces have no such edges.
    before = r"(?<![0-9A-Za-z])(?<!\d[.,:])" if _is_ascii_word(words[0][0]) else ""
    after = r"(?![0-9A-Za-z]|[.,:]\d)" if _is_ascii_word(words[-1][-1]) else ""
    match = re.search(before + r"\s+".join(map(re.escape, words)) + after, text)
    return match.span() if match else None


def _is_ascii_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _best_window(claim: str, text: str) -> tuple[int, int, float]:
    """The one to three neighbouring sentences that hold most of the claim's terms, and that share: 0 to 1.

    A longer window must earn its length: each further sentence has to add a tenth of the claim.
    """
    wanted = Counter(terms(claim))
    spans = sentences(text) or [(0, len(text))]
    bags = [Counter(terms(text[start:end])) for start, end in spans]
    total = sum(wanted.values()) or 1
    best = (spans[0][0], spans[0][1], 0.0)
    best_value = -1.0
    for first in range(len(spans)):
        bag: Counter[str] = Counter()
        for last in range(first, min(first + _WINDOW, len(spans))):
            bag += bags[last]
            share = sum((wanted & bag).values()) / total
            value = share - 0.1 * (last - first)
            if value > best_value:
                best, best_value = (spans[first][0], spans[last][1], share), value
    return best
