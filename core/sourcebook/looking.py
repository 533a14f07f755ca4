"""Watches one stage alone: what a parser made of a file, and how a chunker cuts that."""

from __future__ import annotations

import mimetypes
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sourcebook.choosing import Candidate, first_that_reads, head_of
from sourcebook.configuration import Configuration
from sourcebook.documents import Document
from sourcebook.http import Http
from sourcebook.jail import ComponentRef, Jail, Parsed
from sourcebook.pipelines import Pipelines, jail_limits, preload
from sourcebook.plugins import Plugins
from sourcebook.segments import join_segments


@dataclass(frozen=True)
class Look:
    """A file as a parser reads it. `seconds` by the clock, in the warm jail; `memory` in bytes, the children's peak."""

    candidates: tuple[Candidate, ...]
    served: Candidate
    parsed: Parsed
    document: Document
    seconds: float
    memory: int

    def facts(self) -> dict[str, Any]:
        """What there is to say without the text, for `--json`."""
        kinds: dict[str, int] = {}
        for block in self.document.blocks:
            kinds[block.kind] = kinds.get(block.kind, 0) + 1
        return {
            "parser": self.served.identity,
            "candidates": [c.identity for c in self.candidates],
            "length": self.parsed.length,
            "blocks": kinds,
            "locators": len(self.document.locators),
            "metadata": dict(self.parsed.metadata),
            "warnings": [{"code": w.code, "message": w.message} for w in self.parsed.warnings],
            "members": [{"name": m.name, "size": m.size} for m in self.parsed.members],
            "chunks": len(self.parsed.chunks),
            "seconds": round(self.seconds, 4),
            "memory": self.memory,
        }


async def look(
    configuration: Configuration,
    path: Path,
    *,
    parser: str = "",
    chunker: str = "",
    pipeline: str = "default",
    password: str | None = None,
) -> Look:
    """Parse `path` as ingestion would, and cut it with the instance `chunker` where one is named; stores nothing.

    `parser` names one instance; without it, the parsers that the pipeline would try are tried. Raises what they raise.
    """
    plugins = Plugins(configuration.settings.plugins)
    plugins.load()
    pipelines = Pipelines(plugins, configuration, configuration.settings.storage.path, Http())
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    choice = _choice(configuration, pipeline)
    if parser:
        candidates = [pipelines.candidate(parser)]
    else:
        candidates = pipelines.parsers_for(path.name, media_type, choice, await head_of(path))
    cutter = pipelines.resolve("chunkers", chunker)[1] if chunker else None
    jail = configuration.settings.jail
    opened = Jail(jail_limits(jail), preload(plugins), 1, grants=jail.grants)

    async def read(ref: ComponentRef) -> Parsed:
        return await opened.parse(
            path, name=path.name, media_type=media_type, parser=ref, chunker=cutter, password=password
        )

    try:
        await opened.layers()  # warm, as a server is
        began = time.perf_counter()
        parsed, served = await first_that_reads(candidates, read)
        seconds = time.perf_counter() - began
    finally:
        await opened.close()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    document = join_segments(parsed.segments, parsed.metadata, parsed.warnings)
    return Look(tuple(candidates), served, parsed, document, seconds, peak)


def _choice(configuration: Configuration, name: str) -> Mapping[str, Sequence[str]]:
    pipeline = configuration.settings.pipelines.get(name)
    return pipeline.parsers if pipeline else {}
