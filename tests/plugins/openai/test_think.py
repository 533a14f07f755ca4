from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.events import Reasoning, Text
from sourcebook_plugins.openai.think import ThinkSplitter, ThinkTags


def split(*pieces: str, mode: ThinkTags = "auto", cut: bool = False) -> tuple[str, str]:
    splitter = ThinkSplitter(mode)
    found = [delta for piece in pieces for delta in splitter.feed(piece)] + splitter.end(cut)
    assert all(delta.text for delta in found)
    thoughts = "".join(d.text for d in found if isinstance(d, Reasoning))
    return thoughts, "".join(d.text for d in found if isinstance(d, Text))


CASES = {
    "none": ("answer", ("", "answer")),
    "both": ("<think>hm</think>answer", ("hm", "answer")),
    "long_tag": ("<thinking>hm</thinking>answer", ("hm", "answer")),
    "mistral": ("[THINK]hm[/THINK]answer", ("hm", "answer")),
    "white_space_around": ("\n <think>\nhm\n</think>\n\nanswer ", ("\nhm\n", "answer ")),
    "empty_thoughts": ("<think>\n\n</think>\n\nanswer", ("\n\n", "answer")),
    "not_at_the_start": ("see <think>hm</think>", ("", "see <think>hm</think>")),
    "almost_a_tag": ("<thin ice>", ("", "<thin ice>")),
    "a_beginning_of_a_tag_alone": ("<thi", ("", "<thi")),
    "only_white_space": ("  \n", ("", "  \n")),
    "a_comparison_in_the_thoughts": ("<think>a < b </ c</think>x", ("a < b </ c", "x")),
    "quoted_in_the_thoughts": ("<think>the tag `</think>` ends it</think>x", ("the tag `</think>` ends it", "x")),
    "a_quote_that_only_ends": ("<think>say `hm`</think>x", ("say `hm`", "x")),
    "a_quote_at_the_very_end": ("<think>say `hm`</think>", ("say `hm`", "")),
    "a_second_pair_is_answer": ("<think>a</think>b<think>c</think>", ("a", "b<think>c</think>")),
    "never_closed": ("<think>this is all", ("this is all", "this is all")),
    "closed_by_half": ("<think>this</thi", ("this</thi", "this</thi")),
    "tag_alone": ("<think>", ("", "")),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_thoughts_and_answer_are_told_apart_however_they_are_cut(text: str, expected: tuple[str, str]) -> None:
    assert split(text) == expected
    assert split(*text) == expected
    for at in range(1, len(text)):
        assert split(text[:at], text[at:]) == expected


def test_off_touches_nothing() -> None:
    assert split("<think>a</think>b", mode="off") == ("", "<think>a</think>b")


def test_open_begins_inside_for_templates_that_write_the_tag_themselves() -> None:
    assert split("hm</th", "ink>answer", mode="open") == ("hm", "answer")
    assert split("answer without thoughts", mode="open")[1] == "answer without thoughts"


def test_thoughts_cut_by_the_length_limit_are_not_given_back_as_an_answer() -> None:
    assert split("<think>so long", cut=True) == ("so long", "")


def test_no_more_is_held_back_than_may_still_be_a_tag() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("<think>abc</thin") == [Reasoning("abc")]
    assert splitter.feed("g>") == [Reasoning("</thing>")]


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "`", "a", " ", "</", "think>", "\n"])), st.data())
def test_nothing_is_lost_and_the_cuts_do_not_matter(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) if text[a:b]]
    assert split(*pieces, cut=True) == split(text, cut=True) if text else True
    thoughts, answer = split(*pieces, cut=True)
    assert (thoughts + answer).replace(" ", "").replace("\n", "") in {
        text.replace(" ", "").replace("\n", ""),
        text.replace(" ", "").replace("\n", "").replace("<think>", "", 1),
        text.replace(" ", "").replace("\n", "").replace("<think>", "", 1).replace("</think>", "", 1),
    } or "`" in text
