"""Pipelines measured on gold sets of both forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sourcebook.errors import ConfigError, InvalidInput
from sourcebook.evaluation import reports, sets
from sourcebook.evaluation.running import on_collection, on_notebook

from .support import Room, in_a_room

SILENT = lambda what, done, total: None  # noqa: E731


def collection(folder: Path) -> Path:
    documents = {"d1": "Roses need water.", "d2": "Tulips need sun.", "d3": "Ferns need shade."}
    corpus = [json.dumps({"_id": i, "title": "", "text": text}) for i, text in documents.items()]
    queries = [json.dumps({"_id": i, "text": t}) for i, t in (("q1", "tulips sun"), ("q2", "ferns"), ("q3", "no gold"))]
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    (folder / "queries.jsonl").write_text("\n".join(queries))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\nq2\td1\t1\n")
    return folder


@in_a_room(pipelines={"blind": {"extends": "default", "search": {"weights": {"lexical": 0, "dense": 0}}}})
async def test_a_collection_is_stored_asked_and_compared(room: Room) -> None:
    gold = sets.read(collection(room.book.folder / "set"))
    assert [q.id for q in gold.questions] == ["q1", "q2"]
    results = [await on_collection(room.book, room.me, gold, name, 1, 2, SILENT) for name in ("default", "blind")]
    assert results[0].values["ndcg@1"] == [1.0, 0.0]
    assert results[1].values["recall@2"] == [0.0, 0.0]
    report = reports.report(gold.name, 2, results, {})
    assert report["compared"][0]["measures"]["ndcg@1"]["difference"] == -0.5
    assert "| default | 0.5000 [" in reports.markdown(report)
    assert reports.svg(report).count("<rect") == len(report["pipelines"][0]["measures"]) * 2


@in_a_room(
    pipeline={"embedder": ""},
    pipelines={
        "same": {"extends": "default", "search": {"limit": 1}},
        "other": {"extends": "default", "embedder": "letters"},
    },
)
async def test_a_notebooks_own_questions_are_measured_by_place(room: Room) -> None:
    text = "Roses need water.\n\nTulips need sun.\n\nFerns need shade."
    await room.ready("garden.txt", text)
    start = text.index("Tulips")
    file = room.book.folder / "own.jsonl"
    lines = [{"question": "tulips sun", "source": "garden.txt", "spans": [[start, start + 6]]}]
    lines.append({"question": "tulips", "source": "garden.txt", "spans": [[0, 5]]})
    file.write_text("\n".join(map(json.dumps, lines)))
    result = await on_notebook(room.book, room.me, room.notebook, sets.read(file), "same", 1, 1, SILENT)
    assert result.values["ndcg@1"] == [1.0, 0.0]
    assert result.values["character_recall@1"] == [1.0, 0.0]
    assert result.values["character_precision@1"][0] == pytest.approx(6 / len("Tulips need sun."))
    with pytest.raises(ConfigError, match="cut or embed it otherwise"):
        await on_notebook(room.book, room.me, room.notebook, sets.read(file), "other", 1, 1, SILENT)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1, is not JSON"),
        ("[]", "line 1, is not an object"),
        ('{"question": "a", "source": "b"}', "line 1, needs `spans` or `pages`"),
        ('{"question": "a", "source": "b", "spans": [[3, 1]]}', "line 1, has spans that are no"),
        ('{"question": "a", "source": "b", "pages": ["3"]}', "line 1, has spans that are no"),
        ('{"source": "b", "pages": [3]}', "line 1, needs a text `question`"),
        ("", "has no question"),
    ],
)
def test_a_broken_set_is_told_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(line)
    with pytest.raises(InvalidInput) as broken:
        sets.read(file)
    assert said in str(broken.value)
