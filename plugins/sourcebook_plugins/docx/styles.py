"""What a paragraph is: its heading level and its list number, from styles and numbering definitions.

ECMA-376 part 1, 17.7 (styles) and 17.9 (numbering).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sourcebook_plugins.packages import Element

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_HEADING = re.compile(r"heading (\d)")  # built-in styles keep their English name in every language
_MAX_BASES = 20


def val(element: Element | None, path: str, name: str = "val") -> str | None:
    """The `w:val` of the child at `path`; None where there is none."""
    found = element.find(path) if element is not None else None
    value = found.get(W + name) if found is not None else None
    return str(value) if value is not None else None


def number(text: str | None, default: int = 0) -> int:
    """A small non-negative number of an attribute, or `default` where it is none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else default


class Styles:
    """Paragraph styles by id, with what they inherit."""

    def __init__(self, root: Element | None) -> None:
        self._styles: dict[str, Element] = {}
        self.default = ""
        for style in root.iter(W + "style") if root is not None else ():
            self._styles[style.get(W + "styleId", "")] = style
            if style.get(W + "type") == "paragraph" and style.get(W + "default") in ("1", "true", "on"):
                self.default = style.get(W + "styleId", "")

    def chain(self, style_id: str | None) -> Iterator[Element]:
        """The style and those that it is based on, nearest first."""
        for _ in range(_MAX_BASES):
            style = self._styles.get(style_id or "")
            if style is None:
                return
            yield style
            style_id = val(style, W + "basedOn")

    def name(self, style_id: str | None) -> str:
        """The style's own name, lower case."""
        return (val(self._styles.get(style_id or ""), W + "name") or style_id or "").lower()

    def heading(self, properties: Element | None) -> int:
        """The level (1 = top) of a paragraph with these properties; 0 for body text."""
        direct = val(properties, W + "outlineLvl")
        if direct is not None:
            return _level(direct)
        for style in self.chain(val(properties, W + "pStyle") or self.default):
            name = (val(style, W + "name") or "").lower()
            if name == "title":
                return 1
            if (match := _HEADING.fullmatch(name)) is not None:
                return max(int(match.group(1)), 1)
            outline = val(style, f"{W}pPr/{W}outlineLvl")
            if outline is not None:
                return _level(outline)
        return 0

    def numbering(self, properties: Element | None) -> tuple[str, int] | None:
        """(numbering id, list level) of a paragraph with these properties; None where it has none or "0" removes it."""
        num, level = val(properties, f"{W}numPr/{W}numId"), val(properties, f"{W}numPr/{W}ilvl")
        for style in self.chain(val(properties, W + "pStyle") or self.default):
            if num is not None and level is not None:
                break
            base = f"{W}pPr/{W}numPr/{W}"
            num = num if num is not None else val(style, base + "numId")
            level = level if level is not None else val(style, base + "ilvl")
        return (num, min(number(level), 8)) if num not in (None, "0") and num is not None else None


def _level(outline: str) -> int:
    return number(outline, 9) + 1 if number(outline, 9) < 9 else 0  # 9 is body text


@dataclass
class _Level:
    style: str = "decimal"
    text: str = "%1."
    start: int = 1


@dataclass
class _List:
    levels: dict[int, _Level] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Counts the numbered paragraphs of a document as Word does, so that "4.2" reads in the text as on the page."""

    def __init__(self, root: Element | None, styles: Styles) -> None:
        self._lists: dict[str, _List] = {}
        abstract: dict[str, _List] = {}
        for element in root.iter(W + "abstractNum") if root is not None else ():
            levels = {number(e.get(W + "ilvl")): _read_level(e) for e in element.iter(W + "lvl")}
            abstract[element.get(W + "abstractNumId", "")] = _List(levels)
        for element in root.iter(W + "num") if root is not None else ():
            self._lists[element.get(W + "numId", "")] = _num(element, abstract)

    def mark(self, num: str, level: int) -> str:
        """The mark of the next paragraph at this level: "- ", "3. ", "4.2 ", "b) "; counts it."""
        found = self._lists.get(num)
        if found is None or level not in found.levels:
            return "- "
        kind = found.levels[level]
        if kind.style == "none":
            return ""
        if kind.style == "bullet":
            return "- "
        found.counts[level] = found.counts.get(level, kind.start - 1) + 1
        for deeper in [n for n in found.counts if n > level]:
            del found.counts[deeper]
        text = re.sub(r"%([1-9])", lambda m: self._numeral(found, int(m.group(1)) - 1), kind.text).strip()
        return f"{text} " if text else ""

    @staticmethod
    def _numeral(found: _List, level: int) -> str:
        kind = found.levels.get(level, _Level())
        return numeral(found.counts.setdefault(level, kind.start), kind.style)


def _read_level(element: Element) -> _Level:
    style = val(element, W + "numFmt") or "decimal"
    text = val(element, W + "lvlText")
    return _Level(style, "" if text is None else text, number(val(element, W + "start"), 1))


def _num(element: Element, abstract: dict[str, _List]) -> _List:
    """A list: its abstract definition, which it shares the counts of, or with its own overrides a new one."""
    base = abstract.get(val(element, W + "abstractNumId") or "", _List())
    overrides: list[Any] = list(element.iter(W + "lvlOverride"))
    if not overrides:
        return base
    own = _List(dict(base.levels))
    for override in overrides:
        level = number(override.get(W + "ilvl"))
        definition = override.find(W + "lvl")
        kind = _read_level(definition) if definition is not None else own.levels.get(level, _Level())
        start = val(override, W + "startOverride")
        own.levels[level] = _Level(kind.style, kind.text, number(start, kind.start))
    return own


def numeral(count: int, style: str) -> str:
    """`count` as Word writes it in `style`; plain digits for the styles of scripts not written here."""
    if style in ("lowerLetter", "upperLetter") and count > 0:
        letter = chr(ord("a") + (count - 1) % 26) * min((count - 1) // 26 + 1, 8)
        return letter if style[0] == "l" else letter.upper()
    if style in ("lowerRoman", "upperRoman") and 0 < count < 4000:
        return _roman(count).lower() if style[0] == "l" else _roman(count)
    return f"{count:02d}" if style == "decimalZero" else str(count)


def _roman(count: int) -> str:
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    letters = ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
    text = ""
    for value, letter in zip(values, letters, strict=True):
        text += letter * (count // value)
        count %= value
    return text
