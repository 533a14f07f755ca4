"""Markdown: CommonMark with tables and strikethrough; marks reduced to their text, structure kept as blocks."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook_plugins.text import decode, write_paragraphs

if TYPE_CHECKING:
    from markdown_it.token import Token

    from sourcebook.documents import BlockKind

_DEEPEST = 100  # of the reader's levels; a list takes two, and the reader recurses
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FIELD = re.compile(r"^([A-Za-z_][\w-]*):[ \t]*(.*)$|^[ \t]*-[ \t]+(.+)$", re.MULTILINE)
_NAMES = {"title": "title", "author": "authors", "authors": "authors", "date": "created", "lang": "language"}
_NAMES |= {"language": "language", "description": "description", "tags": "keywords", "keywords": "keywords"}
_UNSEEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_ITEM = re.compile(r"<li\b[^<>]*>", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>|</(?:p|div|li|tr|h[1-6])\s*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")


class MarkdownParser(Parser[ComponentSettings]):
    """Reads Markdown. Code keeps its fence and language, lists their marks, tables become pipe tables.

    A locator is the path of headings and the number of the block in the file.
    """

    name = "markdown"
    media_types = ("text/markdown", "text/x-markdown")
    extensions = (".md", ".markdown")
    preload = ("markdown_it", "markdown_it.presets.commonmark")
    memory_safe = True

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """Raises `Malformed` for binary data, `NoText` for a blank file."""
        from markdown_it import MarkdownIt

        text = decode(file.read(), out)
        if (matter := _FRONT_MATTER.match(text)) is not None:
            fields = _fields(matter.group(1))
            out.meta(**fields)
            text = text[matter.end() :]
        reader = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable(["table", "strikethrough"])
        tokens = reader.parse(text)
        if any(token.level >= _DEEPEST - 2 for token in tokens):
            # The reader drops what is nested deeper, so the file is read as it stands.
            out.warn("nested_too_deep", "The lists or quotations are nested too deeply: read as plain text.")
            write_paragraphs(text, out)
            return
        _Writing(out, titled=matter is not None and "title" in fields).tokens(tokens)


class _Writing:
    """Goes over markdown-it's flat list of tokens with the open lists, the headings above and a count of blocks."""

    def __init__(self, out: DocumentWriter, titled: bool) -> None:
        self.out = out
        self.titled = titled
        self.path: list[tuple[int, str]] = []
        self.number = 0
        self.lists: list[int | None] = []  # per open list: the next number, or None for bullets
        self.item: list[str] | None = None  # the paragraphs of the open list item, not yet written
        self.mark = ""
        self.cells: list[str] = []
        self.header = False

    def tokens(self, tokens: Sequence[Token]) -> None:
        for i, token in enumerate(tokens):
            match token.type:
                case "inline":
                    self._inline(tokens[i - 1], _text(token))
                case "fence" | "code_block":
                    self._code(token)
                case "html_block":
                    self._paragraph(_without_tags(token.content))
                case "bullet_list_open" | "ordered_list_open":
                    self._write_item()
                    start = token.attrGet("start")  # absent where it is 1
                    self.lists.append(None if token.type[0] == "b" else 1 if start is None else int(start))
                case "bullet_list_close" | "ordered_list_close":
                    self.lists.pop()
                case "list_item_open":
                    self._open_item()
                case "list_item_close":
                    self._write_item()
                case _:
                    self._table(token.type)

    def _inline(self, opening: Token, text: str) -> None:
        if opening.type == "heading_open":
            self._heading(int(opening.tag[1]), text)
        elif opening.type in ("th_open", "td_open"):
            self.cells.append(text)
        else:
            self._paragraph(text)

    def _heading(self, level: int, text: str) -> None:
        text = " ".join(text.split())
        if not text:
            return
        self._write_item()
        while self.path and self.path[-1][0] >= level:
            self.path.pop()
        self.path.append((level, text))
        if level == 1 and not self.titled:
            self.titled = True
            self.out.meta(title=text)
        self._block(text, "heading", level)

    def _paragraph(self, text: str) -> None:
        if self.item is not None:
            self.item.append(text)
        else:
            self._block(text, "paragraph")

    def _open_item(self) -> None:
        number = self.lists[-1]
        self.mark = "- " if number is None else f"{number}. "
        if number is not None:
            self.lists[-1] = number + 1
        self.item = []

    def _write_item(self) -> None:
        """Write the open item's own text: at its end, or where a list, code or table inside it begins."""
        if self.item is None:
            return
        indent = "  " * (len(self.lists) - 1)
        hanging = "\n" + indent + " " * len(self.mark)
        text = hanging.join(line for part in self.item for line in part.split("\n") if line.strip())
        if text:
            self._block(indent + self.mark + text, "list_item", len(self.lists) - 1)
        self.item = None

    def _code(self, token: Token) -> None:
        self._write_item()
        # A longer fence than any inside: what the model reads must parse as it did.
        longest = max((len(run) for run in re.findall(r"^[ \t]*(`{3,})", token.content, re.MULTILINE)), default=2)
        fence = "`" * max(longest + 1, 3)
        language = token.info.split()[0] if token.info.split() else ""
        if token.content.strip():
            self._block(f"{fence}{language}\n{token.content.rstrip()}\n{fence}", "code")

    def _table(self, kind: str) -> None:
        if kind == "table_open":
            self._write_item()
        elif kind == "thead_open":
            self.header = True
        elif kind == "tr_close":
            self.number += 1
            self.out.row(self.cells, self._place(), header=self.header)
            self.cells, self.header = [], False
        elif kind == "table_close":
            self.out.end_table()

    def _block(self, text: str, kind: BlockKind, level: int = 0) -> None:
        if text.strip():
            self.number += 1
            self.out.block([(text, self._place())], kind, level)

    def _place(self) -> Place:
        return Place(path=tuple(title for _, title in self.path) or None, paragraph=self.number)


def _text(inline: Token) -> str:
    """The words of an inline token: link texts, code and image descriptions kept, marks and tags left out."""
    parts: list[str] = []
    for token in inline.children or ():
        if token.type in ("text", "code_inline", "image"):
            parts.append(token.content)
        elif token.type == "softbreak":
            parts.append(" ")
        elif token.type == "hardbreak" or (token.type == "html_inline" and _BREAK.match(token.content)):
            parts.append("\n")
    return "".join(parts)


def _without_tags(source: str) -> str:
    text = _TAG.sub("", _BREAK.sub("\n", _ITEM.sub("\n- ", _UNSEEN.sub("", source))))
    return "\n".join(line.strip() for line in html.unescape(text).split("\n") if line.strip())


def _fields(matter: str) -> dict[str, Any]:
    """Simple `key: value` lines and lists; what else YAML can say is left out."""
    fields: dict[str, Any] = {}
    open_list = ""
    for key, value, entry in _FIELD.findall(matter):
        if entry and open_list:
            fields.setdefault(open_list, []).append(_unquoted(entry))
        elif key:
            name = _NAMES.get(key.lower(), "")
            open_list = name if not value.strip() else ""
            if name and value.strip():
                fields[name] = _value(name, value.strip())
    return fields


def _value(name: str, value: str) -> str | list[str]:
    if value.startswith("[") and value.endswith("]"):
        return [_unquoted(part) for part in value[1:-1].split(",") if part.strip()]
    return [_unquoted(value)] if name == "authors" else _unquoted(value)


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """Markdown."""
    return [MarkdownParser]
