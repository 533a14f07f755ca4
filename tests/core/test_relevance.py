"""What has to do with the question, and what is merely the best of a bad lot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from sourcebook.documents import Passage
from sourcebook.relevance import relevant

WORDS = {"words": 0.35}


def passage(text: str, title: str = "", scores: Mapping[str, float] | None = None) -> Passage:
    found = Passage("p", "s", "n", "d", "g", 0, 0, len(text), text, title=title)
    return replace(found, scores=scores or {})


@pytest.mark.parametrize(
    ("question", "text", "fits"),
    [
        ("When does the harbour close?", "The harbour closes at ten.", True),
        ("When does the harbour close?", "Roses need water in the evening.", False),
        ("Who composed the opera about beekeepers?", "The harbour closes at ten.", False),
        ("Wann schließt der Hafen?", "Der Hafen schließt um zehn.", True),
        ("港口什么时候关闭？", "港口晚上十点关闭。", True),
        ("What is it?", "Anything at all.", True),  # nothing to go by
    ],
)
def test_a_passage_needs_a_share_of_what_is_asked(question: str, text: str, fits: bool) -> None:
    assert bool(relevant(question, [passage(text)], WORDS)) is fits


def test_a_title_or_a_heading_counts() -> None:
    assert relevant("When does the harbour close?", [passage("At ten.", "Harbour, closing hours")], WORDS)


def test_what_was_found_by_meaning_is_held_against_that_score_alone() -> None:
    far, near = (
        passage("Rosen brauchen Wasser.", scores={"dense:m": 0.2}),
        passage("x", scores={"dense:m@q": 0.8, "lexical": 1.0}),
    )
    question = "What do roses need?"
    assert relevant(question, [far, near], WORDS) == (far, near)
    assert relevant(question, [far, near], {**WORDS, "dense": 0.5}) == (near,)
    assert relevant(question, [far, near], {}) == (far, near)


def test_the_order_stays() -> None:
    found = [passage(f"The harbour closes at {n}.") for n in range(5)]
    assert relevant("When does the harbour close?", found, WORDS) == tuple(found)
