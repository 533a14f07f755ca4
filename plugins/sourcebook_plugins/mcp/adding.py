"""The one tool that writes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from sourcebook import Caller
from sourcebook.errors import InvalidInput
from sourcebook_plugins.mcp import arguments as a
from sourcebook_plugins.mcp.calling import Call, Tell, named, uri_of


async def add_source(call: Call, asked: a.AddSource) -> tuple[a.Added, str]:
    """Add a text or a web page to a notebook, and wait until it can be asked. The key needs the permission `write`."""
    if (asked.text is None) == (asked.url is None):
        raise InvalidInput("A source is either a `text` or a `url`.")
    caller = call.caller
    notebook_id = await named(caller, asked.notebook)
    about: dict[str, Any] = {"tags": asked.tags, "metadata": asked.metadata}
    if asked.url is not None:
        source, new = await caller.add_url(notebook_id, asked.url, **about)
    else:
        source, new = await caller.add_text(notebook_id, asked.name, asked.text or "", **about)
    if source.job_id is not None and asked.wait_seconds:
        await _followed(caller, source.job_id, asked.wait_seconds, call.tell)
        source = await caller.source(source.id)
    added = a.Added(
        source_id=source.id,
        notebook_id=source.notebook_id,
        name=source.name,
        state=source.state,
        new=new,
        job_id=source.job_id,
        problem=dict(source.problem) if source.problem else None,
        uri=uri_of(source.id),
    )
    said = f"{added.name} ({added.source_id}) is {added.state}" + ("." if new else "; it was there already.")
    return added, said + (f" {added.problem['code']}: {added.problem['detail']}" if added.problem else "")


async def _followed(caller: Caller, job_id: str, seconds: float, tell: Tell) -> None:
    """Until the job is over, or the time is: it goes on either way."""
    try:
        async with asyncio.timeout(seconds), aclosing(caller.job(job_id)) as changes:
            async for job in changes:
                await tell(str(job.checkpoint.get("progress", {}).get("stage") or job.state))
    except TimeoutError:
        return
