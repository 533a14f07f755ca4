"""A document's language is told by its own words, and a declared one is believed where those are few."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sourcebook.languages import declared_language, detect, language_of, with_language

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")
SENTENCES = {
    "en": "The tide rises and falls twice a day because the moon and the sun pull at the water of the sea.",
    "de": "Die Tide steigt und fällt zweimal am Tag, weil der Mond und die Sonne an dem Wasser des Meeres ziehen.",
    "fr": "La marée monte et descend deux fois par jour, car la lune et le soleil attirent les eaux de la mer.",
    "es": "La marea sube y baja dos veces al día porque la luna y el sol atraen las aguas de los mares.",
    "it": "La marea sale e scende due volte al giorno perché la luna e il sole attirano le acque del mare.",
    "pt": "A maré sobe e desce duas vezes por dia, porque a lua e o sol atraem as águas do mar e não param.",
    "nl": "Het getij stijgt en daalt twee keer per dag, want de maan en de zon trekken aan het water van de zee.",
    "sv": "Tidvattnet stiger och sjunker två gånger om dagen, för att månen och solen drar i vattnet som är i havet.",
    "fi": "Vuorovesi nousee ja laskee kaksi kertaa päivässä, ja se johtuu siitä, että kuu on lähellä.",
    "pl": "Przypływ podnosi się i opada dwa razy na dobę, bo jest to związane z tym, że księżyc jest blisko.",
    "tr": "Gelgit günde iki kez yükselir ve alçalır, bu olay ay ve güneş için olduğu kadar çok önemlidir.",
    "ru": "Прилив поднимается и опускается дважды в день, потому что луна и солнце на это не влияют, но так думали.",
    "ja": "月と太陽が海の水を引くので、潮は一日に二回満ち引きする。",
    "zh": "因为月亮和太阳吸引海水，所以潮水每天涨落两次。",
    "ko": "달과 태양이 바닷물을 끌어당기기 때문에 조수는 하루에 두 번 오르내린다.",
    "el": "Η παλίρροια ανεβαίνει και κατεβαίνει δύο φορές την ημέρα.",
    "ar": "يرتفع المد وينخفض مرتين في اليوم لأن القمر يجذب مياه البحر التي في هذا العالم من كل جانب على الأرض",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_tells_its_language(language: str) -> None:
    assert detect(SENTENCES[language]) == language


@pytest.mark.parametrize("text", ["", "12.5 7 2024", "Acme", "x = foo(bar)", "ISBN 3-16-148410-0 Rev B Part 7"])
def test_what_tells_no_language_has_none(text: str) -> None:
    assert detect(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "A mole is a wall: a lamp is on it.",
        "Copper is a metal. A copper kettle is red.",
    ],
)
def test_a_few_words_that_many_languages_have_tell_nothing_wrong(text: str) -> None:
    assert detect(text) in ("", "en")


def test_a_long_text_outweighs_what_its_template_declares_and_a_short_one_does_not() -> None:
    assert language_of(SENTENCES["de"] * 4, "en-US") == "de"
    assert language_of("Tide", "de-AT") == "de"
    assert language_of("4 8 15 16 23 42 " * 100, "fr") == "fr"


@pytest.mark.parametrize(("given", "tag"), [("en-US", "en"), ("deu", "de"), ("zh_Hant", "zh"), ("und", ""), (7, "")])
def test_a_declared_language_is_its_primary_subtag(given: object, tag: str) -> None:
    assert declared_language(given) == tag


def test_metadata_without_a_language_stay_without_one() -> None:
    assert with_language({"title": "x", "language": "klingon"}, "7") == {"title": "x"}


@pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA names no folder of real texts")
@pytest.mark.parametrize("language", ["en", "de", "ar", "zh"])
def test_real_paragraphs_are_told_apart(language: str) -> None:
    lines = (Path(DATA) / f"ir/xquad-{language}/corpus.jsonl").read_text().splitlines()
    found = [detect(json.loads(line)["text"]) for line in lines]
    assert found.count(language) > 0.95 * len(found)
    assert sum(other not in ("", language) for other in found) < 0.02 * len(found), "none beats a wrong one"
