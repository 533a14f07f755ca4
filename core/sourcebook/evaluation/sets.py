"""Gold sets: what is asked, and what should be found.

Two forms. A folder in BEIR's layout (`corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`) brings its own documents. A
JSON-lines file asks about sources of a notebook, one question a line:

    {"question": "When does it close?", "source": "handbook.pdf", "spans": [[120, 180]]}
    {"question": "Who signs?", "source": "src_01k...", "pages": [3]}

`source` is a name or an id; `spans` are ranges of code points of the text that was read from it; `pages` count from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from sourcebook.errors import InvalidInput
from sourcebook.evaluation.measures import Span


@dataclass(frozen=True)
class Question:
    """`gold` grades documents of a collection; `source` with `spans` or `pages` is a place in a notebook."""

    id: str
    text: str
    gold: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    spans: tuple[Span, ...] = ()
    pages: tuple[int, ...] = ()


@dataclass(frozen=True)
class GoldSet:
    """Questions, and the documents of a collection (id -> title, text); a notebook's own questions have none."""

    name: str
    questions: tuple[Question, ...]
    documents: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def read(path: Path, split: str = "test") -> GoldSet:
    """Either form. Raises `InvalidInput` (code `gold_invalid`) with file and line."""
    found = _collection(path, split) if path.is_dir() else _places(path)
    if not found.questions:
        raise _invalid(path, "has no question with an answer to find")
    return found


def _collection(folder: Path, split: str) -> GoldSet:
    grades: dict[str, dict[str, float]] = {}
    qrels = folder / "qrels" / f"{split}.tsv"
    for number, line in enumerate(_text(qrels).splitlines(), 1):
        parts = line.split("\t")
        if number == 1 and parts[-1].strip() == "score":
            continue
        try:
            query, document, grade = parts
            grades.setdefault(query, {})[document] = float(grade)
        except ValueError:
            raise _invalid(qrels, "needs query, document and grade between tabs", number) from None
    asked = folder / "queries.jsonl"
    questions = [
        Question(i, _field(row, "text", asked, n), gold=grades[i])
        for n, row in _rows(asked)
        if (i := _field(row, "_id", asked, n)) in grades
    ]
    corpus = folder / "corpus.jsonl"
    documents = {
        _field(row, "_id", corpus, n): (str(row.get("title") or ""), _field(row, "text", corpus, n, empty=True))
        for n, row in _rows(corpus)
    }
    return GoldSet(folder.name, tuple(questions), documents)


def _places(file: Path) -> GoldSet:
    questions = []
    for number, row in _rows(file):
        try:
            spans = tuple(_span(one) for one in row.get("spans", ()))
            pages = tuple(_page(one) for one in row.get("pages", ()))
        except (TypeError, ValueError, KeyError):
            raise _invalid(file, "has spans that are no [start, end] or pages that are no numbers", number) from None
        if not spans and not pages:
            raise _invalid(file, "needs `spans` or `pages`", number)
        text, source = _field(row, "question", file, number), _field(row, "source", file, number)
        questions.append(Question(str(row.get("id", number)), text, source=source, spans=spans, pages=pages))
    return GoldSet(file.stem, tuple(questions))


def _span(one: Any) -> Span:
    start, end = (one["start"], one["end"]) if isinstance(one, Mapping) else one
    if type(start) is not int or type(end) is not int or not 0 <= start < end:
        raise ValueError
    return start, end


def _page(one: Any) -> int:
    if type(one) is not int or one < 1:
        raise ValueError
    return one


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if line.strip():
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise _invalid(file, f"is not JSON: {error}", number) from None
            if not isinstance(row, dict):
                raise _invalid(file, "is not an object", number)
            yield number, row


def _field(row: Mapping[str, Any], name: str, file: Path, number: int, *, empty: bool = False) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise _invalid(file, f"needs a text `{name}`", number)
    return value


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise _invalid(file, f"cannot be read: {reason}") from None


def _invalid(path: Path, what: str, line: int = 0) -> InvalidInput:
    where = f"{path}, line {line}," if line else f"{path}"
    remedy = "A set is a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv, or a file of questions."

    return InvalidInput(f"{where} {what}.", code="gold_invalid", remedy=remedy)
