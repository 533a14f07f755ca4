"""Named places at which a test may end the process, as a power cut would, or let it fail or wait.

`SOURCEBOOK_FAILPOINTS="indexing.upserted=kill:3;delete.blob=error"` - at the third time that the first place is reached
the process is killed with SIGKILL. Read once, when this module is imported, from the environment alone: nothing that a
request brings can reach it. Without the variable a place costs one look at an empty dict.

Actions: `kill`, `error` (a `StoreError`), `pause` (for ever, until the process is ended). `:n` is the n-th time, and
the first without it.
"""

from __future__ import annotations

import asyncio
import os
import signal

from sourcebook.errors import StoreError

VARIABLE = "SOURCEBOOK_FAILPOINTS"

NAMES = (
    "accept.blob",  # the bytes are stored, the row is not
    "accept.row",  # both are, and nobody has been told
    "parse.parsed",  # read, and nothing of it stored
    "chunk.document",  # the text is stored, the passages are not
    "chunk.passages",  # so are they
    "embed.embedded",  # paid for, and not cached
    "embed.cached",  # cached, and not indexed
    "index.upserted",  # indexed, and no checkpoint says so
    "index.saved",  # it does
    "index.flushed",  # all is on the disk, and the job is not done
    "finish.ready",  # it is
    "delete.points",  # only what a search finds is gone
    "delete.passages",
    "delete.rows",  # only the bytes are left
    "delete.blob",  # nothing is, and the job is not done
)
"""Every place, in the order of a source's life."""


def _read(text: str) -> dict[str, tuple[str, int]]:
    found = {}
    for part in filter(None, text.split(";")):
        name, _, action = part.partition("=")
        what, _, count = action.partition(":")
        if name not in NAMES or what not in ("kill", "error", "pause"):
            raise SystemExit(f"{VARIABLE}: {part!r} is no failpoint with an action")
        found[name] = (what, int(count or 1))
    return found


_armed = _read(os.environ.get(VARIABLE, ""))


async def failpoint(name: str) -> None:
    """Do what was asked for at this place, if anything was."""
    if _armed and name in _armed:
        await _reached(name)


async def _reached(name: str) -> None:
    action, left = _armed[name]
    if left > 1:
        _armed[name] = (action, left - 1)
        return
    del _armed[name]
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "error":
        raise StoreError(f"The failpoint {name} was reached.", code="failpoint")
    await asyncio.Event().wait()
