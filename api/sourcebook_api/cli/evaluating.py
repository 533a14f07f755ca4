"""`sourcebook eval run`: how good is what is found, and is another pipeline better?"""

from __future__ import annotations

import asyncio
import platform
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import Json, Owner, say

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.configuration import Configuration
    from sourcebook.evaluation.running import Result
    from sourcebook.evaluation.sets import GoldSet

cli = typer.Typer(help="Measure retrieval on questions whose answers are known.", no_args_is_help=True)


@cli.callback()
def evaluation() -> None:
    """Measure retrieval on questions whose answers are known."""


@cli.command("run")
def run(
    context: typer.Context,
    gold: Annotated[Path, typer.Argument(metavar="SET", help="A folder in BEIR's layout, or a file of questions.")],
    pipeline: Annotated[
        list[str] | None,
        typer.Option(
            "--pipeline", "-p", help="To measure; repeat it. The first is what the others are tested against."
        ),
    ] = None,
    notebook: Annotated[str, typer.Option(help="The notebook that a file of questions is about.")] = "",
    split: Annotated[str, typer.Option(help="Of a collection: qrels/SPLIT.tsv.")] = "test",
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Measure the first K.")] = 10,
    depth: Annotated[
        int, typer.Option(min=1, max=100, help="Passages to ask for; more than K adds recall@DEPTH.")
    ] = 10,
    first: Annotated[int, typer.Option("--first", min=0, help="Only so many questions; 0 asks all.")] = 0,
    least: Annotated[
        list[str] | None, typer.Option("--min", help="Fail where a pipeline is below, such as ndcg@10=0.68; repeat it.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Keep a collection's index and vectors here.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write report.json, report.md and report.svg here.")] = None,
    owner: Owner = "local",
    json: Json = False,
) -> None:
    """Ask every question of a gold set; print measures with their intervals, and test pipelines against the first."""
    from sourcebook.evaluation import reports, sets

    wanted = _least(least or [])
    found = sets.read(gold, split)
    if first:
        found = replace(found, questions=found.questions[:first])
    settings = common.configuration(context)
    if found.documents:
        results = _on_collection(settings, found, pipeline or ["default"], k, max(k, depth), data)
    else:
        if not notebook:
            raise typer.BadParameter(
                "a file of questions needs the notebook that they are about", param_hint="--notebook"
            )
        results = _on_notebook(settings, found, pipeline or [""], k, max(k, depth), notebook, owner)
    about = {"k": k, "date": datetime.now(UTC).date().isoformat(), "machine": platform.platform()}
    report = reports.report(found.name, len(found.questions), results, about)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
        (out / "report.md").write_text(reports.markdown(report), encoding="utf-8")
        (out / "report.svg").write_text(reports.svg(report), encoding="utf-8")
    common.give(report if json else reports.markdown(report), as_json=json)
    if below := list(_below(report, wanted)):
        for line in below:
            say(typer.style("below: ", fg="red") + line)
        raise typer.Exit(1)


def _on_collection(
    settings: Configuration, gold: GoldSet, names: Sequence[str], k: int, depth: int, data: Path | None
) -> list[Result]:
    """In a data folder of its own, which is removed at the end unless it is named."""
    from sourcebook.app import Sourcebook
    from sourcebook.configuration import load
    from sourcebook.evaluation.running import on_collection

    async def work(folder: Path) -> list[Result]:
        own = {"storage": {"path": str(folder), "database": ""}}
        configuration = load(settings.files[0] if settings.files else None, overrides=own)
        async with Sourcebook(configuration, workers=0) as book:
            me = await book.owners.operator("evaluation")
            return [await on_collection(book, me, gold, name, k, depth, _progress(name)) for name in names]

    with nullcontext(str(data)) if data else tempfile.TemporaryDirectory(prefix="sourcebook-eval-") as folder:
        return asyncio.run(work(Path(folder)))


def _on_notebook(
    settings: Configuration, gold: GoldSet, names: Sequence[str], k: int, depth: int, notebook: str, owner: str
) -> list[Result]:
    from sourcebook.evaluation.running import on_notebook

    async def work(book: Sourcebook) -> list[Result]:
        me = await book.owners.operator(owner)
        target = await common.notebook_named(book, me, notebook)
        return [await on_notebook(book, me, target, gold, name, k, depth, _progress(name)) for name in names]

    return common.with_book(settings, work)


def _progress(pipeline: str) -> Any:
    """A line on stderr for every tenth of the way."""

    def advance(what: str, done: int, total: int) -> None:
        step = max(total // 10, 1)
        if done == total or done % step == 0:
            say(f"{pipeline or 'own pipeline'}: {what} {done} of {total}")

    return advance


def _least(pairs: Sequence[str]) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name.strip().lower()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{pair!r} is not MEASURE=NUMBER", param_hint="--min") from None
    return found


def _below(report: dict[str, Any], wanted: dict[str, float]) -> Any:
    """What fails: a measure under its least value in any pipeline, or one that was not measured."""
    for one in report["pipelines"]:
        for name, least in wanted.items():
            measured = one["measures"].get(name)
            if measured is None:
                yield f"{one['pipeline']}: {name} was not measured; there are {', '.join(one['measures'])}"
            elif measured["mean"] < least:
                yield f"{one['pipeline']}: {name} is {measured['mean']:.4f}, less than {least}"
