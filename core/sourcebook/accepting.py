"""How a file's type is settled before its bytes are stored: by its declared type, its name, then its first bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from sourcebook.errors import UnsupportedType
from sourcebook.media_types import is_specific, media_type_of, peeked, sniffed
from sourcebook.notebooks import Notebook
from sourcebook.pipelines import Pipelines
from sourcebook.sources import safe_name

_PIECE = 256 * 1024
VAGUE = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream"})
"""What clients send when they know nothing; the name says more."""


def declared_type(name: str, given: str) -> str:
    """The media type that a client declares, or the one of the name where that says nothing."""
    bare = given.partition(";")[0].strip().lower()
    return media_type_of(name) if bare in VAGUE else bare[:200]


def text_name(name: str) -> tuple[str, str]:
    """Name and media type of pasted text, which is text whatever its name would say of a file."""
    media_type = media_type_of(name)
    if media_type.startswith("text/"):
        return name, media_type
    # A suffix that promises another format would choose that format's parser.
    return (name if media_type == "application/octet-stream" else f"{name}.txt"), "text/plain"


async def typed(
    pipelines: Pipelines, notebook: Notebook, name: str, media_type: str, chunks: AsyncIterator[bytes]
) -> tuple[str, AsyncIterator[bytes]]:
    """The file's type and its bytes. Raises `UnsupportedType` before they are stored, where no parser would read them.

    The first bytes are looked at only where name and declared type say nothing.
    """
    name = safe_name(name)
    choice = pipelines[notebook.pipeline].settings.parsers
    try:
        pipelines.parser_for(name, media_type, choice)
    except UnsupportedType:
        head, chunks = await peeked(chunks)
        pipelines.parser_for(name, media_type, choice, head)
        found = sniffed(head)
        media_type = found if is_specific(found) and media_type in VAGUE else media_type
    return media_type, chunks


async def once(data: bytes) -> AsyncIterator[bytes]:
    """Bytes that are there already, for `Sources.accept`."""
    yield data


async def pieces_of(file: BinaryIO) -> AsyncIterator[bytes]:
    """An open file's bytes, for `Sources.accept`."""
    while piece := file.read(_PIECE):
        yield piece


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    """A local file's bytes, for `Sources.accept`."""
    with path.open("rb") as file:
        async for piece in pieces_of(file):
            yield piece
