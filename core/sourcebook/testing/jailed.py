"""A parser in the real jail, as the server runs it: one jail for all tests of a process."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sourcebook.errors import SourcebookError
from sourcebook.interfaces import Parser
from sourcebook.jail import ComponentRef, Jail, JailLimits, Parsed
from sourcebook.testing.deadlines import DEADLINE, awaited_timely
from sourcebook.testing.in_process import Loop


@cache
def _jail() -> tuple[Loop, Jail]:
    return Loop("sourcebook-test-jail"), Jail(JailLimits())


def close() -> None:
    """End the jail, if there is one: the pytest plugin does, at the end of the session."""
    if _jail.cache_info().currsize:
        loop, jail = _jail()
        loop.run(jail.close())
        loop.close()
        _jail.cache_clear()


def reference(parser: Parser[Any]) -> ComponentRef:
    """Where the child finds the class."""
    cls = type(parser)
    return ComponentRef(f"{cls.__module__}:{cls.__qualname__}", parser.settings.model_dump(mode="json"), cls.isolation)


def parse_in_jail(
    parser: Parser[Any], data: bytes, name: str, *, kill: bool = False, deadline: float = DEADLINE
) -> Parsed | SourcebookError:
    """What the jail makes of `data`. `kill` kills the child (-9) as soon as it is there."""
    loop, jail = _jail()
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        what = f"The parser {type(parser).name!r} on {name}, in the jail,"
        work = _parse(jail, parser, Path(file.name), name, kill)
        return loop.run(awaited_timely(what, deadline, work), deadline + 10)


async def _parse(jail: Jail, parser: Parser[Any], path: Path, name: str, kill: bool) -> Parsed | SourcebookError:
    await jail.layers()  # it is warm
    media_type = type(parser).media_types[0]
    work = asyncio.ensure_future(jail.parse(path, name=name, media_type=media_type, parser=reference(parser)))
    while kill and not work.done():
        for pid in _grandchildren():
            with suppress(ProcessLookupError):  # it was done in the meantime
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0)
    try:
        return await work
    except SourcebookError as error:
        return error


def _grandchildren() -> list[int]:
    """The children of our children that are jailed, as Linux lists them."""
    found = []
    for child in _children(os.getpid()):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"sourcebook.jail_server" in command:
            found += _children(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(p) for task in tasks for p in (task / "children").read_text().split()]
    except OSError:
        return []
