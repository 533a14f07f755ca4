"""Which chip gets which citation, in whatever order text and citations come."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import Visit
from .serving import Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

PIECES = [
    "[1] and - [2]\n\n",
    "The harbour closes at ten [",
    "1]. The 😀 lamp is green [1, ",
    "2]. It burns [2][2]. Who [7",
    "]?",
]
TEXT = "".join(PIECES)
SENTENCES = [
    (1, "The harbour closes at ten"),
    (1, "The 😀 lamp is green"),
    (2, "The 😀 lamp is green"),
    (2, "It burns"),
    (2, "It burns"),
]
CITATIONS = [
    {
        "id": f"cit_{at}",
        "n": n,
        "source_name": f"source {at}",
        "quote": words,
        "supported": at != 1,
        "answer_start": TEXT.index(words),
        "answer_end": TEXT.index(words) + len(words),
    }
    for at, (n, words) in enumerate(SENTENCES)
]

_WRITTEN = """async ([steps, text]) => {
  const { Writer } = await import('/static/writer.js');
  const body = document.createElement('div');
  const writer = new Writer(body, 'nb', () => {});
  for (const step of steps) {
    if (step === null) writer.write(4000);
    else if (typeof step === 'string') writer.add(step);
    else writer.cite(step);
  }
  writer.settle();
  return [body.textContent, [...body.querySelectorAll('.chip')].map(chip => chip.getAttribute('aria-label')),
    [...body.querySelectorAll('.doubt')].map(one => one.textContent).join('')];
}"""
_RENDERED = """async ([html, citations, text]) => {
  const { byMarker, chipped } = await import('/static/citations.js');
  const { trusted } = await import('/static/dom.js');
  const body = document.createElement('div');
  body.append(trusted(html));
  chipped(body, citations, 'nb', text, byMarker(text, citations));
  return [body.textContent, [...body.querySelectorAll('.chip')].map(chip => chip.getAttribute('aria-label')),
    [...body.querySelectorAll('.doubt')].map(one => one.textContent).join('')];
}"""


@pytest.fixture
def page(visit: Visit, plain: Sourcebook) -> Page:
    return visit(plain).go()


def check(told: Any, text: str) -> None:
    """Every chip has its own, what is no citation stays text, and one sentence is doubted."""
    shown, labels, doubted = told
    assert [label.split(".")[0] for label in labels] == [
        f"Citation {n}: source {at}" for at, (n, _) in enumerate(SENTENCES)
    ]
    assert "".join(shown.split()) == "".join(text.split())
    assert doubted.strip() == "The 😀 lamp is green"


def test_a_streamed_answer_gives_each_citation_to_its_marker(page: Page) -> None:
    plain = "[1] and - [2]The harbour closes at ten1. The 😀 lamp is green12. It burns22. Who [7]?"
    pieces: list[Any] = [step for piece in PIECES for step in (piece, None)]
    for order in [*permutations(CITATIONS)][::7]:
        # Two citations of one sentence with one number are told apart by their order alone.
        if order.index(CITATIONS[3]) > order.index(CITATIONS[4]):
            continue
        for steps in ([*order, TEXT], [TEXT, None, *order], [*order[:2], *pieces, *order[2:], *order]):
            check(page.evaluate(_WRITTEN, [steps, TEXT]), plain)


def test_a_citation_comes_as_soon_as_its_marker_closes(page: Page) -> None:
    first, second, third, *others = CITATIONS
    steps = [*PIECES[:3], None, first, second, *PIECES[3:], None, third, *others]
    told = page.evaluate(_WRITTEN, [steps, TEXT])
    check(told, "[1] and - [2]The harbour closes at ten1. The 😀 lamp is green12. It burns22. Who [7]?")


def test_a_rendered_answer_gives_the_same(page: Page, plain: Sourcebook) -> None:
    html = plain.made("/markdown", {"text": TEXT})["html"]
    told = page.evaluate(_RENDERED, [html, CITATIONS, TEXT])
    check(told, "[1] and - [2]The harbour closes at ten1. The 😀 lamp is green12. It burns22. Who [7]?")


def test_markers_in_code_are_counted_and_stay_code(page: Page, plain: Sourcebook) -> None:
    text = "It is `bells[1]` there [1]. The lamp is green [1]."
    where = [("It is `bells", "bells"), ("It is `bells[1]` there", "there"), ("The lamp is green", "green")]
    citations = [
        {**CITATIONS[0], "id": name, "source_name": name, "answer_start": text.index(words)}
        | {"answer_end": text.index(words) + len(words)}
        for words, name in where
    ]
    html = plain.made("/markdown", {"text": text})["html"]
    shown, labels, _ = page.evaluate(_RENDERED, [html, citations, text])
    assert labels == ["Citation 1: there", "Citation 1: green"]
    assert shown.strip() == "It is bells[1] there1. The lamp is green1."
