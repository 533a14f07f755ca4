"""How a text becomes weighted terms: BM25 computed on our side, so that every way to run Qdrant finds the same.

Qdrant's own BM25 (in Qdrant Edge) counts, stems and hashes; this module decides what it is given:

- words are cut at Unicode's word borders, lower-cased, without accents. Scripts that do not write spaces are cut into
  pairs of characters first. (nDCG@10 on XQuAD: 0.972 English, 0.949 German, 0.941 Arabic, 0.966 Chinese; Qdrant's
  multilingual tokenizer 0.967, 0.945, 0.934, 0.963, in three times the time, and thirty times for Chinese);
- a document is stemmed, and loses its stop words, by its own language. A query of six words has none that can be told:
  it is stemmed once for each of the three most frequent languages of where it is searched, and asks for all of these
  terms in one search;
- a passage of average length counts as 100 terms, which is what the built-in chunkers cut after stop words. (Qdrant's
  256 all but switches BM25's length off: cranfield 0.366, with 100 it is 0.386; scifact 0.680 and 0.693.)

Nothing here imports `sourcebook`: the index process uses it too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import qdrant_edge as edge

MOST_LANGUAGES = 3
"""Of a query, as the languages of where it is searched."""

AVERAGE = 100.0
AVERAGE_PAIRS = 256.0
"""Terms in a passage of average length; one in pairs of characters has more."""

# The languages for which Qdrant's BM25 has both a stemmer and stop words.
STEMMED = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nb": "norwegian",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}

PAIRED = frozenset({"zh", "ja", "th", "lo", "km", "my"})
"""Languages without spaces between words. What they hold of other languages is stemmed as the default one."""

_WORD = re.compile(r"\w+")
# Thai, Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9d\U00020000-\U0002fa1f]+"
)

SparseTerms = tuple[list[int], list[float]]
"""Indices and weights, as Qdrant's sparse vectors hold them."""


def analyzer(default: str, language: str = "") -> str:
    """How a text becomes terms, as stored with each point: `german`, or `pairs/english` for Chinese.

    `language` is a tag like `de-AT`; `default` is the stemmer of what is in none that we know.
    """
    primary = language.lower().replace("_", "-").split("-")[0]
    if primary in PAIRED:
        return f"pairs/{default}"
    return STEMMED.get(primary, default)


def document_terms(how: str, text: str) -> SparseTerms:
    """The terms of a passage, weighted by BM25's term frequency and length; IDF is the engine's."""
    vector = _model(how).embed_document(_paired(text))
    return list(vector.indices), list(vector.values)


def query_terms(analyzers: Iterable[str], text: str) -> SparseTerms:
    """Every term that the query has under one of these analyzers, at weight 1. Empty where it has no word."""
    hows = list(analyzers)
    text = _paired(_without_stop_words(hows, text) if len(hows) > 1 else text)
    terms = {i for how in hows for i in _model(how).embed_query(text).indices}
    return sorted(terms), [1.0] * len(terms)


def _without_stop_words(hows: list[str], text: str) -> str:
    """Without those of the language that the question is in, as its own stop words tell, in every language.

    In a language that knows them not, they would be words that hardly any passage has: one English text taken for
    Spanish would be the best match of every English question. Fewer than two tell nothing ("war" is one in German), and
    then it is the first analyzer, of the most passages.
    """
    words = set(_WORD.findall(text))
    silent = {how: {word for word in words if not _model(how).embed_query(word).indices} for how in hows}
    told = max(hows, key=lambda how: len(silent[how]))
    drop = silent[told if len(silent[told]) > 1 else hows[0]]
    return _WORD.sub(lambda word: " " if word.group() in drop else word.group(), text)


def most_frequent(total: Mapping[str, int]) -> list[str]:
    """At most three analyzers, that of the most points first."""
    return sorted(total, key=lambda how: (-total[how], how))[:MOST_LANGUAGES]


class Languages:
    """Which analyzers each notebook's points have, counted by the engine when it is first asked and kept up since.

    For who alone writes to the engine: nobody else's points are noticed.
    """

    def __init__(self, count: Callable[[str], Mapping[str, int]]) -> None:
        self._count = count
        self._known: dict[str, Counter[str]] = {}

    def added(self, scope: str, how: str, points: int = 1) -> None:
        """That many points were stored; a notebook that nobody has asked about is counted when somebody does."""
        if scope in self._known:
            self._known[scope][how] += points

    def of(self, scopes: Iterable[str]) -> list[str]:
        """At most three, the most frequent first; none where nothing is stored."""
        total: Counter[str] = Counter()
        for scope in scopes:
            total += self._counted(scope)
        return most_frequent(total)

    def _counted(self, scope: str) -> Counter[str]:
        if scope not in self._known:
            self._known[scope] = Counter(self._count(scope))
        return self._known[scope]


@cache
def _model(how: str) -> edge.Bm25:
    import qdrant_edge as edge  # where no term is counted, it is not loaded

    kind, _, language = how.rpartition("/")
    return edge.Bm25(
        edge.Bm25Config(
            tokenizer=edge.TokenizerType.Word,
            language=language,
            ascii_folding=True,
            avg_len=AVERAGE_PAIRS if kind == "pairs" else AVERAGE,
        )
    )


def _paired(text: str) -> str:
    """Runs of a script without spaces as pairs of neighbouring characters: 北京大学 -> 北京 京大 大学."""
    return text if text.isascii() else _UNSPACED.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    found = run.group()
    if len(found) == 1:
        return f" {found} "
    return f" {' '.join(found[i : i + 2] for i in range(len(found) - 1))} "
