from __future__ import annotations

import asyncio
import re
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sourcebook.citations import MarkerReader, support
from sourcebook.documents import Passage
from sourcebook.events import Delta, Finish, Reasoning, Text, Usage
from sourcebook.interfaces import LLMRequest
from sourcebook.rendering import to_html
from sourcebook.sentences import sentences, terms
from sourcebook_plugins.extractive import NOTHING, Extractive, ExtractiveSettings, pick, register_llms

HARBOUR = """\
# The harbour

The Old Quay was laid between 1791 and 1794. It is 112 metres long, and was built
by Dr. Amory of Port Ellery. The West Arm is 187 metres long.

Stores:

- 240 filled sandbags are kept in the boathouse
- Six petrol pumps stand in the shed

| Month | Sea temperature | Visiting boats |
| --- | --- | --- |
| August | 16.9 | 334 |
| September | 16.2 | 162 |
"""
BELL = "When fog comes, the bell strikes twice every 30 seconds. It was cast in 1869. Fishermen call it Old Margaret."


def passages(*texts: str, title: str = "", context: str = "") -> tuple[Passage, ...]:
    return tuple(
        Passage(f"p{i}", "s", "n", "d", "g", i, 0, len(text), text, title=title, context=context)
        for i, text in enumerate(texts)
    )


def deltas(question: str, *texts: str, limit: int = 4, speed: float = 0) -> list[Delta]:
    llm = Extractive(ExtractiveSettings(sentences=limit, words_per_second=speed))

    async def main() -> list[Delta]:
        return [delta async for delta in llm.stream(LLMRequest((), question, passages(*texts)))]

    return asyncio.run(main())


def answer(question: str, *texts: str, limit: int = 4) -> str:
    return "".join(d.text for d in deltas(question, *texts, limit=limit) if isinstance(d, Text))


def quotes(text: str) -> list[tuple[str, int]]:
    """Every quote of an answer with the number it cites; of a table its rows."""
    text = re.sub(r"^\|.*\n\|(?: --- \|)+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"(\]) \|$", r"\1", text, flags=re.MULTILINE)
    parts = re.split(r" \[(\d+)\]\s*", text)
    return list(zip(parts[::2], map(int, parts[1::2]), strict=False))


def folded(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("When was the Old Quay laid?", "The Old Quay was laid between 1791 and 1794. [1]"),
        ("Who built it, and when was the bell cast?", "It was cast in 1869. [2]"),
        ("How many sandbags are kept in the boathouse?", "240 filled sandbags are kept in the boathouse [1]"),
        ("How often does the bell strike in fog?", "the bell strikes twice every 30 seconds. [2]"),
    ],
)
def test_the_sentence_that_answers_is_quoted(question: str, expected: str) -> None:
    assert expected in answer(question, HARBOUR, BELL)


def test_one_sentence_is_enough_where_no_other_comes_near() -> None:
    assert answer("How many sandbags are kept in the boathouse?", HARBOUR, BELL) == (
        "240 filled sandbags are kept in the boathouse [1]"
    )


def test_a_row_is_quoted_below_its_header_in_a_table_that_markdown_reads() -> None:
    assert answer("What was the sea temperature in September?", HARBOUR, BELL, limit=2).split("\n") == [
        "| Month | Sea temperature | Visiting boats |",
        "| --- | --- | --- |",
        "| September | 16.2 | 162 [1] |",
    ]


def test_a_row_without_its_header_is_its_cells() -> None:
    assert answer("What was the sea temperature in September?", HARBOUR, limit=1) == "September, 16.2, 162 [1]"


def test_a_row_that_is_wider_than_its_header_loses_nothing() -> None:
    table = "| Light | Colour |\n| --- | --- |\n| Mole | green | dusk to dawn |"
    assert (
        answer("Which colour has the light on the Mole?", table) == "Light, Colour [1]\nMole, green, dusk to dawn [1]"
    )


def test_text_and_a_table_are_parted_by_an_empty_line() -> None:
    before, after = "The old light of the mole is small and green.", "A green light stood on the mole before."
    text = f"{before}\n\n| Light | Colour |\n| --- | --- |\n| Mole \\| pier | green |\n\n{after}"
    told = to_html(answer("green light mole", text)) or ""
    wanted = (
        f"<p>{before} [1]</p>",
        "<th>Light</th>",
        "<td>Mole | pier</td>",
        "<td>green [1]</td>",
        f"<p>{after} [1]</p>",
    )
    assert [piece for piece in wanted if piece not in told] == []


@pytest.mark.parametrize("limit", [1, 2])
def test_what_a_row_s_citation_quotes_is_the_row_as_it_stands(limit: int) -> None:
    (passage,) = passages(HARBOUR)
    text = answer("What was the sea temperature in September?", HARBOUR, limit=limit)
    (marker,) = MarkerReader(1).feed(text)
    found = support(text[marker.answer_start : marker.answer_end], passage)
    assert found.supported
    assert found.quote.removesuffix(" |") == "| September | 16.2 | 162"
    assert HARBOUR[found.start : found.end] == found.quote


def test_a_row_is_not_quoted_for_its_header_alone() -> None:
    assert "August" not in answer("What was the sea temperature in September?", HARBOUR, BELL, limit=5)


def test_a_fact_in_a_table_s_first_row_is_found() -> None:
    table = "| Harbour master | Ines Carrow |\n| --- | --- |\n| Radio | channel 12 |\n| Office | 4 Old Quay |"
    assert answer("Who is the harbour master?", table, BELL) == "Harbour master, Ines Carrow [1]"


def test_a_line_end_inside_a_quote_becomes_a_space() -> None:
    assert "and was built by Dr. Amory of Port Ellery. [1]" in answer("Was it Amory of Port Ellery?", HARBOUR)


def test_what_stands_above_counts_and_is_not_preferred_to_what_is_below() -> None:
    text = "The fog bell\n\nIt was cast in 1869 at Port Ellery.\n\nThe time ball\n\nIt was cast in 1853 at home."
    assert answer("When was the fog bell cast?", text, limit=1) == "It was cast in 1869 at Port Ellery. [1]"


def test_the_title_and_the_context_of_a_passage_count() -> None:
    texts = ("It weighs 340 kilograms.", "It weighs 46 kilograms.")
    bell, ball = passages(texts[0], title="The fog bell")[0], passages(texts[1], context="The time ball")[0]
    assert [q.text for q in pick("How much does the bell weigh?", (ball, bell), 1).quotes] == [texts[0]]
    assert [q.text for q in pick("How much does the ball weigh?", (bell, ball), 1).quotes] == [texts[1]]


def test_quotes_come_in_reading_order_grouped_by_passage() -> None:
    text = answer("bell fog cast fishermen quay laid", BELL, HARBOUR)
    places = [(n, folded((BELL, HARBOUR)[n - 1]).index(quote)) for quote, n in quotes(text)]
    assert len(places) > 1
    assert places == sorted(places)
    assert text.count("\n\n") == len({n for n, _ in places}) - 1


def test_nothing_is_said_twice() -> None:
    overlapping = "The bell was cast in 1869. " + BELL
    assert answer("When was the bell cast?", BELL, BELL, overlapping).count("1869") == 1


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_sentences_than_asked_for(limit: int) -> None:
    text = " ".join(f"The bell number {i} hangs in house {i * 7}, said {name}." for i, name in enumerate("abcdefgh"))
    assert len(quotes(answer("Where does the bell hang?", text, HARBOUR, limit=limit))) == limit


@pytest.mark.parametrize(
    "question",
    ["What is the capital of France?", "Who won the cup?", "", "?", "What is this about?", "法国的首都是什么？"],
)
def test_what_fits_nothing_is_said_plainly_and_without_a_citation(question: str) -> None:
    assert answer(question, HARBOUR, BELL) == NOTHING
    assert "[" not in NOTHING


def test_no_passages_have_no_answer() -> None:
    assert answer("When was the bell cast?") == NOTHING
    assert answer("When was the bell cast?", "", "\n") == NOTHING


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        (
            "Wann wurde die Glocke gegossen?",
            "Bei Nebel schlägt sie zweimal. Die Glocke wurde am 3. Mai 1869 gegossen. Der Kai ist lang.",
            "Die Glocke wurde am 3. Mai 1869 gegossen. [1]",
        ),
        (
            "Wie viele Häuser standen unter Wasser?",
            "Das Wasser stand in 23 Häusern. Die Mauer ist neu.",
            "23 Häusern. [1]",
        ),
        (
            "蜂箱里有多少只蜜蜂？",
            "蜂箱放在花园里。一个蜂箱里大约有三万只蜜蜂。冬天它们不飞。",
            "一个蜂箱里大约有三万只蜜蜂。 [1]",
        ),
        (
            "鐘はいつ鋳造されましたか？",
            "霧の日に鐘が鳴る。その鐘は1869年に鋳造された。埠頭は長い。",
            "その鐘は1869年に鋳造された。 [1]",
        ),
        (
            "متى صُنع الجرس؟",
            "يدق الجرس مرتين في الضباب. صنع الجرس عام 1869. الرصيف طويل.",
            "صنع الجرس عام 1869. [1]",
        ),
        ("Quand la cloche a-t-elle été fondue ?", "La cloche fut fondue en 1869. Le quai est long.", "en 1869. [1]"),
    ],
)
def test_it_works_in_other_languages(question: str, text: str, expected: str) -> None:
    assert answer(question, BELL, text, limit=1).endswith(expected.replace("[1]", "[2]"))


def test_a_number_in_brackets_in_the_source_cannot_cite_another_passage() -> None:
    text = answer(
        "Who cast the bell?", "As Foss [2] showed, the bell was cast by Amory [1, 3]. Nobody doubts it.", BELL, limit=1
    )
    assert text == "As Foss [1] showed, the bell was cast by Amory [1]"


def test_a_long_sentence_is_quoted_in_part() -> None:
    clauses = [f"the harbour keeps rope number {i} in the loft" for i in range(200)]
    text = "; ".join([*clauses, "the anchor lies beside the slip", *clauses]) + "."
    (quote,) = pick("Where does the anchor lie?", passages(text), 1).quotes
    assert "the anchor lies beside the slip" in quote.text
    assert quote.text in text
    assert len(quote.text) <= 700


def test_it_says_first_what_it_does_and_ends_with_finish_and_usage() -> None:
    kinds = [type(d) for d in deltas("When was the bell cast?", BELL)]
    told = "".join(d.text for d in deltas("When was the bell cast?", BELL) if isinstance(d, Reasoning))
    assert told.startswith("Extractive answer: no language model is asked.")
    assert told.endswith("3 sentences of 1 passage compared by the words bell, cast: 2 sentences of 1 passage quoted.")
    first = kinds.index(Text)
    assert set(kinds[:first]) == {Reasoning}
    assert set(kinds[first:-2]) == {Text}
    finish, usage = deltas("When was the bell cast?", BELL)[-2:]
    assert finish == Finish("stop")
    assert isinstance(usage, Usage)
    assert min(usage.prompt, usage.completion, usage.reasoning) > 0


def test_words_come_one_by_one_and_others_run_in_between() -> None:
    async def main() -> None:
        llm = Extractive(ExtractiveSettings())
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        stream = llm.stream(LLMRequest((), "When was the bell cast?", passages(BELL)))
        seen = [(delta.text, turns) async for delta in stream if isinstance(delta, Text)]
        task.cancel()
        assert [len(text.split()) for text, _ in seen] == [1] * len(seen)
        assert len({turn for _, turn in seen}) == len(seen)

    asyncio.run(main())


def test_a_pace_may_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: set[float] = set()
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        mine = threading.current_thread() is threading.main_thread()  # not another test's server
        if mine:
            pauses.add(seconds)
        await sleep(0 if mine else seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    deltas("When was the bell cast?", BELL, speed=50)
    assert pauses == {0.02}


def test_an_answer_may_be_broken_off() -> None:
    async def main() -> None:
        stream = Extractive(ExtractiveSettings(words_per_second=1)).stream(
            LLMRequest((), "When was the bell cast?", passages(BELL))
        )
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_it_registers_itself_and_says_that_it_does_not_generate() -> None:
    assert register_llms() == [Extractive]
    assert (Extractive.name, Extractive.generates) == ("extractive", False)
    with pytest.raises(ValidationError):
        ExtractiveSettings(sentences=6)


WORDS = [
    "bell",
    "Quay",
    "cast",
    "1869",
    "4.2 m",
    "Dr.",
    "z. B.",
    "fog",
    "港口",
    "的钟",
    "الجرس",
    "is",
    "- ",
    "# ",
    "a_b",
    "*x*",
]
MARKS = [
    ". ",
    "! ",
    "? ",
    "。",
    "؟ ",
    "\n",
    "\n\n",
    " ",
    ", ",
    "; ",
    ": ",
    "\n| a | bell 1 |\n",
    "\n| --- | --- |\n",
    " [2] ",
    "【7】",
]
TEXTS = st.lists(st.sampled_from(WORDS + MARKS), max_size=40).map("".join) | st.text(max_size=120)
QUESTIONS = st.sampled_from(["When was the bell cast?", "港口的钟", "متى صنع الجرس", "fog quay 1869", "4.2"])


@settings(deadline=None)
@given(QUESTIONS, st.lists(TEXTS, max_size=4), st.integers(1, 5))
def test_every_quote_is_verbatim(question: str, texts: list[str], limit: int) -> None:
    found = pick(question, passages(*texts), limit).quotes
    assert len(found) <= limit
    for quote in found:
        assert texts[quote.n - 1][quote.start :].startswith(quote.text)
    text = answer(question, *texts, limit=limit)
    if found:
        cited = quotes(text)
        assert {n for _, n in cited} == {quote.n for quote in found}
        for part, n in cited:  # word by word: a row's cells are parted by commas
            assert f" {' '.join(terms(part))} " in f" {' '.join(terms(texts[n - 1]))} "
    else:
        assert text == NOTHING


@given(QUESTIONS, TEXTS)
def test_a_sentence_asked_for_word_by_word_is_found(question: str, text: str) -> None:
    wanted = "Hester Quill drove the copper chronometer until 1876."
    found = pick("Hester Quill copper chronometer 1876", passages(f"{text}\n\n{wanted}\n\n{text}"), 1).quotes
    assert [quote.text for quote in found] == [wanted]
    assert terms(wanted)
    assert sentences(wanted) == [(0, len(wanted))]
