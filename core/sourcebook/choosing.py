"""Which parsers may read a file, in order, and what happens when the first one cannot.

What matches better is asked first: content that says what it is, then the extension, then the media type (browsers and
mail programs call too many things text/plain). Before all come those that the pipeline lists; among equals, third-party
parsers come before the built-in ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from sourcebook.documents import Warn
from sourcebook.errors import DocumentError, Encrypted, PluginError, UnsupportedType
from sourcebook.interfaces import Parser
from sourcebook.jail import ComponentRef, Parsed
from sourcebook.media_types import HEAD, is_specific, sniffed

log = logging.getLogger(__name__)

_PLUGINS = {
    "image": "a parser plugin that reads text in pictures (OCR) or describes them",
    "audio": "a parser plugin that transcribes speech",
    "video": "a parser plugin that transcribes videos",
}
_Failure = DocumentError | PluginError


@dataclass(frozen=True)
class Candidate:
    """A parser that may read the file. `origin` is name and version of a third-party distribution, or empty."""

    instance: str
    cls: type[Parser[Any]]
    ref: ComponentRef
    origin: str = ""

    @property
    def identity(self) -> str:
        """Who read a document: name, version, distribution, settings. It is read again when one of them changes."""
        settings = orjson.dumps(dict(self.ref.settings), option=orjson.OPT_SORT_KEYS).decode()
        origin = f" {self.origin}" if self.origin else ""
        return f"{self.cls.name}/{self.cls.version}{origin}{settings if self.ref.settings else ''}"[:200]


async def head_of(path: Path) -> bytes:
    """As much of a file as `sniffed` wants."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(HEAD)

    return await asyncio.to_thread(read)


def order(
    classes: Mapping[str, type[Parser[Any]]],
    is_built_in: Callable[[str], bool],
    name: str,
    media_type: str,
    choice: Mapping[str, Sequence[str]],
    head: bytes = b"",
) -> list[str]:
    """Instances for a file called `name`, best first, each once; `classes` are the parsers by name.

    `choice` is the pipeline's `parsers`: media type, or extension without its dot, to instances. `head` is the file's
    first bytes, where there are any yet.
    """
    extension = PurePosixPath(name.lower()).suffix
    seen = sniffed(head)
    told = seen if is_specific(seen) else ""
    keys = [told, media_type, extension.lstrip(".")] if told else [media_type, extension.lstrip("."), seen]
    named = [instance for key in keys if key for instance in choice.get(key, ())]

    def rank(item: tuple[str, type[Parser[Any]]]) -> tuple[bool, bool, bool, bool]:
        parser, cls = item
        by_name = extension in cls.extensions
        return (told not in cls.media_types, not by_name, media_type not in cls.media_types, is_built_in(parser))

    matching = [item for item in classes.items() if _matches(item[1], extension, media_type, told)]
    found = [parser for parser, _ in sorted(matching, key=rank)]
    if not named and not found and not extension and not is_specific(media_type):  # a hint, where there is no word
        found = sorted((n for n, cls in classes.items() if seen and seen in cls.media_types), key=is_built_in)
    return list(dict.fromkeys([*named, *found]))


def _matches(cls: type[Parser[Any]], extension: str, media_type: str, told: str) -> bool:
    return extension in cls.extensions or media_type in cls.media_types or bool(told and told in cls.media_types)


def unsupported(name: str, media_type: str, classes: Iterable[type[Parser[Any]]]) -> UnsupportedType:
    """The error that says what could be read instead."""
    extension = PurePosixPath(name.lower()).suffix
    known = ", ".join(sorted({e for cls in classes for e in cls.extensions}))
    return UnsupportedType(
        f"No installed parser reads {extension or 'files without an extension'} ({media_type}).",
        remedy=f"Upload one of: {known}; or install {_wanted(media_type)} and enable it.",
    )


def _wanted(media_type: str) -> str:
    """The kind of plugin that could read a type which holds no text of its own."""
    return _PLUGINS.get(media_type.partition("/")[0], "a parser plugin")


async def first_that_reads(
    candidates: Sequence[Candidate], read: Callable[[ComponentRef], Awaitable[Parsed]]
) -> tuple[Parsed, Candidate]:
    """The document of the first candidate that can read the file, and which one that was.

    The next is tried after any failure that is not transient, but an `Encrypted`: another parser would need the
    password too, and might take the cipher for text. The document then carries a warning for each that failed. When all
    fail the first one's error is raised, since it matched best; `details["tried"]` names them all.
    """
    failed: list[tuple[Candidate, _Failure]] = []
    for candidate in candidates:
        try:
            parsed = await read(candidate.ref)
        except (DocumentError, PluginError) as error:
            if error.transient or isinstance(error, Encrypted):
                raise
            failed.append((candidate, error))
            log.info("the parser %s could not read a file: %s", candidate.instance, error.detail)
            continue
        warnings = tuple(_fell_back(tried, error, candidate) for tried, error in failed)
        return replace(parsed, warnings=(*warnings, *parsed.warnings)) if failed else parsed, candidate
    first = failed[0][1]
    if len(failed) > 1:
        first.details["tried"] = [{"parser": c.instance, "code": e.problem_code, "detail": e.detail} for c, e in failed]
    raise first


def _fell_back(tried: Candidate, error: _Failure, served: Candidate) -> Warn:
    said = f"The parser {tried.instance} could not read this file ({error.problem_code}: {error.detail})"
    return Warn("parser_fallback", f"{said[:400]}; {served.instance} did.")
