"""Pages per CPU second of every format, in the jail as it is deployed, against the bare library in the same run.

Sourcebook's number is all of it: the child's start, confinement, parsing, places, the language, the frames and what the
serving process does with them. Bare is the usual loop around a well-known library, in this process: text alone, and for
PDF the page's text and all rectangles of text (pypdfium2). A "page" is 3,000 characters where a format has none.

The last table says what the jail adds to a document of one page, and what memory a worker takes. The PDFs of
SOURCEBOOK_EVAL_DATA with 20 pages and more are used where that is set, beside those made here.
"""

from __future__ import annotations

import argparse
import asyncio
import email
import email.policy
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import cpu_below, machine, median, processes_below, table, workspace

from sourcebook import Parser
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.jail import ComponentRef, Jail
from sourcebook.testing.parsers import MemoryFile
from sourcebook.writer import DocumentWriter

sys.path.insert(0, str(Path(__file__).parents[1]))

_PAGE = 3000  # characters
_AT_ONCE = 5  # documents, measured together
_LONG = 20  # pages
_HEAD = ["file", "pages", "bare", "bare p/s", "jail p/s", "ratio", "in-process p/s"]


@dataclass(frozen=True)
class Sample:
    """A file of a format. `pages`: its own, or what its text would fill."""

    kind: str
    path: Path
    pages: float


def bare_pdf(path: Path) -> int:
    import pypdfium2

    size = 0
    pdf = pypdfium2.PdfDocument(path.read_bytes())
    for page in pdf:
        text = page.get_textpage()
        size += len(text.get_text_range())
        for i in range(text.count_rects()):
            text.get_rect(i)
        text.close()
        page.close()
    pdf.close()
    return size


def bare_docx(path: Path) -> int:
    import docx

    document = docx.Document(str(path))
    size = sum(len(p.text) for p in document.paragraphs)
    return size + sum(len(c.text) for t in document.tables for row in t.rows for c in row.cells)


def bare_pptx(path: Path) -> int:
    import pptx

    size = 0
    for slide in pptx.Presentation(str(path)).slides:
        shapes: Any = slide.shapes
        for shape in shapes:
            if shape.has_text_frame:
                size += len(shape.text_frame.text)
            elif shape.has_table:
                size += sum(len(c.text) for row in shape.table.rows for c in row.cells)
    return size


def bare_xlsx(path: Path) -> int:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    return sum(len(str(v)) for sheet in book for row in sheet.iter_rows(values_only=True) for v in row if v is not None)


def bare_html(path: Path) -> int:
    from selectolax.lexbor import LexborHTMLParser

    body = LexborHTMLParser(path.read_bytes()).body
    return len(body.text(separator=" ")) if body is not None else 0


def bare_markdown(path: Path) -> int:
    from markdown_it import MarkdownIt

    return len(MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")))


def bare_zipped(path: Path) -> int:
    import zipfile

    from lxml import etree

    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n == "content.xml" or n.endswith(".xhtml")]
        parsers: dict[bool, Any] = {True: etree.HTMLParser(), False: etree.XMLParser(resolve_entities=False)}
        roots = (etree.fromstring(archive.read(n), parsers[n.endswith(".xhtml")]) for n in names)
        return sum(len("".join(root.itertext())) for root in roots)


def bare_csv(path: Path) -> int:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return sum(map(len, csv.reader(file)))


def bare_mail(path: Path) -> int:
    mail: Any = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    return len(mail.get_body(("plain", "html")).get_content())


BARE: dict[str, tuple[str, Callable[[Path], int]]] = {
    "pdf": ("pypdfium2", bare_pdf),
    "docx": ("python-docx", bare_docx),
    "pptx": ("python-pptx", bare_pptx),
    "xlsx": ("openpyxl", bare_xlsx),
    "html": ("selectolax", bare_html),
    "md": ("markdown-it-py", bare_markdown),
    "epub": ("lxml", bare_zipped),
    "odt": ("lxml", bare_zipped),
    "csv": ("csv", bare_csv),
    "eml": ("email", bare_mail),
    "json": ("json", lambda path: len(str(json.loads(path.read_text(encoding="utf-8"))))),
    "txt": ("str.decode", lambda path: len(path.read_text(encoding="utf-8"))),
}


def samples(folder: Path, size: int) -> list[Sample]:
    """A file of each format, of `size` made contents one after the other; PDFs of one page and of many."""
    from tests.plugins.making import BUILT, units

    found = []
    for kind in BARE:
        content = tuple(unit for seed in range(size) for unit in units(seed, latin=True))
        if kind == "csv":
            content = tuple(u for u in content if u.kind == "table") * 10
        path = folder / f"made.{kind}"
        path.write_bytes(BUILT[kind](content))
        found.append(Sample(kind, path, _pages(path) or sum(len(" ".join(u.words)) for u in content) / _PAGE))
    return found


def real_pdfs() -> list[Sample]:
    """The PDFs of 20 pages and more in SOURCEBOOK_EVAL_DATA."""
    data = os.environ.get("SOURCEBOOK_EVAL_DATA", "")
    folders = ("documents/pdf", "qa-sec10q") if data else ()
    paths = sorted(p for folder in folders for p in (Path(data) / folder).rglob("*.pdf"))
    return [Sample("pdf", path, pages) for path in paths if (pages := _pages(path)) >= 20]


def _pages(path: Path) -> int:
    import pypdfium2

    if path.suffix != ".pdf":
        return 0
    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError:
        return 0
    try:
        return len(pdf)
    finally:
        pdf.close()


def cpu_of(run: Callable[[], object], repeats: int) -> float:
    """Seconds of this process for one of `repeats` calls."""
    begun = time.process_time()
    for _ in range(repeats):
        run()
    return max((time.process_time() - begun) / repeats, 1e-6)


async def jailed(book: Sourcebook, sample: Sample, repeats: int) -> tuple[float, float]:
    """Seconds for one of `repeats` documents, of all processors (dead children's too), and on the clock: a median."""
    jail: Jail = book.jail
    parser = _ref(book, sample)
    walls = []
    before = cpu_below(os.getpid())
    for _ in range(repeats):
        begun = time.perf_counter()
        parsed = await jail.parse(
            sample.path, name=sample.path.name, media_type="application/octet-stream", parser=parser, chunker=None
        )
        parsed.close()
        walls.append(time.perf_counter() - begun)
    return max((cpu_below(os.getpid()) - before) / repeats, 1e-6), median(walls)


def _ref(book: Sourcebook, sample: Sample) -> ComponentRef:
    parsers: dict[str, type[Parser[Any]]] = book.plugins.classes["parsers"]
    for name, cls in parsers.items():
        if sample.path.suffix in cls.extensions:
            return book.pipelines.resolve("parsers", name)[1]
    raise SystemExit(f"no parser reads {sample.path.suffix}")


def in_process(book: Sourcebook, sample: Sample) -> Callable[[], object]:
    """The parser alone."""
    from sourcebook.jail_child import load_parser

    parser: Parser[Any] = load_parser(_ref(book, sample))
    data = sample.path.read_bytes()

    def run() -> object:
        out = DocumentWriter()
        parser.parse(MemoryFile(data, sample.path.name), out)
        return out.document()

    return run


async def measure(quick: bool) -> None:
    rounds = 1 if quick else 7
    with workspace("parse") as folder:
        files = samples(folder, 2 if quick else 12)
        (folder / "one").mkdir()
        one = samples(folder / "one", 1)
        single = next(s for s in one if s.kind == "pdf")
        overrides = {"storage": {"path": str(folder / "data")}, "retrievers": {"qdrant": {"idle_seconds": 0}}}
        # Nothing is queued here, and to look for it belongs to no document.
        async with Sourcebook(load(environ={}, overrides=overrides | {"jobs": {"workers": 0}})) as book:
            rows = [await _row(book, s, rounds) for s in (*files, *([] if quick else real_pdfs()))]
            table(_HEAD, [row.cells() for row in rows])
            pdfs = [row for row in rows if row.sample.kind == "pdf"]
            _tell([row for row in pdfs if row.sample.pages >= _LONG] or pdfs)
            await _one_page(book, single, 5 if quick else 40)


@dataclass(frozen=True)
class Row:
    """Seconds of processor time for a file: medians. `ratio`: the median of what each round has, bare to jail."""

    sample: Sample
    bare: float
    inside: float
    jail: float
    ratio: float

    def cells(self) -> list[str]:
        """For the table."""
        pages = self.sample.pages
        bare, jail, inside = (f"{pages / seconds:.0f}" for seconds in (self.bare, self.jail, self.inside))
        library = BARE[self.sample.kind][0]
        return [self.sample.path.name[:40], f"{pages:.0f}", library, bare, jail, f"{self.ratio:.2f}", inside]


def _tell(rows: Sequence[Row]) -> None:
    """Of PDFs, all pages together, and file by file."""
    together = sum(row.bare for row in rows) / sum(row.jail for row in rows)
    ratios = [row.ratio for row in rows]
    told = f"all pages {together:.2f}; files {min(ratios):.2f} to {max(ratios):.2f}, median {median(ratios):.2f}"
    print(f"ratio of pages a CPU second, {len(rows)} long PDFs, jail to bare pypdfium2 with boxes: {told}")


async def _row(book: Sourcebook, sample: Sample, rounds: int) -> Row:
    """Medians of `rounds`, in each of which all three are measured in the same way, one after the other."""
    _, bare = BARE[sample.kind]
    parse = in_process(book, sample)
    bare(sample.path), parse(), await jailed(book, sample, 1)
    plain, alone, jail = [], [], []
    for _ in range(rounds):
        plain.append(cpu_of(lambda: bare(sample.path), _AT_ONCE))
        alone.append(cpu_of(parse, _AT_ONCE))
        # Processor time of other processes is counted in hundredths of a second: half a second of it tells.
        enough = max(_AT_ONCE, int(0.5 / max(alone[-1], 0.01))) if rounds > 1 else 1
        jail.append((await jailed(book, sample, enough))[0])
    ratio = median([a / b for a, b in zip(plain, jail, strict=True)])
    return Row(sample, median(plain), median(alone), median(jail), ratio)


async def _one_page(book: Sourcebook, sample: Sample, repeats: int) -> None:
    run = in_process(book, sample)
    walls = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        walls.append(time.perf_counter() - begun)
    _, wall = await jailed(book, sample, repeats)
    inside = median(walls)
    print()
    inside, wall = inside * 1000, wall * 1000
    print(f"one page: {inside:.1f} ms in-process, {wall:.1f} ms jailed, added {wall - inside:.1f} ms")
    parents = [p for p in processes_below(os.getpid()) if "jail_server" in p.command]
    sizes = ", ".join(f"{p.resident / 2**20:.0f} MiB resident ({p.private / 2**20:.0f} its own)" for p in parents)
    print(f"memory of the parent that workers are forked from: {sizes or 'not found'}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="sizes that only show that the script runs")
    print(machine())
    asyncio.run(measure(options.parse_args(argv).quick))


if __name__ == "__main__":
    main()
