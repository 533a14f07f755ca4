"""Which language a text is in: by its script, and where several languages share one by their most frequent words.

A statistical model would know more languages, and costs every jailed process over 100 MB and a second to load. What
hangs on this is stemming and stop words, so the languages here are those that search engines stem, and a few more. A
text too short or too mixed to tell has none: a wrong stemmer finds less than no stemmer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

_SLICE, _SLICES = 1500, 4  # characters of a sample, and how many of them are taken from a long text
_FEWEST_LETTERS, _FEWEST_WORDS = 12, 8
_MANY_WORDS, _FEWEST_SIGNS = 30, 3  # a text of fewer words shows as many different frequent ones, or tells nothing
_LEAST = 0.08  # of the words must be frequent ones of the language; prose has 0.3 to 0.5, names and figures none
_LEAD = 1.15  # over the second best language
_DECLARED = 300  # letters; in a shorter text a declared language is believed, in a longer one what it says itself
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_TAG = re.compile(r"[a-z]{2,3}")

# One language a script, or nearly so. Japanese, Chinese, Arabic's and Cyrillic's are told apart below.
_SCRIPTS: dict[str, re.Pattern[str]] = {
    name: re.compile(f"[{span}]")
    for name, span in {
        "kana": "\u3041-\u30ff\uff66-\uff9d",
        "han": "\u3400-\u4dbf\u4e00-\u9fff",
        "ko": "\uac00-\ud7af\u1100-\u11ff",
        "arabic": "\u0620-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc",
        "cyrillic": "\u0400-\u052f",
        "latin": "A-Za-z\u00aa-\u024f\u1e00-\u1eff",
        "el": "\u0370-\u03ff\u1f00-\u1fff",
        "he": "\u05d0-\u05ea",
        "hi": "\u0900-\u097f",
        "th": "\u0e01-\u0e4e",
        "ta": "\u0b80-\u0bff",
        "bn": "\u0980-\u09ff",
        "te": "\u0c00-\u0c7f",
        "hy": "\u0531-\u0589",
        "ka": "\u10a0-\u10ff",
    }.items()
}

_FOREIGN = re.compile("[^\x00-\u024f]")  # all letters but Latin ones, and more; Chinese ones count twice

# The most frequent words of running text; a word that several languages share counts less for each.
_FREQUENT = {
    "latin": {
        "en": "the of and to in is that it for was on are with as be this by from at have or not which you an but they",
        "de": "der die und das in den von zu ist mit sich des auf für nicht ein dem eine als auch es an werden aus "
        "wird bei einer oder sind im wir zum durch",
        "fr": "de la le et les des en un du une que est pour qui dans par plus sur au pas ce il avec sont cette ne "
        "aux se ou été nous",
        "es": "de la que el en y los del se las por un para con no una su al es lo como más pero sus este fue son "
        "entre está cuando",
        "it": "di e il la che in per un del è della non una sono con le dei si da al nel gli come più anche ha alla "
        "questo delle",
        "pt": "de a o que e do da em um para com não uma os no se na por mais as dos como mas ao ele das à são foi "
        "também pelo",
        "nl": "de van het een en in is dat op te zijn met voor niet die aan er om ook als door naar bij uit wordt maar "
        "worden deze",
        "sv": "och i att det som en på är av för med till den har de inte om ett var men från kan vid eller så också "
        "efter han",
        "da": "og i at det er en til på som af for med den ikke de har et der om var men fra kan ved eller blev efter "
        "også han være",
        "no": "og i det er en til på som av for med den ikke de har et om var men fra kan ved eller ble etter også "
        "han være å",
        "fi": "ja on ei se että oli hän ovat myös kun mutta joka niin tai jos voi ole kuin sen sekä vain mukaan "
        "ollut nyt tämä jo",
        "hu": "a az és hogy nem is egy van ez meg csak de volt már mint el még ha vagy ki lehet azt minden kell "
        "által során után",
        "ro": "de și în a la cu o că pe nu un din este mai se care pentru ce sau prin fi sunt dar fost lui ale după "
        "această cel",
        "pl": "i w na z do się nie to że jest o jak po od za co dla oraz przez ale są być które tym czy lub został "
        "przy może",
        "cs": "a v se na je že s z do o to ve pro jako i by po jsou ale které který nebo jeho tak bylo při podle "
        "byl až jeden",
        "sk": "a v sa na je že s z do o to vo pre ako aj by po sú ale ktoré ktorý alebo jeho tak bolo pri podľa "
        "bol až jeden",
        "tr": "ve bir bu da de için ile olarak çok daha olan gibi kadar sonra ne en var olduğu ancak ise her veya "
        "değil tarafından",
        "id": "yang dan di dengan untuk dari ini pada dalam itu tidak adalah ke oleh sebagai juga akan atau telah "
        "dapat lebih ada bahwa",
        "vi": "và của là có trong được cho các không với một những người này đã để khi từ đến như về tại ra năm cũng",
        "ca": "de la i el que a en les per un del amb una és els va al no més com són aquest dels ser també però "
        "aquesta",
        "hr": "i u je na se da su za od s o kao koji ili a iz ne bi sa nije samo ali bio kako što biti također",
        "sl": "in je v na se za da so z s ki ne po pri tudi kot iz bi od do ali bil pa še med lahko",
        "et": "ja on ei see et oli ka ta kui mis oma või aga kes selle siis nii nagu ning pärast välja juba",
        "lv": "un ir no ar par uz tas kas ka arī bija tika kā bet pēc vai gadā pie tā to tiek",
        "lt": "ir yra į iš kad su buvo tai kaip ar bet po dėl prie nuo taip buvo jo apie gali metų",
        "eu": "eta da ez bat ere zen du dira hau hori izan baina egin den dute bere zuen",
        "la": "et in est non ad ut cum quod qui sed ex per quae si ac ab sunt atque hoc aut etiam esse",
    },
    "cyrillic": {
        "ru": "и в не на что с по как это он а к из то за для от его но же все так или был бы этого также при",
        "uk": "і в не на що з та до як це за у від він для але його про або був також є які після",
        "bg": "на и в да се за от е са с по не че това като към но при със до или бе който след има",
        "sr": "и у је на се да су за од са о као који или а из не би није само али био како што",
        "be": "і ў не на што з да як гэта за у ад ён для але яго пра або быў таксама пры якія",
        "mk": "на и во да се за од е со не што го ги како но при до или кој беше има ова",
    },
    "arabic": {
        "ar": "في من على إلى أن عن التي الذي هذا ما لا هذه مع كان أو كما بين قد ذلك بعد كل و",
        "fa": "و در به از که این است را با برای آن یک می تا بر شده های خود بود شد کرد",
        "ur": "کے میں کی ہے اور سے کا کو نے پر یہ اس کہ ہیں ایک تھا لیے بھی کر تھے",
    },
}


def _weights(lists: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Word -> language -> weight."""
    of: dict[str, dict[str, float]] = {}
    for language, words in lists.items():
        for word in set(words.split()):
            of.setdefault(word, {})[language] = 0.0
    return {word: dict.fromkeys(languages, len(languages) ** -0.5) for word, languages in of.items()}


_WEIGHTS = {script: _weights(lists) for script, lists in _FREQUENT.items()}


def detect(text: str) -> str:
    """The language of most of `text` as ISO 639-1, or "" where it cannot be told."""
    sample = _sample(text)
    if sample.isascii():
        return _by_words(sample, "latin")
    foreign = _FOREIGN.findall(sample)
    latin = sum(map(str.isalpha, sample)) - sum(map(str.isalpha, foreign))
    if latin > 2 * len(foreign):
        return _by_words(sample, "latin") if latin >= _FEWEST_LETTERS else ""  # so it is with most: no need to count on
    letters = {script: len(pattern.findall(sample)) for script, pattern in _SCRIPTS.items()}
    # A Chinese or Japanese character says about as much as a Latin word's half.
    letters["han"] *= 2
    letters["kana"] *= 2
    script = max(letters, key=lambda s: letters[s])
    if letters[script] < _FEWEST_LETTERS:
        return ""
    if script in ("han", "kana"):
        return "ja" if letters["kana"] > 0.08 * letters["han"] else "zh"
    return _by_words(sample, script) if script in _WEIGHTS else script


def language_of(text: str, declared: object = "") -> str:
    """What a document's metadata say of its language: what its text shows, else what the file declares.

    Templates declare the wrong language more often than long texts are taken for another.
    """
    tag = declared_language(declared)
    found = detect(text)
    if tag and (not found or len(text) < _DECLARED):
        return tag
    return found


def declared_language(value: object) -> str:
    """The primary subtag (BCP 47) of a declared language, lower case: "en" of "en-US". "" for anything else."""
    if not isinstance(value, str):
        return ""
    tag = re.split("[-_]", value.strip().lower(), maxsplit=1)[0]
    tag = {"eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "nb": "no"}.get(
        tag, tag
    )
    return tag if _TAG.fullmatch(tag) and tag not in ("und", "mul", "zxx", "xx") else ""


def with_language(metadata: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The metadata with `language` as `language_of` finds it; without the key where that is nothing."""
    rest = {name: value for name, value in metadata.items() if name != "language"}
    language = language_of(text, metadata.get("language"))
    return {**rest, "language": language} if language else rest


def _by_words(sample: str, script: str) -> str:
    words = _WORD.findall(sample.lower())
    if len(words) < _FEWEST_WORDS:
        return ""
    scores: defaultdict[str, float] = defaultdict(float)
    weights = _WEIGHTS[script]
    for word in words:
        if word in weights:
            for language, weight in weights[word].items():
                scores[language] += weight
    best = sorted(scores, key=lambda language: -scores[language])[:2]
    if not best or scores[best[0]] < _LEAST * len(words):
        return ""
    if len(words) < _MANY_WORDS and sum(best[0] in weights.get(word, {}) for word in set(words)) < _FEWEST_SIGNS:
        return ""  # "a" and "is" are Hungarian too
    return best[0] if len(best) == 1 or scores[best[0]] >= _LEAD * scores[best[1]] else ""


def _sample(text: str) -> str:
    """Pieces from all over the text: title pages and tables of contents are often in another language, or in none."""
    if len(text) <= _SLICE * _SLICES:
        return text
    step = (len(text) - _SLICE) // (_SLICES - 1)
    return "\n".join(text[i * step : i * step + _SLICE] for i in range(_SLICES))
