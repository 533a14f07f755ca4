"""Sentences and terms of any language, by rules alone: no model, no word list to load, offsets kept.

A line end inside a paragraph may be a wrap or a break; a full stop may end a sentence, an abbreviation or an ordinal.
The rules below prefer a sentence too long to one cut in two: a quote that lacks its half misleads.
"""

from __future__ import annotations

import re
import unicodedata

# A line that stands for itself: a table row, a heading, a quotation, a list item.
_MARKED = re.compile(r"[ \t]*(?:\||#{1,6} |>|[-*+•·‣▪–] |\(?\d{1,3}[.)] |[A-Za-z]\) )")
_ALONE = ("|", "#")
_WRAPPED = 36  # columns; a shorter line was not ended by the margin

_CLOSERS = r"[\"'”’»›)\]}」』）】》〉*_]*+"
_MARKS = r"(?:\s?[\[【]\d{1,3}(?:[ ,;–-]+\d{1,3})*+[\]】])*+"  # "[2]" after the stop belongs to what it follows
_SPACED = ".!?…"  # stops that need a space after them; the others need none
_STOP = re.compile(rf"([{_SPACED}。！？｡؟۔।॥።．]++){_MARKS}{_CLOSERS}{_MARKS}")
_OPENERS = "([{\"'„“”‚‘’«»*_"
_INK = re.compile(r"\S")
_LINE = re.compile(r"[^\n]+")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


# Never at a sentence's end, or so seldom that the loss is smaller.
_ABBREVIATIONS = _words(
    "mr mrs ms mx dr prof st vs cf approx ca al gen col lt sgt capt rev hon gov sen rep messrs viz resp",
    "bzw bspw vgl evtl ggf ggfs inkl exkl zzgl abzgl sog geb gest hrsg dipl ing frl mio mrd aufl insb tel nr",
    "mme mlle env sr sra srta dra ud uds sig dott bijv dhr mevr núm pág",
)
# Words of their own, and abbreviations only before a number.
_BEFORE_NUMBER = _words(
    "no nos fig figs eq eqs sec sect ch chap vol art abb tab kap bd abs max min pp para ext ver",
    "jan feb mar apr jun jul aug sep sept oct okt nov dec dez",
)
# "im 19. Jahrhundert": what stands before an ordinal, and what stands after one.
_BEFORE_ORDINAL = _words("am im vom zum zur beim der die das den dem des ab bis seit und jeden jeder")
_MONTHS = _words(
    "januar jänner februar märz april mai juni juli august september oktober november dezember",
    "januari februari maart juni augustus oktober december leden",
)

# "Table 1. Catches by month": a caption's own number.
_LABELS = _words("table figure fig chart plate box example step tabelle abbildung bild schritt tableau tabla figura")

# Scripts that write no spaces between words (and Hangul, whose particles cling to the word): pairs of characters.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
# Vowel signs and accents are part of a word, and Python's \w leaves them out.
_SIGNS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
    "\u0e31\u0e34-\u0e4e\u0eb1-\u0ecd\u102b-\u103e\u17b4-\u17d3"
)
_WORD = re.compile(rf"\d+(?:[.,:]\d+)+|[\w{_SIGNS}]+")
_ASCII_WORD = re.compile(r"\d+(?:[.,:]\d+)+|\w+", re.ASCII)  # the same, where there is nothing else, in half the time
_OPTIONAL = re.compile("[\u0640\u064b-\u065f\u0670]")  # Arabic vowel marks and the stretching bar


def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of `text` as ranges `[start, end)` of code points, in order, without outer white space.

    Together they hold every character that is not white space, and they do not overlap. A table row, a heading and a
    list item's first line begin a new one; a line end within one is a wrapped line. A citation mark that follows the
    stop (`It is so. [2]`) belongs to the sentence before it.
    """
    found: list[tuple[int, int]] = []
    for start, end, row in _units(text):
        if not row:
            for stop in _STOP.finditer(text, start, end):
                if stop.end() < end and _ends_here(text, start, stop):
                    found.append((start, stop.end()))
                    start = _ink(text, stop.end(), end)
        if start < end:
            found.append((start, end))
    return found


def terms(text: str) -> list[str]:
    """The words of `text`, casefolded and NFKC, in order: what is compared when texts are.

    A number keeps its point (`4.2`, `14:30`). Scripts without spaces between words give overlapping pairs of
    characters, and a single character where it stands alone.
    """
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
        return [word for word in (w.strip("_") for w in found) if word] if "_" in text else found
    folded = _OPTIONAL.sub("", unicodedata.normalize("NFKC", text).casefold())
    unspaced = not folded.isascii() and _UNSPACED_RUN.search(folded) is not None
    if unspaced:
        folded = _UNSPACED_RUN.sub(r" \g<0> ", folded)
    words = [word.strip("_") for word in _WORD.findall(folded)]
    if not unspaced:
        return [word for word in words if word]
    return [part for word in words for part in _pairs(word)]


def _pairs(word: str) -> list[str]:
    if len(word) < 2 or not _UNSPACED_RUN.match(word):
        return [word] if word else []
    return [word[i : i + 2] for i in range(len(word) - 1)]


def _units(text: str) -> list[tuple[int, int, bool]]:
    """Lines that flow into each other, as trimmed ranges; True for a table row, whose full stops mean nothing."""
    units: list[tuple[int, int, bool]] = []
    before = ""  # the line before, when it may flow into this one
    for match in _LINE.finditer(text):
        line = match.group()
        trimmed = line.strip()
        if not trimmed:
            before = ""
            continue
        start = match.start() + len(line) - len(line.lstrip())
        end = start + len(trimmed)
        if before and text[match.start() - 2] != "\n" and _flows(before, line, trimmed):
            units[-1] = (units[-1][0], end, False)
        else:
            units.append((start, end, trimmed[0] == "|"))
        before = trimmed
    return units


def _flows(before: str, line: str, trimmed: str) -> bool:
    """Whether the end of the line `before` is a mere wrap."""
    if before[0] in _ALONE or _MARKED.match(line):
        return False
    if trimmed[0].islower() or before[-1] in ",-‐–":
        return True
    width = 2 * len(before) if _UNSPACED_RUN.match(before) else len(before)
    return width >= _WRAPPED


def _ink(text: str, start: int, end: int) -> int:
    found = _INK.search(text, start, end)
    return found.start() if found else end


def _ends_here(text: str, start: int, stop: re.Match[str]) -> bool:
    """Whether the mark `stop`, in a unit that goes on after it, ends the sentence that began at `start`."""
    mark, follower = stop.group(1), text[stop.end()]
    if mark[-1] not in _SPACED:
        return mark[-1] != "．" or not follower.isdecimal()
    if not follower.isspace():
        return False
    after = text[stop.end() : stop.end() + 24].split(None, 1)[0]
    if after[0].islower():
        return False
    if mark != ".":
        return True
    words = text[max(start, stop.start() - 32) : stop.start()].split()
    if len(words) == 2 and words[0].casefold() in _LABELS and words[1].isdecimal():
        return False
    return not words or _full_stop(words[-1].lstrip(_OPENERS), words[-2] if len(words) > 1 else "", after)


def _full_stop(word: str, before: str, after: str) -> bool:
    """Whether the point behind `word` ends a sentence, going by the words before and after."""
    if word.isdecimal():
        return not _ordinal(word, before, after)
    if len(word) == 1 and word.isalpha():
        return not _letter(word, before, after)
    word = word.casefold()
    if word in _BEFORE_NUMBER:
        return not after[0].isdecimal()
    if "." in word and _DOTTED.fullmatch(word):
        return word in {"a.m", "p.m"} and not after[0].isdecimal()
    return word not in _ABBREVIATIONS


def _letter(letter: str, before: str, after: str) -> bool:
    """'J. Smith', 'z. B.', 'p. 12'; but in '4.2 m. The' it is a unit, and a letter without case is a word."""
    if before[-1:].isdecimal():
        return after == "Chr."
    paired = after[1:2] == "." or (len(before) == 2 and before[1] == ".")
    return letter.isupper() or (letter.islower() and (paired or after[0].isdecimal()))


def _ordinal(number: str, before: str, after: str) -> bool:
    """'3. Oktober', 'im 19. Jahrhundert', and the number of a list item."""
    if not before:
        return len(number) < 4
    return len(number) < 3 and (before.casefold() in _BEFORE_ORDINAL or after.strip(".,;:").casefold() in _MONTHS)
