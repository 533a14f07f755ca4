from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.sentences import sentences, terms


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


PIECES = st.sampled_from(
    [
        "The tide",
        " falls",
        ".",
        "!",
        "？",
        "。",
        "\n",
        "\n\n",
        " ",
        "| a. b |",
        "- ",
        "3",
        "4.2",
        "[1]",
        '"',
        "Dr",
        "港口",
        "المد",
        "؟",
    ]
)
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=40).map("".join))


@given(TEXTS)
def test_every_character_but_white_space_is_in_exactly_one_sentence(text: str) -> None:
    covered: list[int] = []
    for start, end in sentences(text):
        assert text[start:end] == text[start:end].strip() != ""
        covered += range(start, end)
    assert covered == sorted(set(covered))
    assert "".join("".join(text[i] for i in covered).split()) == "".join(text.split())


@given(TEXTS)
def test_a_blank_line_always_ends_a_sentence(text: str) -> None:
    assert all("\n\n" not in sentence for sentence in split(text))


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Adler paid 3.50 for it at 6 a.m. on Sunday.",
        "See Fig. 3 and no. 12, e.g. the upper one, i.e. the older.",
        "J. R. Tolle, cf. Meier et al. 2019, wrote to example.com about version 1.2.3.",
        "Table 1. Catches by month.",
        "Am 3. Oktober kostet es z. B. 4,50 Euro, d. h. mehr als im 19. Jahrhundert bei Prof. Huber.",
        "Le 14 juillet, Mme. Dupont a payé 3.20 euros.",
        "Im Jahr 30 v. Chr. lag dort, s. S. 12, d. h. Kapitel 3, kein Hafen.",
        '"Why?" he asked.',
        "他走了3.5公里。",
        "يبلغ ارتفاع المد 4.2 متر.",
    ],
)
def test_a_stop_inside_a_sentence_does_not_end_it(sentence: str) -> None:
    assert split(f"{sentence} Next comes this.") == [sentence, "Next comes this."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rose to 4.2 m. The wall held.", ["It rose to 4.2 m.", "The wall held."]),
        ("There are 12. Nobody counts them.", ["There are 12.", "Nobody counts them."]),
        ("Berth a. The next is b. It is free.", ["Berth a.", "The next is b.", "It is free."]),
        ("Open until 6 p.m. Bring a lamp.", ["Open until 6 p.m.", "Bring a lamp."]),
        ("(It closed.) Then it opened!", ["(It closed.)", "Then it opened!"]),
        ("Really?! Yes… Maybe.", ["Really?!", "Yes…", "Maybe."]),
        ("Die Flut steigt. Ändert sich das? Öfter!", ["Die Flut steigt.", "Ändert sich das?", "Öfter!"]),
        ("潮水多高？四米。真的！", ["潮水多高？", "四米。", "真的！"]),
        ("ما هو ارتفاع المد؟ أربعة أمتار.", ["ما هو ارتفاع المد؟", "أربعة أمتار."]),
        ("बंदरगाह छोटा है। वह पुराना है।", ["बंदरगाह छोटा है।", "वह पुराना है।"]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_a_citation_mark_behind_the_stop_belongs_to_the_sentence_before() -> None:
    assert split("It is so. [2] And so [1]. Or not.[1][3] End") == [
        "It is so. [2]",
        "And so [1].",
        "Or not.[1][3]",
        "End",
    ]


def test_a_wrapped_line_goes_on_and_a_short_line_ends() -> None:
    wrapped = "The keeper writes the height of the water into\nThe Harbour Book every morning."
    assert split(wrapped) == [wrapped]
    assert split("Opening hours\nThe office opens at nine.") == ["Opening hours", "The office opens at nine."]
    assert split("A short\nline that goes on.") == ["A short\nline that goes on."]


def test_rows_headings_and_list_items_stand_alone() -> None:
    text = "# Tides\n| St. Ann | 4.2 m. High |\n| --- | --- |\n- Moor fore and aft\n2. Report to the office"
    assert split(text) == text.split("\n")


def test_terms_are_casefolded_words_and_whole_numbers() -> None:
    assert terms("The Harbour's STRASSE, straße: 4.2 m at 14:30 (no_7)") == [
        *["the", "harbour", "s", "strasse", "strasse", "4.2", "m", "at", "14:30", "no_7"]
    ]
    assert terms("... — !") == []


def test_terms_of_scripts_without_spaces_are_pairs_of_characters() -> None:
    assert terms("潮水高4.2米") == ["潮水", "水高", "4.2", "米"]
    assert terms("ไทย") == ["ไท", "ทย"]


def test_terms_ignore_how_a_word_is_written() -> None:
    assert terms("ＴＩＤＥ ﬁne") == terms("tide fine")
    assert terms("مَرْحَبًا") == terms("مرحبا")
    assert terms("हिन्दी") == ["हिन्दी"]


@given(TEXTS, TEXTS)
def test_terms_of_two_lines_are_the_terms_of_each(a: str, b: str) -> None:
    assert terms(f"{a}\n{b}") == terms(a) + terms(b)
