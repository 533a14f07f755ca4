"""HTML pages, read as a browser reads them: lexbor's parser never refuses one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, hookimpl
from sourcebook.errors import NoText
from sourcebook_plugins.markup import Markup, Node, parse_html
from sourcebook_plugins.text import decode

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"^\s*<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:-]{2,40})")
_DECLARED_WITHIN = 4096  # bytes; the standard looks at 1024, and pages put comments before
_SOME_WORDS = 20  # a part with fewer is a frame that scripts fill
_NAMES = {
    "author": "authors", "article:author": "authors", "dc.creator": "authors", "citation_author": "authors",
    "description": "description", "og:description": "description", "keywords": "keywords",
    "date": "created", "dc.date": "created", "article:published_time": "created", "article:modified_time": "modified",
    "og:url": "url", "og:title": "title", "language": "language", "og:site_name": "site",
}  # fmt: skip


class HtmlSettings(ComponentSettings):
    """`navigation`: whether menus (`nav`) and the page's own footer are read too.

    `main`: read only the part that a page marks as its main one, where it marks one with text in it.
    """

    navigation: bool = False
    main: bool = True


class HtmlParser(Parser[HtmlSettings]):
    """Reads what a page shows: headings, paragraphs, lists, tables, code, captions; scripts and menus are left out.

    A locator is the path of headings and the number of the block. Raises `Malformed` for binary data, `LimitExceeded`
    for one nested to hurt, and `NoText`.
    """

    name = "html"
    Settings = HtmlSettings
    media_types = ("text/html", "application/xhtml+xml")
    extensions = (".html", ".htm", ".xhtml", ".xht")
    preload = ("selectolax.lexbor", "sourcebook_plugins.markup")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        data = file.read()
        tree = parse_html(decode(data, out, declared_encoding(data)))
        markup = Markup(out, navigation=self.settings.navigation)
        main = main_part(tree) if self.settings.main else None
        if main is not None or tree.body is not None:
            markup.write(main if main is not None else tree.body)
        if not markup.number:
            raise NoText("The page holds no text.", remedy="If scripts write it, save the page from a browser.")
        out.meta(**{"title": markup.first_heading, **metadata(tree)})


def main_part(tree: Node) -> Node | None:
    """What the page says is its main content: the one `main` element or landmark, else the one `article`.

    None where there is no such part, several, or one without text: then the whole page is read. HTML Living Standard,
    4.4.14 (there must not be more than one visible `main`) and 4.3.2.
    """
    for selector in ("main", '[role="main"]', "article"):
        found = tree.css(selector)
        if len(found) == 1 and len((found[0].text() or "").split()) >= _SOME_WORDS:
            return found[0]
    return None


def declared_encoding(data: bytes) -> str:
    """The encoding that a page names in its first bytes; "" where it names none."""
    head = data[:_DECLARED_WITHIN]
    match = _XML_ENCODING.match(head) or _CHARSET.search(head)
    return match.group(1).decode("ascii") if match else ""


def metadata(tree: Node) -> dict[str, Any]:
    """Title, authors, dates, language... as the head of a page names them, under the names of our metadata."""
    found: dict[str, Any] = {}
    title = tree.css_first("head > title, title")
    if title is not None and (text := " ".join((title.text() or "").split())):
        found["title"] = text
    for meta in tree.css("meta"):
        attributes = meta.attributes
        name = _NAMES.get((attributes.get("name") or attributes.get("property") or "").lower())
        content = " ".join((attributes.get("content") or "").split())
        if not name or not content:
            continue
        if name == "authors":
            found.setdefault("authors", [])
            if content not in found["authors"]:
                found["authors"].append(content)
        else:
            found.setdefault(name, content)
    canonical = tree.css_first('link[rel="canonical"]')
    if canonical is not None and canonical.attributes.get("href"):
        found["url"] = canonical.attributes["href"]
    root = tree.root.attributes if tree.root is not None else {}
    language = root.get("lang") or root.get("xml:lang")
    return {**found, **({"language": language} if language else {})}


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """HTML."""
    return [HtmlParser]
