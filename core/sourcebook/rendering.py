"""Markdown of a model or a source as HTML that can do nothing: no raw HTML, no images, links only where they say.

Images are what data is carried out with (the browser fetches them unasked), and a link reference definition could turn
a `[1]` of ours into a link of the model's. So neither exists here, and every link shows its host.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sourcebook.hidden import without_hidden

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token

MOST = 200_000
"""Characters; a longer text is not rendered, since whoever renders it would have to wait."""

_SCHEMES = ("http", "https", "mailto")
_RULES_OFF = ("image", "reference", "html_block", "html_inline", "entity")


def to_html(markdown: str) -> str | None:
    """The HTML of a text, or None where it is over `MOST`. CommonMark with tables and strikethrough.

    It holds no attribute but `href`, `rel`, `class` (a fence's language), `start` and a table's alignment, and no
    scheme but http, https and mailto. It is to be put into a page as it is; there is nothing to sanitise after it.
    """
    if len(markdown) > MOST:
        return None
    return str(_renderer().render(without_hidden(markdown)))


def parsed(markdown: str) -> list[Token]:
    """The blocks of a text as `to_html` reads them, for whoever writes them in another form."""
    return _renderer().parse(markdown)


@cache
def _renderer() -> MarkdownIt:
    """Built once: it holds rules and no text."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False, "maxNesting": 20})
    made.enable(["table", "strikethrough"]).disable(_RULES_OFF)
    made.validateLink = is_safe  # type: ignore[method-assign]  # the library's own way to replace it
    made.add_render_rule("link_open", _link_open)
    made.add_render_rule("link_close", _link_close)
    made.add_render_rule("fence", _fence)
    return made


def is_safe(url: str) -> bool:
    """Whether a link may lead there."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    if parts.scheme.lower() == "mailto":
        return bool(parts.path)
    # A name with a password or a user in it is there to look like another host.
    return parts.scheme.lower() in _SCHEMES and bool(parts.hostname) and "@" not in parts.netloc and "\\" not in url


def _link_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    href = str(tokens[index].attrGet("href") or "")
    return f'<a href="{escape(href)}" rel="noopener noreferrer nofollow ugc">'


def _link_close(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """The host behind the text, unless the text is the address itself."""
    opened = max(i for i in range(index) if tokens[i].type == "link_open" and tokens[i].level == tokens[index].level)
    href = str(tokens[opened].attrGet("href") or "")
    text = "".join(t.content for t in tokens[opened + 1 : index])
    host = urlsplit(href).hostname or href.partition(":")[2].partition("?")[0]
    return "</a>" if text.strip() == href else f"</a> ({escape(host)})"


def _fence(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Only a language's name becomes a class."""
    token = tokens[index]
    language = token.info.strip().split(maxsplit=1)[0] if token.info.strip() else ""
    kind = f' class="language-{language}"' if language.isalnum() and language.isascii() else ""
    return f"<pre><code{kind}>{escape(token.content)}</code></pre>\n"
