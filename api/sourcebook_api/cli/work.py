"""`ingest`, `search`, `ask` and `demo`: the main job without a server, and beside a running one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from sourcebook_api import bundled
from sourcebook_api.cli import common
from sourcebook_api.cli.common import AskPassword, Json, Owner, asked_password, say

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.notebooks import Notebook
    from sourcebook.owners import Principal
    from sourcebook.searching import Found
    from sourcebook.sources import Source

_POLL = 0.05
_FINAL = ("ready", "failed")

Name = Annotated[str, typer.Argument(metavar="NOTEBOOK", help="Its title or id.")]
Question = Annotated[str, typer.Argument(help="In plain words.")]


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for command in (ingest, search, ask, demo):
        cli.command()(command)


def ingest(
    context: typer.Context,
    notebook: Name,
    paths: Annotated[list[str], typer.Argument(metavar="FILES...", help="Files, folders or http(s) addresses.")],
    password: AskPassword = False,
    owner: Owner = "local",
    json: Json = False,
) -> None:
    """Put files into a notebook (made if new) and wait until each is ready or has failed."""
    secret = asked_password() if password else None

    async def work(book: Sourcebook) -> tuple[list[Source], bool]:
        principal = await book.owners.operator(owner)
        target = await common.notebook_named(book, principal, notebook, make=True)
        return await ingest_all(book, principal, target, paths, secret)

    done, good = common.with_book(common.configuration(context), work, workers=None)
    if json:
        common.give([source_json(s) for s in done], as_json=True)
    if not good:
        raise typer.Exit(1)


def search(
    context: typer.Context,
    notebook: Name,
    question: Question,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Passages, at most 100.")] = 5,
    mode: Annotated[str | None, typer.Option(help="hybrid, lexical or dense; else the pipeline's own.")] = None,
    filters: Annotated[str, typer.Option("--filter", help='JSON, such as {"tags": "contract"}.')] = "{}",
    explain: Annotated[bool, typer.Option("--explain", help="Also print each stage's ranks and scores.")] = False,
    owner: Owner = "local",
    json: Json = False,
) -> None:
    """Print the best passages for a question."""
    options = {"limit": limit, "mode": _mode(mode), "filters": _filters(filters), "explain": explain}

    async def work(book: Sourcebook) -> tuple[Found, int]:
        principal = await book.owners.operator(owner)
        target = await common.notebook_named(book, principal, notebook)
        reading = await still_read(book, principal, target)
        return await book.search(principal, question, [target.id], **options), reading

    found, reading = common.with_book(common.configuration(context), work)
    if json:
        from sourcebook.answering import passage_json

        items = [passage_json(p, n) for n, p in enumerate(found.passages, 1)]
        whole = {"items": items, "explanation": found.explanation, "still_read": reading}
        common.give(whole if explain else items, as_json=True)
        return
    explained = (found.explanation or {}).get("passages", {})
    for n, p in enumerate(found.passages, 1):
        typer.echo(f"[{n}] {where(p.title, [q.to_json() for q in p.places])}  {common.dim(f'score {p.score:.3f}')}")
        if p.id in explained:
            typer.echo("    " + common.dim(_ranks(explained[p.id])))
        typer.echo("    " + " ".join(p.text.split())[:300])
    for stage in (found.explanation or {}).get("stages", ()):
        what = ", ".join(f"{k} {v}" for k, v in stage.items() if k not in ("stage", "took_ms"))
        say(f"{stage['stage']:<10} {stage['took_ms']:>8.2f} ms  {what}")


async def still_read(book: Sourcebook, principal: Principal, notebook: Notebook) -> int:
    """How many sources are on their way, which is said on stderr: without them an answer looks whole, and is not."""
    from sourcebook.counting import Counting
    from sourcebook.queued import WHO, attended

    count = (await Counting(book.database).of(principal, [notebook.id]))[notebook.id].working
    if count:
        some = "1 source is" if count == 1 else f"{count} sources are"
        who = "" if await attended(book.database, book.folder) else f" {WHO} reads {'it' if count == 1 else 'them'}."
        say(f"{some} still to be read; results may be incomplete.{who}")
    return count


def _mode(name: str | None) -> Any:
    if name not in (None, "hybrid", "lexical", "dense"):
        raise typer.BadParameter("must be hybrid, lexical or dense", param_hint="--mode")
    return name


def _filters(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"must be JSON: {error}", param_hint="--filter") from error


def _ranks(passage: dict[str, Any]) -> str:
    """'lexical #1 12.400, dense:dense #3 0.612, fused #1 0.871'."""
    stages = dict(passage.get("legs", {})) | {k: v for k, v in passage.items() if isinstance(v, dict) and k != "legs"}
    return ", ".join(f"{name} #{at['rank']} {at['score']:.3f}" for name, at in stages.items())


def ask(
    context: typer.Context,
    notebook: Name,
    question: Question,
    owner: Owner = "local",
    json: Json = False,
) -> None:
    """Stream the answer to a question, each claim followed by its citation. `--json` prints one event a line."""

    async def work(book: Sourcebook) -> bool:
        principal = await book.owners.operator(owner)
        target = await common.notebook_named(book, principal, notebook)
        await still_read(book, principal, target)
        return await answer(book, principal, [target.id], question, as_json=json)

    if not common.with_book(common.configuration(context), work):
        raise typer.Exit(1)


def demo(context: typer.Context) -> None:
    """Ingest two bundled documents and answer three questions from them: no key, no server, no model."""
    overrides: dict[str, Any] = {}
    if sys.stdout.isatty():  # so that a person sees it stream
        overrides = {"llms": {"extractive": {"words_per_second": 40}}}

    async def work(book: Sourcebook) -> bool:
        principal = await book.owners.operator("local")
        target = await common.notebook_named(book, principal, "demo", make=True)
        with ExitStack() as unpacked:
            documents = [str(unpacked.enter_context(as_file(file))) for file in bundled.documents()]
            _, good = await ingest_all(book, principal, target, documents)
        for question in bundled.questions():
            typer.echo("\n" + typer.style(f"? {question}", bold=True))
            good = await answer(book, principal, [target.id], question) and good
        return good

    settings = common.configuration(context, overrides)
    good = common.with_book(settings, work, workers=None)
    server = settings.settings.server
    typer.echo(
        "\nThat was the whole path: parsed, indexed, retrieved, answered, cited."
        "\nStart the server:   sourcebook serve      (from a checkout: .venv/bin/sourcebook serve)"
        f"\nIts documentation:  http://{server.host}:{server.port}/docs"
        '\nAsk more:           sourcebook ask demo "..."'
    )
    if not good:
        raise typer.Exit(1)


async def ingest_all(
    book: Sourcebook, principal: Principal, target: Notebook, paths: Sequence[str], password: str | None = None
) -> tuple[list[Source], bool]:
    """Accept everything, then wait; whether all became ready. One bad path does not stop the others, and is named."""
    from sourcebook.errors import SourcebookError

    ids: list[str] = []
    good = True
    for given in paths:
        try:
            for path in _expand(given):
                ids.append(await _accepted(book, target, path, password))  # noqa: PERF401 - kept where a later one fails
        except SourcebookError as error:
            common.complain(error)
            good = False
    done = await _wait(book, principal, ids)
    return done, good and all(source.state == "ready" for source in done)


async def _accepted(book: Sourcebook, target: Notebook, path: Path | str, password: str | None) -> str:
    from sourcebook.accepting import chunks_of

    if isinstance(path, Path):
        source_id, new = await book.sources.accept(target, path.name, chunks_of(path), password=password)
    else:
        source_id, new = await book.add_url(target, path)
    if not new:
        say(f"{path}: these bytes are in {target.title!r} already")
    return source_id


async def _wait(book: Sourcebook, principal: Principal, ids: Sequence[str]) -> list[Source]:
    done: dict[str, Source] = {}
    with _progress(len(ids)) as advance:
        while len(done) < len(set(ids)):
            for source_id in dict.fromkeys(ids):
                if source_id in done:
                    continue
                source = await book.sources.get(principal, source_id)
                if source.state in _FINAL:
                    done[source_id] = source
                    advance(line_of(source))
            await asyncio.sleep(_POLL)
    return [done[i] for i in dict.fromkeys(ids)]


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on a terminal, lines elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("ingesting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)

        def advance(line: str) -> None:
            console.print(line, markup=False, highlight=False)
            bar.advance(task)

        yield advance


async def answer(
    book: Sourcebook, principal: Principal, notebooks: Sequence[str], question: str, *, as_json: bool = False
) -> bool:
    """Print one answer as it is made. False where it failed."""
    run = await book.ask(principal, question, notebooks, grace=0.0)
    printer = _print_json if as_json else Printer().event
    good = True
    async for frame in run.follow():
        printer(frame.event.type, frame.event.payload())
        good = good and frame.event.type != "error"
    return good


class Printer:
    """Prints an answer's events for a person: a citation goes on a line of its own, under the claim it closes."""

    def __init__(self) -> None:
        self._fresh = True  # at the start of a line
        self._reasoned = False

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """One event."""
        if kind == "reasoning":
            self._reasoned = True
            self._write(typer.style(data["delta"], dim=True), err=True)
        elif kind == "content":
            if self._reasoned:
                say()
                self._reasoned = False
            text = data["delta"].lstrip() if self._fresh else data["delta"]
            if text:
                self._write(text)
                self._fresh = text.endswith("\n")
        elif kind == "citation":
            quote = " ".join(data["quote"].split())
            flag = "" if data["supported"] else "  (not clearly supported)"
            self._end_line()
            typer.echo(f"    [{data['n']}] {where(data['title'], data['places'])}: {common.dim(f'“{quote}”')}{flag}")
        elif kind == "error":
            self._end_line()
            say(typer.style("error: ", fg="red") + data["problem"]["detail"])
        elif kind == "done":
            self._end_line()

    def _write(self, text: str, *, err: bool = False) -> None:
        typer.echo(text, nl=False, err=err)
        (sys.stderr if err else sys.stdout).flush()

    def _end_line(self) -> None:
        if not self._fresh:
            typer.echo()
            self._fresh = True


def where(title: str, places: Sequence[dict[str, Any]]) -> str:
    """'guide.pdf, page 3, page 4'; 'costs.xlsx, sheet Costs, B2, B7': what two places share is said once."""
    from sourcebook.documents import Place

    said = [parts for p in places if (parts := Place.from_json(p).parts())]
    return ", ".join([title, *dict.fromkeys(part for parts in said[:2] for part in parts)])


def _print_json(kind: str, data: dict[str, Any]) -> None:
    typer.echo(orjson.dumps({"type": kind, **data}).decode())


def _expand(path: str) -> Sequence[Path | str]:
    """A folder becomes its files, without hidden ones. Raises `NotFound` for a path that is not there."""
    from sourcebook.errors import NotFound

    if "://" in path:
        return [path]
    here = Path(path)
    if here.is_dir():
        inside = (p for p in sorted(here.rglob("*")) if p.is_file())
        return [p for p in inside if not any(x.startswith(".") for x in p.relative_to(here).parts)]
    if here.is_file():
        return [here]
    raise NotFound(f"There is no file {path}.")


def line_of(source: Source) -> str:
    """What became of a source, for a person."""
    if source.state == "ready":
        pages = (source.document or {}).get("metadata", {}).get("pages")
        detail = f"{source.passages} passages" + (f", {pages} pages" if pages else "")
        return f"{source.name}: ready ({detail})"
    problem = source.problem or {}
    said = f"{problem.get('code')}: {problem.get('detail')} {problem.get('remedy', '')}".rstrip()
    return f"{source.name}: failed ({said})"


def source_json(source: Source) -> dict[str, Any]:
    """And for a machine."""
    names = ("id", "name", "media_type", "size", "sha256", "state", "problem", "passages", "document")
    return {name: getattr(source, name) for name in names}
