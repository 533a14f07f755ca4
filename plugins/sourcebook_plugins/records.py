"""JSON and JSON Lines: every value with the path of keys to it, one block a record, so that a passage reads alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.errors import LimitExceeded, Malformed, NoText
from sourcebook_plugins.text import decode

_LONGEST_BLOCK = 4000  # characters; a larger value is cut at its keys
_DEEPEST = 100


class JsonParser(Parser[ComponentSettings]):
    """Writes `key.inner: value` lines. A record (an element of the outer list, a line of JSON Lines) is one paragraph.

    A locator is the path of keys and, for JSON Lines, the number of the line. Raises `Malformed`, and `NoText`.
    """

    name = "json"
    media_types = ("application/json", "application/jsonl", "application/x-ndjson", "application/x-jsonlines")
    extensions = (".json", ".jsonl", ".ndjson")
    preload = ("orjson",)
    memory_safe = True

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        text = decode(file.read(), out)
        lined = file.name.lower().endswith((".jsonl", ".ndjson")) or file.media_type in self.media_types[1:]
        if lined:
            written = [_write(value, (), number, out) for number, value in _lines(text, out)]
        else:
            value = _load(text)
            _title(value, out)
            written = [_write(record, path, None, out) for path, record in _records(value, ())]
        if not any(written):
            raise NoText("The file holds no values.")


def _load(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "depth limit" in error.msg:
            raise LimitExceeded("The values are nested too deeply.", code="nested_too_deeply") from error
        raise Malformed(f"This is not JSON: {error.msg} in line {error.lineno}, column {error.colno}.") from error


def _lines(text: str, out: DocumentWriter) -> Iterator[tuple[int, Any]]:
    """The line numbers with their values; damaged lines are left out, unless all are."""
    good = bad = 0
    problem: Malformed | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = _load(line)
        except (Malformed, LimitExceeded) as error:
            problem, bad = Malformed(f"Line {number}: {error.detail}"), bad + 1
            out.warn("line_damaged", f"Line {number} is not JSON and was left out.")
            continue
        good += 1
        yield number, value
    if problem is not None and not good:
        raise problem


def _records(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The parts of a value that are a block each: an outer list's elements, and what is too long for one block."""
    if len(path) < _DEEPEST and isinstance(value, list | dict) and (isinstance(value, list) or _long(value)):
        named = enumerate(value) if isinstance(value, list) else value.items()
        # Short plain values of one list or object belong together.
        plain: list[tuple[str, Any]] = []
        for key, inner in named:
            if isinstance(inner, list | dict) and inner:
                if plain:
                    yield path, _Group(plain)
                    plain = []
                yield from _records(inner, (*path, str(key)))
            else:
                plain.append((str(key), inner))
        if plain:
            yield path, _Group(plain)
        return
    yield path, value


class _Group(list[tuple[str, Any]]):
    """Some of the entries of a list or an object."""


def _long(value: Any) -> bool:
    size = 0
    for _, text in _leaves(value, ()):
        size += len(text)
        if size > _LONGEST_BLOCK:
            return True
    return False


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every plain value with its keys, in order."""
    waiting: list[tuple[tuple[str, ...], Any]] = [(path, value)]
    while waiting:
        where, found = waiting.pop()
        if isinstance(found, _Group):
            waiting.extend(((*where, key), inner) for key, inner in reversed(found))
        elif isinstance(found, dict):
            waiting.extend(((*where, str(key)), inner) for key, inner in reversed(found.items()))
        elif isinstance(found, list):
            if all(not isinstance(inner, list | dict) for inner in found):
                yield where, ", ".join(_plain(inner) for inner in found)
            else:
                waiting.extend(((*where, str(i)), inner) for i, inner in reversed(list(enumerate(found))))
        else:
            yield where, _plain(found)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(value: Any, path: tuple[str, ...], line: int | None, out: DocumentWriter) -> bool:
    """Write a record; whether it says anything."""
    place = Place(path=path or (None if line else ("$",)), paragraph=line)  # JSONPath (RFC 9535) calls the root "$"
    texts = [f"{'.'.join(keys)}: {text}" if keys else text for keys, text in _leaves(value, path) if text.strip()]
    out.block([("\n".join(texts), place)])
    return bool(texts)


def _title(value: Any, out: DocumentWriter) -> None:
    if isinstance(value, dict) and isinstance(title := value.get("title") or value.get("name"), str):
        out.meta(title=title)


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """JSON and JSON Lines."""
    return [JsonParser]
