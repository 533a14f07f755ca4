"""`serve`."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from sourcebook_api.cli import common
from sourcebook_api.cli.common import say


def add_to(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.command()(serve)


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="The address to bind; default from the configuration.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that serve this port.")] = None,
    job_workers: Annotated[int | None, typer.Option(min=0, max=64, help="Jobs at a time, in each of them.")] = None,
) -> None:
    """Start the server: REST and SSE, with its ingestion workers."""
    given = (("host", host), ("port", port), ("workers", workers))
    server = {name: value for name, value in given if value is not None}
    overrides: dict[str, object] = {"server": server} if server else {}
    if job_workers is not None:
        overrides["jobs"] = {"workers": job_workers}
    settings = common.configuration(context, overrides)

    def ready(url: str) -> None:
        pipeline = settings.settings.pipelines["default"]
        parts = [pipeline.chunker, pipeline.embedder or "no embedder", *pipeline.retrievers]
        parts += [pipeline.reranker or "no reranker", " then ".join(pipeline.llm)]
        of = f", {count} processes" if (count := settings.settings.server.workers) > 1 else ""
        say(f"Sourcebook is ready on {url}{of} (documentation: {url}/docs)")
        say("configuration: " + (", ".join(map(str, settings.files)) or "packaged defaults"))
        say(f"pipeline default: {' > '.join(parts)}")
        say(f"data: {settings.settings.storage.path.expanduser().resolve()}")

    # What is made while it starts stays: to look for garbage among it took a tenth of the start.
    gc.disable()
    try:
        from sourcebook_api.server import serve as run

        run(settings, on_ready=ready)
    finally:
        gc.enable()
