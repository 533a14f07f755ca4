"""Which chunker finds the right characters: recall, precision and IoU of what is retrieved, at equal length.

    python bench/chunking.py DATA [--length 4000] [--questions 317] [--tokenizer tokenizer.json]

DATA holds `corpora/*.md` and `questions.jsonl` ({"corpus", "question", "spans": [{"start", "end"}]}, offsets in code
points), as the chunking evaluation of Chroma does (Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval",
2024, whose measures these are). All corpora lie in one notebook, are cut by each chunker, and are searched by BM25
through the embedded index, as a server without an embedding model does it. Of each question's passages, best first, so
many are taken as make up `--length` characters, the last one cut: every chunker is given the same number of characters.

    recall      share of the gold characters that were retrieved
    precision   share of the retrieved characters that are gold
    IoU         gold and retrieved over gold or retrieved
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from measuring import machine, table

from sourcebook.accepting import chunks_of
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.owners import Principal

Range = tuple[str, int, int]
_MOST = 100  # passages of one search


@dataclass(frozen=True)
class Question:
    """What is asked, and the ranges that answer it."""

    text: str
    gold: list[Range]


def chunkers(tokenizer: str) -> dict[str, dict[str, Any]]:
    """What is compared: an instance name, and its settings."""
    found: dict[str, dict[str, Any]] = {}
    for size in (400, 800, 1200, 1600):
        found[f"markdown_{size}"] = {"use": "markdown", "size": size, "overlap": 0}
        found[f"markdown_{size}_overlap"] = {"use": "markdown", "size": size, "overlap": size // 4}
        found[f"recursive_{size}"] = {"use": "recursive", "size": size, "overlap": 0}
        found[f"recursive_{size}_overlap"] = {"use": "recursive", "size": size, "overlap": size // 4}
    for count in (1, 3, 5):
        found[f"sentence_{count}"] = {"use": "sentence", "sentences": count}
    found["sentence_3_overlap"] = {"use": "sentence", "sentences": 3, "overlap": 1}
    if tokenizer:
        found["tokens_256"] = {"use": "tokens", "size": 256, "overlap": 32, "tokenizer": tokenizer}
        found["tokens_128"] = {"use": "tokens", "size": 128, "overlap": 16, "tokenizer": tokenizer}
    return found


async def main() -> None:
    """Ingest, ask, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--length", type=int, default=4000, help="characters that are retrieved a question")
    parser.add_argument("--questions", type=int, default=10_000, help="of each corpus, at most")
    parser.add_argument("--tokenizer", default="", help="a tokenizer.json, to measure `tokens` too")
    given = parser.parse_args()
    corpora = sorted((given.data / "corpora").glob("*.md"))
    questions = _questions(given.data / "questions.jsonl", given.questions)
    print(machine())
    print(f"{len(corpora)} corpora, {len(questions)} questions, {given.length:,} characters retrieved for each\n")
    instances = chunkers(given.tokenizer)
    pipelines: dict[str, Any] = {
        name: {"chunker": name, "search": {"limit": _MOST, "overfetch": 1}} for name in instances
    }
    with tempfile.TemporaryDirectory() as folder:
        layers = {
            "storage": {"path": folder},
            "chunkers": instances,
            "pipelines": pipelines,
            "retrievers": {"qdrant": {"idle_seconds": 0}},
        }
        async with Sourcebook(load(environ={}, overrides=layers)) as book:
            who = await book.owners.local()
            rows = [await _measured(book, who, name, corpora, questions, given.length) for name in instances]
    rows.sort(key=lambda row: row[4], reverse=True)
    table(["chunker", "passages", "mean size", "recall", "precision", "IoU"], [_shown(row) for row in rows])


async def _measured(
    book: Sourcebook, who: Principal, name: str, corpora: Sequence[Path], questions: Sequence[Question], length: int
) -> tuple[Any, ...]:
    notebook = await book.create_notebook(who, name, pipeline=name)
    documents: dict[str, str] = {}
    count = 0
    for path in corpora:
        source_id, _ = await book.sources.accept(notebook, f"{path.stem}.txt", chunks_of(path))
        while (source := await book.sources.get(who, source_id)).state != "ready":
            assert source.state != "failed", source.problem
            await asyncio.sleep(0.05)
        documents[source_id], count = path.stem, count + source.passages
    offsets = {
        name: await _aligned(book, who, sid, path) for (sid, name), path in zip(documents.items(), corpora, strict=True)
    }
    scores: list[tuple[float, float, float]] = []
    sizes: list[int] = []
    for question in questions:
        found = (await book.search(who, question.text, [notebook.id], limit=_MOST)).passages
        sizes += [p.end - p.start for p in found]
        gold = _characters((c, *(offsets[c](x) for x in (start, end))) for c, start, end in question.gold)
        got = _characters(_taken([(documents[p.source_id], p.start, p.end) for p in found], length))
        both = len(gold & got)
        scores.append((both / len(gold), both / max(len(got), 1), both / len(gold | got)))
    recall, precision, iou = (fmean(column) for column in zip(*scores, strict=True))
    return name, count, fmean(sizes), recall, precision, iou


async def _aligned(book: Sourcebook, who: Principal, source_id: str, path: Path) -> Any:
    """Offsets of the file -> offsets of the document, whose white space may differ: by the ink before."""
    source = await book.sources.get(who, source_id)
    assert source.document is not None
    text = await book.reading.text(source.document["id"], 0, source.document["length"])
    original = path.read_bytes().decode("utf-8")
    ink = [i for i, c in enumerate(text) if not c.isspace()]
    assert len(ink) == sum(not c.isspace() for c in original), path
    before = [0]
    for c in original:
        before.append(before[-1] + (not c.isspace()))
    return lambda offset: ink[before[offset]] if before[offset] < len(ink) else len(text)


def _taken(found: Iterable[Range], length: int) -> list[Range]:
    """The first ranges that make up `length` characters, no character twice; the last is cut."""
    taken: list[Range] = []
    seen: set[tuple[str, int]] = set()
    for document, start, end in found:
        fresh = [i for i in range(start, end) if (document, i) not in seen][:length]
        seen.update((document, i) for i in fresh)
        taken += [(document, i, i + 1) for i in fresh]
        length -= len(fresh)
        if length <= 0:
            break
    return taken


def _characters(ranges: Iterable[Range]) -> set[tuple[str, int]]:
    return {(document, i) for document, start, end in ranges for i in range(start, end)}


def _questions(path: Path, most: int) -> list[Question]:
    found: dict[str, list[Question]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        gold = [(row["corpus"], span["start"], span["end"]) for span in row["spans"]]
        found.setdefault(row["corpus"], []).append(Question(row["question"], gold))
    return [question for of_one in found.values() for question in of_one[:most]]


def _shown(row: tuple[Any, ...]) -> list[str]:
    name, count, size, *scores = row
    return [name, str(count), f"{size:.0f}", *(f"{100 * score:.1f}" for score in scores)]


if __name__ == "__main__":
    asyncio.run(main())
