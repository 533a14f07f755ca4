"""From a tree of HTML to blocks: for web pages, chapters of e-books and mails.

The tree is walked without recursion, so that depth is no danger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sourcebook import DocumentWriter, Place
from sourcebook.documents import BlockKind
from sourcebook.errors import LimitExceeded

Node = Any
"""A selectolax node: its stubs are as dynamic as its trees."""

# What holds no text for a reader: code, forms' controls, media (whose fallback says that it cannot be shown).
_SKIPPED = {
    *("script", "style", "template", "noscript", "head", "title", "iframe", "object", "embed", "audio", "video"),
    *("canvas", "svg", "button", "select", "textarea", "datalist", "annotation", "annotation-xml", "rp", "rt"),
}
_HEADINGS = {f"h{i}": i for i in range(1, 7)}
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt"),
    *("fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "html", "legend", "li", "main"),
    *("menu", "nav", "ol", "p", "pre", "section", "summary", "table", "ul", "caption", "search", "optgroup"),
    *("td", "th", "tr", "tbody", "thead", "tfoot", *_HEADINGS),
}
_LISTS = {"ul", "ol", "menu"}
_CAPTIONS = {"figcaption", "caption"}
_SPACE = re.compile("[ \t\n\r\f\u00a0\u200b]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_FENCES = re.compile(r"^[ \t]*(`{3,})", re.MULTILINE)
_COLUMNS, _ROWS = 200, 2000  # that a cell may span
_LABEL = 80  # characters; a longer text over several rows is a layout, not their label
_DEEPEST = 5000  # open elements; browsers stop at 512, and a parser's time grows with the square
_NESTING = re.compile(r"<(/?)(?:div|span|section|table|b|i|em|font|a|ul|ol|blockquote|small|big|form|u|s)\b", re.I)


def parse_html(text: str) -> Node:
    """The tree of a page. Raises `LimitExceeded` for one nested so deeply that it can only be meant to hurt."""
    from selectolax.lexbor import LexborHTMLParser

    depth = 0
    if text.count("<") > _DEEPEST:
        for match in _NESTING.finditer(text):
            depth = max(depth - 1, 0) if match.group(1) else depth + 1
            if depth > _DEEPEST:
                said = f"The page nests more than {_DEEPEST:,} elements."
                raise LimitExceeded(said, code="nested_too_deeply", limit=_DEEPEST)
    return LexborHTMLParser(text)


def walk(root: Node) -> Iterator[tuple[Node, bool]]:
    """(node, entering) for everything below `root`. Send True to leave out what is below the node just entered."""
    node, depth = root.child, 0
    while node is not None:
        skip = yield node, True
        below = None if skip else node.child
        if below is not None:
            node, depth = below, depth + 1
            continue
        yield node, False
        while node.next is None:
            if depth == 0:
                return
            node, depth = node.parent, depth - 1
            yield node, False
        node = node.next


def hidden(node: Node) -> bool:
    """Whether an element is not shown."""
    attributes = node.attributes
    if not attributes:
        return False
    style = attributes.get("style")
    return "hidden" in attributes or (style is not None and _HIDDEN.search(style) is not None)


class Markup:
    """Writes one tree. `base` is what every place says beside the path of headings and the number of the block.

    `navigation`: whether menus and a page's footer are read too.
    """

    def __init__(self, out: DocumentWriter, base: Mapping[str, Any] | None = None, *, navigation: bool = False) -> None:
        self.out = out
        self.navigation = navigation
        self.base = dict(base or {})
        self.path: list[tuple[int, str]] = []
        self.number = 0
        self.first_heading = ""
        self._text: list[str] = []
        self._lists: list[int | None] = []  # per open list: the last number, or None for bullets
        self._item = ""  # the mark of the open list item whose text is not yet written
        self._level = 0  # of the open heading
        self._caption = False

    def write(self, root: Node) -> None:
        """Write everything below `root`."""
        events: Any = walk(root)
        skip = False
        while True:
            try:
                node, entering = events.send(True) if skip else next(events)
            except StopIteration:
                break
            skip = entering and self._enter(node)
            if not entering:
                self._leave(node.tag)
        self._flush()

    def _enter(self, node: Node) -> bool:
        """Take a node in; True where what is below it is not to be walked."""
        tag = node.tag
        if tag == "-text":
            self._text.append(node.text_content or "")
            return False
        if tag in _SKIPPED or not tag or tag[0] in "-_!" or self._unread(node, tag) or hidden(node):
            return True
        if tag == "br":
            self._text.append("\x00")
        elif tag == "img":
            self._text.append(f" {node.attributes.get('alt') or ''} ")
        elif tag in _BLOCKS:
            return self._open(node, tag)
        return False

    def _open(self, node: Node, tag: str) -> bool:
        self._flush()
        if tag in _LISTS:
            start = node.attributes.get("start") or "1"
            number = int(start) - 1 if start.isascii() and start.isdigit() and len(start) < 8 else 0
            self._lists.append(number if tag == "ol" else None)
        elif tag == "li":
            self._item = self._mark()
        elif tag == "pre":
            self._code(node)
            return True
        elif tag == "table" and not _is_layout(node):
            self._table(node)
            return True
        self._level = _HEADINGS.get(tag, self._level)
        self._caption = self._caption or tag in _CAPTIONS
        return False

    def _leave(self, tag: str) -> None:
        if tag not in _BLOCKS:
            return
        self._flush()
        if tag in _LISTS and self._lists:
            self._lists.pop()
        elif tag == "li":
            self._item = ""
        elif tag in _HEADINGS:
            self._level = 0
        elif tag in _CAPTIONS:
            self._caption = False

    def _unread(self, node: Node, tag: str) -> bool:
        """Menus, and the footer of the page itself; an article's own footer is part of it."""
        if self.navigation:
            return False
        if tag == "nav" or node.attributes.get("role") in ("navigation", "contentinfo"):
            return True
        return tag == "footer" and node.parent is not None and node.parent.tag == "body"

    def _mark(self) -> str:
        number = self._lists[-1] if self._lists else None
        if number is None:
            return "- "
        self._lists[-1] = number + 1
        return f"{number + 1}. "

    def _flush(self) -> None:
        text = collapsed("".join(self._text))
        self._text = []
        if not text:
            return
        if self._level:
            self._heading(text)
        elif self._lists or self._item:
            depth = max(len(self._lists) - 1, 0)
            mark, self._item = self._item or "  ", ""  # a second paragraph of an item hangs below its first
            indent = "  " * min(depth, 20)
            hanging = "\n" + indent + " " * len(mark)
            self._block(indent + mark + hanging.join(text.split("\n")), "list_item", depth)
        else:
            self._block(text, "caption" if self._caption else "paragraph")

    def _heading(self, text: str) -> None:
        text = " ".join(text.split())
        while self.path and self.path[-1][0] >= self._level:
            self.path.pop()
        self.path.append((self._level, text))
        self.first_heading = self.first_heading or text
        self._block(text, "heading", self._level)

    def _code(self, node: Node) -> None:
        code = (node.text() or "").strip("\n").rstrip()
        if code.strip():
            # A longer fence than any inside: what the model reads must parse as it did.
            fence = "`" * max(max((len(run) for run in _FENCES.findall(code)), default=2) + 1, 3)
            self._block(f"{fence}\n{code}\n{fence}", "code")

    def _table(self, table: Node) -> None:
        self.out.end_table()
        above: dict[int, tuple[str, int]] = {}  # by column: what spans down into the next row, and for how many rows
        begun = False
        for row in _rows(table):
            if row.tag == "caption":
                if text := collapsed(flat(row)):
                    self._block(text, "caption")
                continue
            texts, headed = _cells(row, above)
            if any(texts):
                self.number += 1
                self.out.row(texts, self._place(), header=not begun and headed)
                begun = True
        self.out.end_table()

    def _block(self, text: str, kind: BlockKind, level: int = 0) -> None:
        self.number += 1
        self.out.block([(text, self._place())], kind, level)

    def _place(self) -> Place:
        path = tuple(title for _, title in self.path) or None
        return Place(**self.base, path=path, paragraph=self.number)


def collapsed(text: str) -> str:
    """White space as a browser shows it; line breaks (NUL here) kept."""
    lines = (_SPACE.sub(" ", line).strip() for line in text.split("\x00"))
    return "\n".join(line for line in lines if line)


def flat(node: Node) -> str:
    """All shown text below a node, with a break (NUL) where a block begins or ends."""
    parts: list[str] = []
    events: Any = walk(node)
    skip = False
    while True:
        try:
            inner, entering = events.send(True) if skip else next(events)
        except StopIteration:
            return "".join(parts)
        tag, skip = inner.tag, False
        if tag == "-text":
            if entering:
                parts.append(inner.text_content or "")
            continue
        if tag in _BLOCKS or tag == "br":
            parts.append("\x00")
        elif entering and tag == "img":
            parts.append(f" {inner.attributes.get('alt') or ''} ")
        skip = entering and (not tag or tag in _SKIPPED or tag[0] in "-_!" or hidden(inner))


def _is_layout(table: Node) -> bool:
    """A table that holds another, or has one column only, is a frame around text."""
    if table.css_first("table table") is not None or table.attributes.get("role") == "presentation":
        return True
    return all(len([c for c in row.iter() if c.tag in ("td", "th")]) < 2 for row in table.css("tr"))


def _rows(table: Node) -> Iterator[Node]:
    """The caption and the rows, in order."""
    for child in table.iter():
        if child.tag in ("thead", "tbody", "tfoot"):
            yield from (row for row in child.iter() if row.tag == "tr")
        elif child.tag in ("tr", "caption"):
            yield child


def _cells(row: Node, above: dict[int, tuple[str, int]]) -> tuple[list[str], bool]:
    """The texts of a row, one a column, and whether it names the columns."""
    texts: list[str] = []
    kinds: list[str] = []
    for cell in row.iter():
        if cell.tag not in ("td", "th") or hidden(cell):
            continue
        _inherit(texts, above)
        kinds.append(cell.tag)
        text = " ".join(collapsed(flat(cell)).split("\n"))
        wide, high = _span(cell, "colspan", _COLUMNS), _span(cell, "rowspan", _ROWS)
        for i in range(min(wide, _COLUMNS - len(texts))):
            if high > 1:
                above[len(texts)] = (text if i == 0 and len(text) <= _LABEL else "", high - 1)
            texts.append(text if i == 0 else "")
    _inherit(texts, above)
    headed = row.parent is not None and row.parent.tag == "thead"
    return texts, headed or (bool(kinds) and all(kind == "th" for kind in kinds))


def _inherit(texts: list[str], above: dict[int, tuple[str, int]]) -> None:
    """Go on with the cells that span down into this row."""
    while (found := above.get(len(texts))) is not None and len(texts) < _COLUMNS:
        text, left = found
        if left > 1:
            above[len(texts)] = (text, left - 1)
        else:
            del above[len(texts)]
        texts.append(text)


def _span(cell: Node, name: str, most: int) -> int:
    value = cell.attributes.get(name) or "1"
    return min(max(int(value), 1), most) if value.isascii() and value.isdigit() and len(value) < 8 else 1
