"""Ingestion, from accepted bytes to ready, against the sum of its bare libraries in one process.

Sourcebook accepts (hash, fsync, SQL), parses and cuts each file in a jailed process, stores text, places and passages
in SQLite and indexes them in Qdrant Edge. Bare: the same libraries called one after the other in a loop, without
places, jail, jobs or checkpoints: the text of the file, cut every 1,200 characters, inserted into SQLite, and BM25 and
an upsert into Qdrant Edge.

The files of SOURCEBOOK_EVAL_DATA/documents are used where that is set, else generated Markdown and PDF.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import Words, cpu_below, machine, median, table, workspace

from sourcebook.app import Sourcebook, chunks_of
from sourcebook.configuration import load
from sourcebook.owners import Principal
from sourcebook.sources import Source

_SIZE = 1200
_BATCH = 64


@dataclass(frozen=True)
class Result:
    """Of one run over all files: seconds on the clock, of all processors, and what came of it."""

    wall: float
    cpu: float
    documents: int
    passages: int


def generate(folder: Path, documents: int, pages: int) -> list[Path]:
    """Half Markdown, half PDF; a page is about 400 words."""
    from fpdf import FPDF

    words, made = Words(), []
    for number in range(documents):
        paragraphs = [words.paragraph(100) for _ in range(4 * pages)]
        if number % 2:
            made.append(folder / f"{number}.md")
            sections = [f"## {' '.join(words.some(3))}\n\n{p}\n" for p in paragraphs]
            made[-1].write_text(f"# {' '.join(words.some(4))}\n\n" + "\n".join(sections), encoding="utf-8")
            continue
        pdf = FPDF()
        pdf.set_font("helvetica", size=10)
        for page in range(pages):
            pdf.add_page()
            for paragraph in paragraphs[4 * page : 4 * page + 4]:
                pdf.multi_cell(0, 5, paragraph + "\n\n")
        made.append(folder / f"{number}.pdf")
        pdf.output(str(made[-1]))
    return made


async def sourcebook(files: Sequence[Path], folder: Path) -> Result:
    """Everything, with the packaged defaults. Jail and index are warm, as in a running server."""
    overrides = {"storage": {"path": str(folder)}, "retrievers": {"qdrant": {"idle_seconds": 0}}}
    async with Sourcebook(load(environ={}, overrides=overrides)) as book:
        who = await book.owners.local()
        warm = await book.create_notebook(who, "warm")
        await _settled(book, who, [(await book.sources.accept(warm, files[0].name, chunks_of(files[0])))[0]])
        notebook = await book.create_notebook(who, "measured")
        wall, cpu = time.perf_counter(), cpu_below(os.getpid())
        ids = [(await book.sources.accept(notebook, file.name, chunks_of(file)))[0] for file in files]
        ready = [s.passages for s in await _settled(book, who, ids) if s.state == "ready"]
        return Result(time.perf_counter() - wall, cpu_below(os.getpid()) - cpu, len(ready), sum(ready))


async def _settled(book: Sourcebook, who: Principal, ids: Sequence[str]) -> list[Source]:
    """The sources, once each is ready or has failed. Looks at one at a time: a client's polling is not measured."""
    done: list[Source] = []
    for source_id in ids:
        while (source := await book.sources.get(who, source_id)).state not in ("ready", "failed"):
            await asyncio.sleep(0.1)
        done.append(source)
    return done


def bare(files: Sequence[Path], folder: Path) -> Result:
    """The libraries alone. What they cannot read is left out, as it fails in Sourcebook."""
    import qdrant_edge as edge

    database = sqlite3.connect(folder / "bare.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE passages (id TEXT PRIMARY KEY, document INTEGER, text TEXT)")
    config = edge.EdgeConfig(sparse_vectors={"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)})
    shard = edge.EdgeShard.create(str(folder / "shard"), config)
    terms = edge.Bm25(edge.Bm25Config(tokenizer=edge.TokenizerType.Word, language="english"))
    readers = {".pdf": _pdf, ".docx": _docx, ".md": _markdown}
    for reader in readers.values():  # their imports, as Sourcebook's are paid too
        _try(reader, files[0])
    wall, cpu, documents, passages = time.perf_counter(), cpu_below(os.getpid()), 0, 0
    for number, file in enumerate(files):
        text = _try(readers[file.suffix], file)
        if not text.strip():
            continue
        rows = [(str(uuid.uuid4()), number, text[i : i + _SIZE]) for i in range(0, len(text), _SIZE)]
        with database:
            database.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)
        for first in range(0, len(rows), _BATCH):
            points = [
                edge.Point(i, {"bm25": terms.embed_document(t)}, {"n": n}) for i, n, t in rows[first : first + _BATCH]
            ]
            shard.update(edge.UpdateOperation.upsert_points(points))
        shard.flush()
        documents, passages = documents + 1, passages + len(rows)
    result = Result(time.perf_counter() - wall, cpu_below(os.getpid()) - cpu, documents, passages)
    shard.close()
    database.close()
    return result


def _try(reader: Callable[[Path], str], file: Path) -> str:
    try:
        return reader(file)
    except Exception:  # each library raises its own for a file that it cannot read
        return ""


def _pdf(file: Path) -> str:
    import pypdfium2

    with pypdfium2.PdfDocument(file) as pdf:
        return "\n".join(page.get_textpage().get_text_range() for page in pdf)


def _docx(file: Path) -> str:
    import docx

    document = docx.Document(str(file))
    cells = (cell.text for table in document.tables for row in table.rows for cell in row.cells)
    return "\n".join([*(p.text for p in document.paragraphs), *cells])


def _markdown(file: Path) -> str:
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").parse(file.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(token.content for token in tokens if token.content)


def main() -> None:
    """Measure both, in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60, help="how many to generate")
    parser.add_argument("--pages", type=int, default=5, help="of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--generated", action="store_true", help="even where SOURCEBOOK_EVAL_DATA is set")
    parser.add_argument("--quick", action="store_true", help="a few small documents, once: to see that it runs")
    given = parser.parse_args()
    if given.quick:
        given.documents, given.pages, given.rounds, given.generated = 4, 1, 1, True
    real = os.environ.get("SOURCEBOOK_EVAL_DATA")
    with workspace("ingest") as folder:
        if real and not given.generated:
            found = (Path(real) / "documents").rglob("*")
            files = sorted(f for f in found if f.suffix in (".pdf", ".docx", ".md") and "reference" not in str(f))
        else:
            files = generate(folder, given.documents, given.pages)
        results: dict[str, list[Result]] = {"Sourcebook": [], "bare libraries": []}
        for turn in range(given.rounds):
            results["Sourcebook"].append(asyncio.run(sourcebook(files, folder / f"data-{turn}")))
            (folder / f"bare-{turn}").mkdir()
            results["bare libraries"].append(bare(files, folder / f"bare-{turn}"))
    _print(files, results, real if real and not given.generated else "generated")


def _print(files: Sequence[Path], results: dict[str, list[Result]], origin: str) -> None:
    size = sum(f.stat().st_size for f in files if f.exists()) / 1e6
    print(f"ingest: {len(files)} documents ({origin}), {size:.1f} MB" if size else f"ingest: {len(files)} documents")
    print(machine())
    rows, middle = [], {}
    for name, runs in results.items():
        wall, cpu = median([r.wall for r in runs]), median([r.cpu for r in runs])
        middle[name] = (wall, cpu)
        done, passages = runs[-1].documents, runs[-1].passages
        rates = (f"{done / wall:.1f}", f"{passages / wall:.0f}", f"{wall:.2f}", f"{cpu:.2f}")
        rows.append((name, str(done), str(passages), *rates))
    table(("", "ready", "passages", "documents/s", "passages/s", "seconds", "CPU s"), rows)
    (wall, cpu), (bare_wall, bare_cpu) = middle["Sourcebook"], middle["bare libraries"]
    print(f"ratio, Sourcebook / bare: time {wall / bare_wall:.2f}, CPU {cpu / bare_cpu:.2f}")


if __name__ == "__main__":
    main()
