"""Markdown becomes blocks; its marks become structure."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sourcebook import ComponentSettings, Document
from sourcebook.errors import NoText
from sourcebook.testing.parsers import ParserContract, parse
from sourcebook_plugins.markdown import MarkdownParser

SAMPLE = """\
---
title: "Plants at home"
author: Ann Lee
tags: [ferns, care]
unknown: {a: 1}
---
# Care *of* ferns

Water [every day](https://example.org "x"), with `care`,
and ~~never~~ ![a can](can.png) often.<br>Really.

## Light

- bright
  - not **direct**

    nor hot
- dark
3. three
4. four

| plant | a\\|b |
|-------|:----:|
| fern  | *2*  |

```python
def f():
    return "```"
```

    indented

> quoted text

<div><b>raw</b> html<!-- hidden --><script>alert(1)</script></div>
"""


def parser() -> MarkdownParser:
    return MarkdownParser(ComponentSettings())


def read(text: str) -> Document:
    return parse(parser(), text.encode())


def blocks(document: Document) -> list[tuple[str, int, str]]:
    return [(b.kind, b.level, document.text[b.start : b.end]) for b in document.blocks if b.kind != "table"]


class TestMarkdown(ParserContract):
    def parser(self) -> MarkdownParser:
        return parser()

    def samples(self) -> Mapping[str, bytes]:
        return {"sample.md": SAMPLE.encode(), "latin.md": "# Größe\n\nÄpfel".encode("cp1252")}


def test_every_kind_of_block_is_told_apart_and_its_marks_are_gone() -> None:
    assert blocks(read(SAMPLE)) == [
        ("heading", 1, "Care of ferns"),
        ("paragraph", 0, "Water every day, with care, and never a can often.\nReally."),
        ("heading", 2, "Light"),
        ("list_item", 0, "- bright"),
        ("list_item", 1, "  - not direct\n    nor hot"),
        ("list_item", 0, "- dark"),
        ("list_item", 0, "3. three"),
        ("list_item", 0, "4. four"),
        ("table_row", 0, "| plant | a\\|b |\n| --- | --- |"),
        ("table_row", 0, "| fern | 2 |"),
        ("code", 0, '```python\ndef f():\n    return "```"\n```'),
        ("code", 0, "```\nindented\n```"),
        ("paragraph", 0, "quoted text"),
        ("paragraph", 0, "raw html"),
    ]


def test_front_matter_is_metadata_and_not_text() -> None:
    document = read(SAMPLE)
    assert document.metadata == {"title": "Plants at home", "authors": ["Ann Lee"], "keywords": ["ferns", "care"]}
    assert "unknown" not in document.text


def test_authors_may_stand_in_a_list_below_their_key() -> None:
    document = read("---\nauthors:\n  - Ann\n  - 'Bob'\ndate: 2024-05-01\n---\ntext")
    assert document.metadata == {"authors": ["Ann", "Bob"], "created": "2024-05-01"}


def test_a_rule_at_the_start_is_no_front_matter() -> None:
    assert read("---\n\nafter a rule").text == "after a rule"


def test_the_first_top_heading_is_the_title_where_there_is_no_other() -> None:
    assert read("intro\n\n# One\n\n# Two").metadata == {"title": "One"}


def test_a_locator_is_the_path_of_headings_and_the_number_of_the_block() -> None:
    document = read("start\n\n# A\n\n## B\n\ntext\n\n### C\n\n## D\n\nlast")
    assert [(x.place.path, x.place.paragraph) for x in document.locators] == [
        (None, 1),
        (("A",), 2),
        (("A", "B"), 3),
        (("A", "B"), 4),
        (("A", "B", "C"), 5),
        (("A", "D"), 6),
        (("A", "D"), 7),
    ]


def test_a_fence_is_longer_than_any_inside_it() -> None:
    text = read("~~~md\n````\ninner\n````\n~~~").text
    assert text == "`````md\n````\ninner\n````\n`````"


def test_two_tables_in_a_row_stay_two() -> None:
    document = read("|a|\n|-|\n|1|\n\n|b|\n|-|\n|2|")
    assert [b.kind for b in document.blocks].count("table") == 2


def test_html_alone_keeps_its_words() -> None:
    assert read("<ul>\n<li>one &amp; 1</li>\n<li>two</li>\n</ul>").text == "- one & 1\n- two"


def test_what_has_only_marks_has_no_text() -> None:
    assert read("***\n\n<!-- nothing -->").text == ""
    with pytest.raises(NoText):
        read("   \n")


@pytest.mark.parametrize("deep", ["> " * 5000 + "deep", "\n".join("  " * n + "- deep" for n in range(200))])
def test_what_is_nested_too_deeply_is_read_as_plain_text(deep: str) -> None:
    document = read(deep + "\n\nend")
    assert "deep" in document.text
    assert document.text.endswith("end")
    assert [w.code for w in document.warnings] == ["nested_too_deep"]


def test_moderate_nesting_is_read_as_markdown() -> None:
    document = read("> " * 40 + "deep")
    assert (document.text, document.warnings) == ("deep", ())
