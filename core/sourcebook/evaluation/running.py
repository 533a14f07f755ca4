"""Asks every question of a gold set of one pipeline, and measures what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sourcebook.documents import Passage
from sourcebook.errors import ConfigError, InvalidInput
from sourcebook.evaluation import measures
from sourcebook.evaluation.collections import store
from sourcebook.evaluation.sets import GoldSet, Question

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Principal

Progress = Callable[[str, int, int], None]
"""What is done, how much of it, of how much."""


@dataclass
class Result:
    """Measure (`ndcg@10`) -> one value a question, in their order; `took_ms` is each search's time."""

    pipeline: str
    values: dict[str, list[float]] = field(default_factory=dict)
    took_ms: list[float] = field(default_factory=list)

    def add(self, measured: Mapping[str, float], took_ms: float) -> None:
        """One question's."""
        for name, value in measured.items():
            self.values.setdefault(name, []).append(value)
        self.took_ms.append(took_ms)


async def on_collection(
    book: Sourcebook, me: Principal, gold: GoldSet, pipeline: str, k: int, depth: int, progress: Progress
) -> Result:
    """In a notebook of its own, which is made here: every document of the collection is one passage."""
    notebook = await book.create_notebook(me, f"{gold.name} {pipeline}", pipeline=pipeline)
    total = len(gold.documents)
    named = await store(book, notebook, gold.documents, lambda done: progress("indexed", done, total))
    result = Result(pipeline)
    for number, question in enumerate(gold.questions, 1):
        found = await book.search(me, question.text, [notebook.id], limit=depth)
        ranked = [named[p.source_id] for p in found.passages if p.source_id in named]
        result.add(_graded(ranked, question.gold, k, depth), found.took_ms)
        progress("asked", number, len(gold.questions))
    return result


async def on_notebook(
    book: Sourcebook,
    me: Principal,
    notebook: Notebook,
    gold: GoldSet,
    pipeline: str,
    k: int,
    depth: int,
    progress: Progress,
) -> Result:
    """In a user's own notebook, as it is indexed. Raises `ConfigError` for a pipeline that would index it otherwise."""
    own = book.pipelines[notebook.pipeline]
    other = book.pipelines[pipeline or notebook.pipeline]
    if own.spec != other.spec:
        raise ConfigError(
            f"The notebook is indexed as {own.name} says, and {other.name} would cut or embed it otherwise.",
            remedy="Make a notebook on that pipeline, put the same files in, and evaluate it by itself.",
            code="other_index",
        )
    scope, _ = await book.notebooks.scope(me, [notebook.id])
    sources = await _sources(book, me, notebook, gold)
    result = Result(other.name)
    asked = replace(notebook, pipeline=other.name)
    for number, question in enumerate(gold.questions, 1):
        found = await book.searching.search(question.text, scope, [asked], limit=depth)
        result.add(_placed(found.passages, question, sources[question.source], k, depth), found.took_ms)
        progress("asked", number, len(gold.questions))
    return result


async def _sources(book: Sourcebook, me: Principal, notebook: Notebook, gold: GoldSet) -> dict[str, str]:
    """Name or id as the set has it -> the source's id. Raises `InvalidInput` for one that is not in the notebook."""
    known: dict[str, str] = {}
    cursor: str | None = None
    while True:
        page = await book.sources.listing(me, notebook.id, 200, cursor)
        for source in page.items:
            known |= {source.id: source.id, source.name: source.id}
        if (cursor := page.next_cursor) is None:
            break
    if missing := sorted({q.source for q in gold.questions} - known.keys()):
        raise InvalidInput(
            f"The notebook {notebook.title!r} has no source {missing[0]!r}.",
            code="gold_invalid",
            remedy="Name sources as `sourcebook sources` lists them, by name or id.",
        )
    return known


def _graded(ranked: Sequence[str], gold: Mapping[str, float], k: int, depth: int) -> dict[str, float]:
    found = {
        f"ndcg@{k}": measures.ndcg(ranked, gold, k),
        f"recall@{k}": measures.recall(ranked, gold, k),
        f"mrr@{k}": measures.reciprocal_rank(ranked, gold, k),
    }
    if depth > k:
        found[f"recall@{depth}"] = measures.recall(ranked, gold, depth)
    return found


def _placed(passages: Sequence[Passage], question: Question, source_id: str, k: int, depth: int) -> dict[str, float]:
    """A wanted span or page is what is graded; a passage stands for the first one that none before it had."""
    own = [p if p.source_id == source_id else None for p in passages]
    gold: dict[str, float] = dict.fromkeys(map(str, question.spans or question.pages), 1.0)
    ranked: list[str] = []
    for number, passage in enumerate(own):
        there = [name for name in _wanted_in(passage, question) if name not in ranked] if passage else []
        ranked += there or [f"other {number}"]
    found: dict[str, float] = _graded(ranked, gold, k, depth)
    if question.pages:
        pages = [[at.page for at in p.places if at.page] if p else [] for p in own]
        found[f"page_hit@{k}"] = measures.hit(pages, question.pages, k)
    if question.spans:
        spans = [(p.start, p.end) for p in own[:k] if p]
        elsewhere = sum(p.end - p.start for p in passages[:k] if p.source_id != source_id)
        recall, precision = measures.characters(spans, question.spans)
        size = sum(end - start for start, end in measures.merged(spans))
        found[f"character_recall@{k}"] = recall
        found[f"character_precision@{k}"] = precision * size / (size + elsewhere) if size else 0.0
    return found


def _wanted_in(passage: Passage, question: Question) -> list[str]:
    if question.spans:
        return [str(s) for s in question.spans if s[0] < passage.end and passage.start < s[1]]
    pages: set[Any] = {place.page for place in passage.places}
    return [str(page) for page in question.pages if page in pages]
