"""Ingestion, from accepted bytes to ready, against the sum of its bare libraries in one process.

Sourcebook accepts (hash, fsync, SQL), parses and cuts each file in a jailed process, stores text, places and passages
in SQLite and indexes them in Qdrant Edge. Bare: the same libraries called one after the other in a loop, without
places, jail, jobs or checkpoints: the text of the file, cut every 1,200 characters, inserted into SQLite, and BM25 and
an upsert into Qdrant Edge.

    50 PDFs      of SOURCEBOOK_EVAL_DATA (documents and qa-sec10q) where that is set, else generated; each round in a
                 new notebook of the same server
    500 texts    generated, of one to four paragraphs
    --memory     the peak of every process, after 500 and after 5,000 texts
    --upload 2   a file of so many GiB to a real server: what its memory grows by
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from measuring import Words, cpu_below, machine, median, processes_below, table, workspace
from serving import serving

from sourcebook.accepting import chunks_of
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.notebooks import Notebook
from sourcebook.owners import Principal
from sourcebook.progress import Following

_SIZE = 1200
_BATCH = 64
_CLIENTS = 4  # uploads at a time
_MIB = 1 << 20


@dataclass(frozen=True)
class Result:
    """Of one run over all files: seconds on the clock, of all processors, and what came of it."""

    wall: float
    cpu: float
    documents: int
    passages: int


def pdfs(folder: Path, count: int, real: str | None) -> list[Path]:
    """`count` PDFs: real ones where there are, some with a comment at their end to be other bytes; else generated."""
    if not real:
        return [_generated_pdf(folder / f"{n}.pdf", 5, Words(n)) for n in range(count)]
    root = Path(real)
    found = sorted(f for part in ("documents", "qa-sec10q") for f in (root / part).rglob("*.pdf"))
    made = found[:count]
    for n in range(count - len(made)):
        copy = folder / f"copy-{n}.pdf"
        copy.write_bytes(found[n % len(found)].read_bytes() + b"\n%% %d\n" % n)
        made.append(copy)
    return made


def _generated_pdf(path: Path, pages: int, words: Words) -> Path:
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=10)
    for _ in range(pages):
        pdf.add_page()
        for _ in range(4):
            pdf.multi_cell(0, 5, words.paragraph(100) + "\n\n")
    pdf.output(str(path))
    return path


def texts(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Text files of one to four paragraphs of 120 words; the same numbers, the same files."""
    words, made = Words(first + 1), []
    for n in range(first, first + count):
        path = folder / f"{n}.txt"
        path.write_text("\n\n".join(words.paragraph() for _ in range(n % 4 + 1)), encoding="utf-8")
        made.append(path)
    return made


def pages_of(files: Sequence[Path]) -> int:
    """Pages of the PDFs that can be opened."""
    import pypdfium2

    count = 0
    for file in files:
        try:
            with pypdfium2.PdfDocument(file) as pdf:
                count += len(pdf)
        except pypdfium2.PdfiumError:
            continue
    return count


async def sourcebook(book: Sourcebook, who: Principal, files: Sequence[Path]) -> Result:
    """Accept all, some at a time, until each is ready or has failed: to the last commit. Jail and index are warm."""
    notebook = await book.create_notebook(who, "measured")
    wall, cpu = time.perf_counter(), cpu_below(os.getpid())
    waiting: Iterator[Path] = iter(files)

    async def client() -> None:
        for file in waiting:
            await book.sources.accept(notebook, file.name, chunks_of(file))

    async with _last_change(book, notebook) as changed:
        await asyncio.gather(*(client() for _ in range(_CLIENTS)))
        ready = await _settled(book, notebook)
        cpu, ended = cpu_below(os.getpid()) - cpu, changed[-1]
    return Result(ended - wall, cpu, ready, await _passages(book, notebook))


@asynccontextmanager
async def _last_change(book: Sourcebook, notebook: Notebook) -> AsyncIterator[list[float]]:
    """When the notebook's sources last changed. Progress, which rests between two looks, tells of it later."""
    seen = [time.perf_counter()]

    async def watch(changed: asyncio.Event) -> None:
        while await changed.wait():
            changed.clear()
            seen[:] = [time.perf_counter()]

    async with book.database.signals.following(f"notebook:{notebook.id}") as changed:
        watching = asyncio.create_task(watch(changed))
        try:
            yield seen
        finally:
            watching.cancel()


async def _settled(book: Sourcebook, notebook: Notebook) -> int:
    """How many are ready, once nothing is left to do."""
    async for progress in Following(book.database, book.jobs).notebook(notebook.id):
        if progress.left == 0:
            break
    return progress.ready


async def _passages(book: Sourcebook, notebook: Notebook) -> int:
    passages, cursor, who = 0, None, await book.owners.local()
    while True:
        page = await book.sources.listing(who, notebook.id, 100, cursor)
        passages += sum(s.passages for s in page.items if s.state == "ready")
        cursor = page.next_cursor
        if cursor is None:
            return passages


def settings(folder: Path) -> dict[str, object]:
    """The packaged defaults; no process stays behind."""
    return {"storage": {"path": str(folder)}, "retrievers": {"qdrant": {"idle_seconds": 0}}}


async def rounds(files: Sequence[Path], folder: Path, count: int, between: Callable[[int], None]) -> list[Result]:
    """The same files again and again, each time into a new notebook; the first is for warmth alone."""
    results = []
    async with Sourcebook(load(environ={}, overrides=settings(folder))) as book:
        who = await book.owners.local()
        await sourcebook(book, who, files[:2])
        for turn in range(count):
            results.append(await sourcebook(book, who, files))
            await asyncio.to_thread(between, turn)
    return results


def bare(files: Sequence[Path], folder: Path) -> Result:
    """The libraries alone. What they cannot read is left out, as it fails in Sourcebook."""
    import qdrant_edge as edge

    folder.mkdir()
    database = sqlite3.connect(folder / "bare.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE passages (id TEXT PRIMARY KEY, document INTEGER, text TEXT)")
    config = edge.EdgeConfig(sparse_vectors={"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)})
    shard = edge.EdgeShard.create(str(folder / "shard"), config)
    terms = edge.Bm25(edge.Bm25Config(tokenizer=edge.TokenizerType.Word, language="english"))
    readers: dict[str, Callable[[Path], str]] = {".pdf": _pdf, ".txt": lambda f: f.read_text("utf-8", "replace")}
    _try(readers[files[0].suffix], files[0])  # its imports, as Sourcebook's are paid too
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


def compare(name: str, files: Sequence[Path], folder: Path, count: int) -> None:
    """Both in turn, `count` times, and their medians. Every file is counted, also one that cannot be read."""
    alone: list[Result] = []
    folder.mkdir()
    ours = asyncio.run(
        rounds(files, folder / "data", count, lambda turn: alone.append(bare(files, folder / f"bare-{turn}")))
    )
    pages = pages_of(files) if files[0].suffix == ".pdf" else 0
    rows, middle = [], []
    for label, runs in (("Sourcebook", ours), ("bare libraries", alone)):
        wall, cpu = median([r.wall for r in runs]), median([r.cpu for r in runs])
        middle.append((wall, cpu))
        rates = (f"{len(files) / wall:.1f}", f"{pages / wall:.0f}" if pages else "-")
        rows.append((label, str(runs[-1].documents), str(runs[-1].passages), *rates, f"{wall:.2f}", f"{cpu:.2f}"))
    print(f"\n{len(files)} {name}" + (f", {pages} pages" if pages else ""))
    table(("", "ready", "passages", "documents/s", "pages/s", "seconds", "CPU s"), rows)
    (wall, cpu), (bare_wall, bare_cpu) = middle
    print(
        f"ratio, {name}: speed, Sourcebook / bare {bare_wall / wall:.2f}; CPU, Sourcebook / bare {cpu / bare_cpu:.2f}"
    )


def memory(folder: Path, few: int, many: int) -> None:
    """The peak of every process below this one while `few`, and then `many` texts are ingested."""
    folder.mkdir()
    peaks: dict[str, dict[int, int]] = {}
    for count in (few, many):
        with serving(folder / f"{count}", _made(folder / f"{count}")) as server, _Peaks(server.process.pid) as seen:
            notebook = server.call("POST", "/notebooks", {"title": "memory"})["id"]
            for path in texts(folder, count):
                body = {"name": path.name, "text": path.read_text(encoding="utf-8")}
                server.call("POST", f"/notebooks/{notebook}/sources/text", body)
            while any(
                s["state"] not in ("ready", "failed")
                for s in server.call("GET", f"/notebooks/{notebook}/sources?limit=100")["items"]
            ):
                time.sleep(0.2)
        for name, peak in seen.peaks.items():
            peaks.setdefault(name, {})[count] = peak
    print(f"\npeak resident memory, MiB, {few} and {many} texts")
    rows = [(n, *(f"{p.get(c, 0) / _MIB:.0f}" for c in (few, many))) for n, p in sorted(peaks.items())]
    table(("process", str(few), str(many)), rows)
    print(f"ratio, memory of {many} to {few} texts: {peaks['server'][many] / peaks['server'][few]:.2f}")


def _made(folder: Path) -> dict[str, str]:
    folder.mkdir()
    return {}


class _Peaks:
    """Looks ten times a second at what the processes below `pid` hold."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peaks: dict[str, int] = {}

    def __enter__(self) -> _Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for process in processes_below(self._pid):
                name = "server" if process.pid == self._pid else "index" if "qdrant" in process.command else "jail"
                self.peaks[name] = max(self.peaks.get(name, 0), process.resident)


def upload(folder: Path, gib: float) -> None:
    """Send a file of `gib` GiB to a real server that is warm, and see what its memory grows by."""
    folder.mkdir()
    size = int(gib * (1 << 30))
    limits = {"SOURCEBOOK_SERVER__MAX_UPLOAD": str(2 * size), "SOURCEBOOK_JOBS__WORKERS": "0"}
    with serving(folder, limits) as server:
        notebook = server.call("POST", "/notebooks", {"title": "upload"})["id"]
        server.call("POST", f"/notebooks/{notebook}/sources/text", {"name": "warm.txt", "text": "Warm."})
        before, began = _resident(server.process.pid), time.perf_counter()
        with _Peaks(server.process.pid) as seen:
            _put(server.url, f"/api/v1/notebooks/{notebook}/sources/large.txt", size)
        seconds = time.perf_counter() - began
    grown = seen.peaks["server"] - before
    print(
        f"\nan upload of {gib:g} GiB: {seconds:.1f} s, {size / seconds / 1e6:.0f} MB/s, memory +{grown / _MIB:.0f} MiB"
    )
    print(f"ratio, memory that an upload adds to its size: {grown / size:.4f}")


def _resident(pid: int) -> int:
    return next(p.resident for p in processes_below(pid) if p.pid == pid)


def _put(url: str, path: str, size: int) -> None:
    block = b"High water comes twelve hours and twenty-five minutes after the last one.\n" * 14_000
    where = urlsplit(url)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=600)
    connection.putrequest("PUT", path)
    connection.putheader("content-length", str(size))
    connection.endheaders()
    left = size
    while left:
        piece = block[: min(left, len(block))]
        connection.send(piece)
        left -= len(piece)
    answer = connection.getresponse()
    if answer.status != 202:
        raise SystemExit(f"the upload was refused: {answer.status} {answer.read()[:500]!r}")
    connection.close()


def main() -> None:
    """Measure what was asked for, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pdfs", type=int, default=50)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="only this: memory over 500 and 5,000 texts")
    parser.add_argument("--upload", type=float, metavar="GIB", help="only this: one large file")
    parser.add_argument("--generated", action="store_true", help="even where SOURCEBOOK_EVAL_DATA is set")
    parser.add_argument("--quick", action="store_true", help="a few small documents, once: to see that it runs")
    given = parser.parse_args()
    if given.quick:
        given.pdfs, given.texts, given.rounds, given.generated = 2, 4, 1, True
    real = None if given.generated else os.environ.get("SOURCEBOOK_EVAL_DATA")
    print(f"ingest ({real or 'generated'})")
    print(machine())
    with workspace("ingest") as folder:
        if given.memory:
            memory(folder / "memory", 500, 5000)
        if given.upload:
            upload(folder / "upload", given.upload)
        if given.memory or given.upload:
            return
        for name in ("made", "texts"):
            (folder / name).mkdir()
        if given.pdfs:
            compare("PDFs", pdfs(folder / "made", given.pdfs, real), folder / "pdfs-run", given.rounds)
        if given.texts:
            compare("texts", texts(folder / "texts", given.texts), folder / "texts-run", given.rounds)


if __name__ == "__main__":
    main()
