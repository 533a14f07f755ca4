"""What is said where the sources do not hold the answer: measured on XQuAD, half of whose articles are left out.

Every question of a paragraph that is there should keep a passage of it; of one that is not, the best would be to find
nothing that fits. Prints, for several thresholds of `search.relevance`, how many questions of each kind are left with
passages, and what the extractive answerer makes of them. Needs SOURCEBOOK_EVAL_DATA.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from measuring import machine, table, workspace

from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.relevance import relevant

THRESHOLDS = (0.0, 0.15, 0.25, 0.35, 0.5, 0.65)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


async def once(data: bytes) -> AsyncIterator[bytes]:
    """An upload in one piece."""
    yield data


async def measure(folder: Path, language: str, count: int) -> None:
    """Index every other article, and ask about all."""
    collection = Path(os.environ["SOURCEBOOK_EVAL_DATA"]) / "ir" / f"xquad-{language}"
    documents = list(lines(collection / "corpus.jsonl"))
    corpus = {d["_id"]: d["text"] for d in documents}
    questions = {q["_id"]: q["text"] for q in lines(collection / "queries.jsonl")}
    gold: dict[str, str] = {}
    for row in next((collection / "qrels").glob("*.tsv")).read_text(encoding="utf-8").splitlines()[1:]:
        question, document, *_ = row.split("\t")
        gold.setdefault(question, document)
    articles = set(list(dict.fromkeys(d["title"] for d in documents))[::2])
    there = {d["_id"] for d in documents if d["title"] in articles}
    options = {"storage": {"path": str(folder)}, "retrievers": {"qdrant": {"idle_seconds": 0}}}
    async with Sourcebook(load(environ={}, overrides=options)) as book:
        me = await book.owners.local()
        notebook = await book.create_notebook(me, "xquad")
        names = {}
        for document in sorted(there):
            source, _ = await book.sources.accept(notebook, f"{document}.txt", once(corpus[document].encode()))
            names[source] = document
        waiting = set(names)
        while waiting:
            await asyncio.sleep(0.2)
            for source in list(waiting):
                if (await book.sources.get(me, source)).state == "ready":
                    waiting.remove(source)
        kinds = {
            "in the sources": [q for q in questions if gold.get(q) in there][:count],
            "not in the sources": [q for q in questions if q in gold and gold[q] not in there][:count],
        }
        await report(book, me, notebook.id, kinds, {q: questions[q] for k in kinds.values() for q in k}, gold, names)


async def report(
    book: Sourcebook,
    me: Any,
    notebook: str,
    kinds: dict[str, list[str]],
    questions: dict[str, str],
    gold: dict[str, str],
    names: dict[str, str],
) -> None:
    """Both tables."""
    found = {q: (await book.search(me, text, [notebook])).passages for q, text in questions.items()}
    rows = []
    for least in THRESHOLDS:
        left = {q: relevant(questions[q], p, {"words": least}) for q, p in found.items()}
        answerable, other = kinds.values()
        kept = sum(any(names[p.source_id] == gold[q] for p in left[q]) for q in answerable)
        before = sum(any(names[p.source_id] == gold[q] for p in found[q]) for q in answerable)
        nothing = sum(not left[q] for q in other)
        some = sum(len(left[q]) for q in other) / max(1, len(other))
        rows.append((f"{least:.2f}", f"{kept / max(1, before):.2f}", f"{nothing / len(other):.2f}", f"{some:.1f}"))
    print("\nsearch.relevance: gold passage kept, of those found; and of questions without an answer")
    table(("words", "gold kept", "left with nothing", "passages left"), rows)
    told: list[tuple[str, str, str]] = []
    for kind, some_questions in kinds.items():
        grounded = right = 0
        for q in some_questions:
            run = await book.ask(me, questions[q], [notebook])
            await run.wait()
            grounded += run.progress.grounded
            right += any(names[c.source_id] == gold[q] for c in run.progress.citations)
        total = len(some_questions)
        told.append((kind, f"{grounded / total:.2f}", f"{right / total:.2f}"))
    print("\nthe extractive answerer, with the default threshold")
    table(("questions", "grounded", "cites gold"), told)


def main() -> None:
    """Measure one language."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", default="en")
    parser.add_argument("--questions", type=int, default=150, help="of each kind")
    given = parser.parse_args()
    if not os.environ.get("SOURCEBOOK_EVAL_DATA"):
        sys.exit("SOURCEBOOK_EVAL_DATA is not set: it names the folder with the collection ir/xquad-en.")
    print(machine())
    with workspace("abstain") as folder:
        asyncio.run(measure(folder, given.language, given.questions))


if __name__ == "__main__":
    main()
