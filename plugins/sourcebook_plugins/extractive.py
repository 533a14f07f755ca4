"""The answerer that needs no model: it quotes the sentences that fit the question best, word for word.

Sentences are scored by BM25 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009) over the sentences at
hand, and chosen by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), so that none repeats another.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from sourcebook.documents import Passage
from sourcebook.events import Delta, Finish, Reasoning, Text, Usage
from sourcebook.hookspecs import hookimpl
from sourcebook.interfaces import LLM, ComponentSettings, LLMRequest
from sourcebook.sentences import sentences, terms
from sourcebook.words import asked_words, stem_of

NOTHING = "Nothing in the sources answers this."

_K1, _B = 1.2, 0.4  # BM25's saturation; mild on length, since a good sentence is seldom the shortest
_INFLECTED = 0.8  # worth of "volunteers" where "volunteer" was asked for
_ABOVE = 0.4  # worth of a term that stands only above: in the heading or the title
_HEADER = 2.0  # times as much in the header of the table for a row that has another of the terms itself
_AS_ROW = 0.6  # worth of a header as a sentence of its own; some tables have their first facts there
_FIT = 0.3  # share of the question's weight that the best sentence has to cover
_NEAR = 0.5  # share of the best sentence's score, and of its cover, below which another is not quoted
_REPEATS = 0.35  # weight of likeness to what is quoted already
_SAME = 0.8  # likeness from which it is the same again
_CONSIDERED = 50  # candidates, at most, that are compared with each other
_LONGEST = 700  # code points of one quote

_RULE = re.compile(r"\|[\s:|-]*-[\s:|-]*\|?")
_LEAD = re.compile(r"(?:[-*+•·‣▪–>]|#{1,6})\s+")
_ENDED = re.compile(r"[.!?…。！？؟।۔:][\"'”’»)\]}」』）*_]*\Z")
_REFERENCE = re.compile(r"\s*[\[【]\^?\d{1,3}(?:[\s,;–-]+\d{1,3})*[\]】]\s*")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_PIPE = re.compile(r"(?<!\\)\|")
_LAST_PIPE = re.compile(r"\s*(?<!\\)\|\Z")
_LINE_END = re.compile(r"\s*\n\s*")
_WORD = re.compile(r"\s*\S{1,16}|\s+")  # a line without spaces comes in pieces too


class ExtractiveSettings(ComponentSettings):
    """`sentences`: how many at most. `words_per_second`: slower where somebody watches; 0 is as fast as it goes."""

    sentences: int = Field(default=4, ge=1, le=5)
    words_per_second: float = Field(default=0, ge=0, le=1000)


class Extractive(LLM[ExtractiveSettings]):
    """Answers with sentences of the passages, each as it stands there (a line end becomes a space) and with its `[n]`.

    It says so first, as reasoning. Rows stand in a table where their header is quoted too; a row alone is its cells,
    parted by commas. Where no sentence fits it answers `NOTHING`, without a citation.
    """

    name = "extractive"
    Settings = ExtractiveSettings
    generates = False
    context_window = 131_072

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta]:
        """The reasoning, the quotes word by word, `Finish("stop")`, `Usage`."""
        plan = "Extractive answer: no language model is asked. The sentences that fit the question best are quoted.\n"
        async for word in self._paced(plan):
            yield Reasoning(word)
        # Ranking a full prompt takes some milliseconds, which belong to the others on the event loop.
        found = await asyncio.to_thread(pick, request.question, request.passages, self.settings.sentences)
        why, answer = _account(found, len(request.passages)), _answer(found.quotes)
        async for word in self._paced(why):
            yield Reasoning(word)
        async for word in self._paced(answer):
            yield Text(word)
        yield Finish("stop")
        read = sum(self.count(passage.prompt_text) for passage in request.passages) + self.count(request.question)
        yield Usage(prompt=read, completion=self.count(answer), reasoning=self.count(plan + why))

    async def _paced(self, text: str) -> AsyncIterator[str]:
        pause = 1 / self.settings.words_per_second if self.settings.words_per_second else 0
        for word in _WORD.findall(text):
            await asyncio.sleep(pause)
            yield word


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of passage `n` (from 1), from `start` in its `prompt_text`; its table's header begins at `header`."""

    n: int
    start: int
    text: str
    header: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What `pick` chose, in reading order, out of `compared` sentences, by the question's words `sought`."""

    quotes: tuple[Quote, ...]
    compared: int
    sought: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    quote: Quote
    stems: Counter[str]
    words: frozenset[str]
    above: Mapping[str, float]  # the stems of what stands above it, and their worth
    header: Quote | None  # of its table
    worth: float


def pick(question: str, passages: Sequence[Passage], limit: int) -> Found:
    """The sentences of `passages` that fit the question best, at most `limit`; none if none fits."""
    asked = {stem_of(word): word for word in asked_words(question)}
    found = [c for n, passage in enumerate(passages, 1) for c in _candidates(n, passage, len(passages))]
    sought = tuple(asked.values())
    if not found or not asked:
        return Found((), len(found), sought)
    spread = Counter(stem for candidate in found for stem in candidate.stems)
    # A word that no sentence has weighs no more than one that a single sentence has: it may be a mere synonym.
    weights = {stem: math.log1p((len(found) - n + 0.5) / (n + 0.5)) for stem in asked if (n := max(spread[stem], 1))}
    scores = _scores(found, asked, weights)
    best = max(range(len(found)), key=scores.__getitem__)
    cover = _cover(found[best], weights)
    if cover < _FIT * sum(weights.values()):
        return Found((), len(found), sought)
    near = [i for i, score in enumerate(scores) if score >= _NEAR * scores[best]]
    near = [i for i in near if _cover(found[i], weights) >= _NEAR * cover]
    chosen = _diverse([(scores[i] / scores[best], found[i]) for i in near], limit)
    return Found(tuple(_with_headers(chosen, limit)), len(found), sought)


def _candidates(n: int, passage: Passage, of: int) -> Iterator[_Candidate]:
    """The sentences of passage `n` out of `of`, each with what stands above it."""
    text = passage.prompt_text
    ranges = sentences(text)
    named = dict.fromkeys(_stems(f"{passage.title} {passage.context}"), _ABOVE)
    above, header, in_table = named, None, named
    before = 1 - 0.2 * (n - 1) / of  # what was found first is a little likelier
    for (start, end), (after, after_end) in zip(ranges, [*ranges[1:], (0, 0)], strict=False):
        raw = text[start:end]
        if _RULE.fullmatch(raw):
            continue
        if raw[0] != "|":
            header, in_table = None, above
            title = _is_title(text, start, end)
            for quote in _cut(n, start, raw):
                yield _candidate(quote, above, None, before * (_ABOVE if title else 1))
            if title or raw[-1] in ":：":
                above = in_table = named | dict.fromkeys(_stems(raw), _ABOVE)
        elif _RULE.fullmatch(text, after, after_end):
            header, in_table = Quote(n, start, raw), above | dict.fromkeys(_stems(raw), _ABOVE)
            yield _candidate(header, above, None, before * _AS_ROW)
        else:
            yield _candidate(Quote(n, start, raw, header.start if header else None), in_table, header, before)


def _candidate(quote: Quote, above: Mapping[str, float], header: Quote | None, worth: float) -> _Candidate:
    words = terms(quote.text)
    return _Candidate(quote, Counter(map(stem_of, words)), frozenset(words), above, header, worth if words else 0)


def _stems(text: str) -> frozenset[str]:
    return frozenset(map(stem_of, terms(text)))


def _is_title(text: str, start: int, end: int) -> bool:
    """Whether this is a short line of its own without a stop, and no list item, entry or line of numbers."""
    if text[start] == "#":
        return True
    line = text[start:end]
    alone = text[max(0, start - 1) : start] in ("", "\n") and text[end : end + 1] in ("", "\n")
    if not alone or len(line) > 80 or "\n" in line or ": " in line or _LEAD.match(line):
        return False
    return not _ENDED.search(line) and len(_NUMBER.findall(line)) < 3


def _cut(n: int, start: int, raw: str) -> Iterator[Quote]:
    """A sentence without its bullet; one that is too long in pieces of whole words."""
    lead = _LEAD.match(raw)
    at = lead.end() if lead else 0
    while len(raw) - at > _LONGEST:
        gap = max(raw.rfind(mark, at, at + _LONGEST) for mark in ";,，、؛ \n")
        end = gap + 1 if gap > at else at + _LONGEST
        yield Quote(n, start + at, raw[at:end].strip())
        at = end
    yield Quote(n, start + at, raw[at:].strip())


def _scores(found: Sequence[_Candidate], asked: Mapping[str, str], weights: Mapping[str, float]) -> list[float]:
    lengths = [sum(c.stems.values()) for c in found]
    mean = sum(lengths) / len(lengths) or 1
    scores = []
    for c, length in zip(found, lengths, strict=True):
        score = 0.0
        for stem, word in asked.items():
            if times := c.stems[stem]:
                saturated = times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * length / mean))
                score += weights[stem] * saturated * (1 if word in c.words else _INFLECTED)
        scores.append((score + _from_above(c, weights)) * c.worth)
    return scores


def _from_above(c: _Candidate, weights: Mapping[str, float]) -> float:
    """What the terms count that the sentence itself has not, and that stand above it."""
    score = sum(weight * c.above.get(stem, 0) for stem, weight in weights.items() if not c.stems[stem])
    return score * (_HEADER if c.header and any(c.stems[stem] for stem in weights) else 1)


def _cover(c: _Candidate, weights: Mapping[str, float]) -> float:
    """The weight of what was asked that the sentence has, with what stands above it."""
    return sum(weight for stem, weight in weights.items() if c.stems[stem]) + _from_above(c, weights)


def _diverse(near: Sequence[tuple[float, _Candidate]], limit: int) -> list[_Candidate]:
    """Of candidates with their relevance in (0, 1]: the best, then whatever else fits and says something else."""
    left = sorted(near, key=lambda pair: -pair[0])[:_CONSIDERED]
    chosen: list[_Candidate] = []
    while left and len(chosen) < limit:
        alike = [max((_alike(c, other) for other in chosen), default=0.0) for _, c in left]
        values = [(1 - _REPEATS) * score - _REPEATS * like for (score, _), like in zip(left, alike, strict=True)]
        next_one = max(range(len(left)), key=values.__getitem__)
        if alike[next_one] < _SAME:
            chosen.append(left[next_one][1])
        del left[next_one]
    return chosen


def _alike(a: _Candidate, b: _Candidate) -> float:
    return len(a.stems.keys() & b.stems.keys()) / max(1, min(len(a.stems), len(b.stems)))


def _with_headers(chosen: Sequence[_Candidate], limit: int) -> list[Quote]:
    """At most `limit` quotes in reading order. A table's row brings its header where there is room for it."""
    quotes: dict[tuple[int, int], Quote] = {}
    for c in chosen:
        for quote in (c.quote, c.header):
            if quote and len(quotes) < limit:
                quotes[quote.n, quote.start] = quote
    return [quotes[place] for place in sorted(quotes)]


def _answer(quotes: Sequence[Quote]) -> str:
    """Each quote with its `[n]`. What is a sentence goes on in the line; what is not has a line of its own."""
    answer = ""
    tables = _tables(quotes)
    for i, (quote, table) in enumerate(zip(quotes, tables, strict=True)):
        before = quotes[i - 1] if i else quote
        if before.n != quote.n or (i and tables[i - 1] != table):
            answer += "\n\n"
        elif i:
            answer += " " if table is None and _ENDED.search(before.text) and quote.text[0] != "|" else "\n"
        answer += _cited(quote) if table is None else _row(quote, head=quote.header is None)
    return answer or NOTHING


def _tables(quotes: Sequence[Quote]) -> list[tuple[int, int] | None]:
    """For each quote the header, as `(n, start)`, under which it is shown, if its table's header is among them."""
    headers = {(q.n, q.start): len(_cells(q.text)) for q in quotes}
    widest: dict[tuple[int, int], int] = {}
    for q in quotes:
        if q.header is not None:
            widest[q.n, q.header] = max(widest.get((q.n, q.header), 0), len(_cells(q.text)))
    # What is wider than its header loses cells where Markdown is read.
    whole = {place for place, width in widest.items() if width <= headers.get(place, 0)}
    own = [(q.n, q.start if q.header is None else q.header) for q in quotes]
    return [place if place in whole else None for place in own]


def _cells(row: str) -> list[str]:
    """Of a row of a pipe table."""
    cells = [cell.strip() for cell in _PIPE.split(row.strip().removeprefix("|"))]
    return cells if cells[-1] else cells[:-1]


def _row(quote: Quote, *, head: bool) -> str:
    """A line of a table, cited in its last cell: behind it Markdown reads nothing. The header needs no citation."""
    row = _REFERENCE.sub(" ", quote.text).strip()
    if head:
        return f"{row}\n|{' --- |' * len(_cells(quote.text))}"
    return f"{_LAST_PIPE.sub('', row)} [{quote.n}] |"


def _cited(quote: Quote) -> str:
    text = ", ".join(filter(None, _cells(quote.text))) if quote.text[0] == "|" else quote.text
    # A source's own "[3]" would cite our passage 3: the quote is parted there, and every part cited.
    parts = [part for part in _REFERENCE.split(_LINE_END.sub(" ", text)) if terms(part)]
    return " ".join(f"{part} [{quote.n}]" for part in parts)


def _account(found: Found, passages: int) -> str:
    compared = f"{_counted(found.compared, 'sentence')} of {_counted(passages, 'passage')} compared"
    sought = f" by the words {', '.join(found.sought[:12])}" if found.sought else ""
    cited = len({quote.n for quote in found.quotes})
    quoted = f"{_counted(len(found.quotes), 'sentence')} of {_counted(cited, 'passage')} quoted"
    return f"{compared}{sought}: {quoted if found.quotes else 'none fits'}."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@hookimpl
def register_llms() -> list[type[Extractive]]:
    """The extractive answerer."""
    return [Extractive]
