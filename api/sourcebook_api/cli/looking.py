"""`parse` and `chunk`: each stage watched alone, without a notebook."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import AskPassword, Json, asked_password, dim, give

if TYPE_CHECKING:
    from sourcebook.looking import Look

File = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The file to read.")]
Parser = Annotated[str, typer.Option(help="A parser, by its instance's name; default: as ingestion chooses.")]
Pipeline = Annotated[str, typer.Option(help="Whose choice of parsers and whose chunker.")]


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    for command in (parse, chunk):
        cli.command()(command)


def parse(
    context: typer.Context,
    file: File,
    parser: Parser = "",
    pipeline: Pipeline = "default",
    password: AskPassword = False,
    text: Annotated[bool, typer.Option("--text", help="Print the text alone.")] = False,
    json: Json = False,
) -> None:
    """Show what a parser makes of a file: its blocks and places, what it said, and what it cost."""
    look = _look(context, file, parser, "", pipeline, password)
    if json:
        document = look.document
        blocks = [[b.kind, b.start, b.end, b.level] for b in document.blocks]
        places = [{"start": x.start, "end": x.end, **x.place.to_json()} for x in document.locators]
        give({**look.facts(), "text": document.text, "ranges": blocks, "places": places}, as_json=True)
        return
    if text:
        typer.echo(look.document.text)
        return
    for block in look.document.blocks:
        if block.kind == "table":
            continue  # its rows follow
        where = ", ".join(filter(None, (str(p) for p in look.document.places(block.start, block.end)[:2])))
        head = f"{block.kind}{block.level or ''} [{block.start}, {block.end})"
        typer.echo(f"{head:<28} {dim(where)}")
        typer.echo("    " + " ".join(look.document.text[block.start : block.end].split())[:200])
    _say_facts(look)


def chunk(
    context: typer.Context,
    file: File,
    chunker: Annotated[str, typer.Option(help="A chunker, by its instance's name; default: the pipeline's.")] = "",
    parser: Parser = "",
    pipeline: Pipeline = "default",
    password: AskPassword = False,
    json: Json = False,
) -> None:
    """Show how a chunker cuts a file: each range, its context and its text."""
    settings = common.configuration(context)
    wiring = settings.settings.pipelines.get(pipeline)
    look = _look(context, file, parser, chunker or (wiring.chunker if wiring else "markdown"), pipeline, password)
    chunks, source = look.parsed.chunks, look.document.text
    if json:
        rows = [
            {"start": c.start, "end": c.end, "context": c.context, "parent": c.parent, "text": source[c.start : c.end]}
            for c in chunks
        ]
        give({**look.facts(), "ranges": rows}, as_json=True)
        return
    for n, c in enumerate(chunks, start=1):
        parent = f"  in [{c.parent[0]}, {c.parent[1]})" if c.parent else ""
        typer.echo(f"{n:>4}  [{c.start}, {c.end})  {c.end - c.start} characters{parent}  {dim(c.context)}")
        typer.echo("      " + " ".join(source[c.start : c.end].split())[:200])
    _say_facts(look)


def _look(context: typer.Context, file: Path, parser: str, chunker: str, pipeline: str, password: bool) -> Look:
    from sourcebook.looking import look

    settings = common.configuration(context)
    secret = asked_password() if password else None
    return asyncio.run(look(settings, file, parser=parser, chunker=chunker, pipeline=pipeline, password=secret))


def _say_facts(look: Look) -> None:
    facts = look.facts()
    common.say(f"parser:   {facts['parser']}  (tried in this order: {', '.join(facts['candidates'])})")
    common.say(
        f"text:     {facts['length']} characters, {len(look.document.blocks)} blocks, {facts['locators']} places"
    )
    for name, value in facts["metadata"].items():
        common.say(f"{name + ':':<9} {value}")
    for member in facts["members"]:
        common.say(f"inside:   {member['name']} ({member['size']} bytes)")
    for warning in facts["warnings"]:
        common.say(f"warning:  {warning['code']}: {warning['message']}")
    common.say(f"cost:     {look.seconds * 1000:.1f} ms in the warm jail, {look.memory / 2**20:.0f} MiB at most")
