"""One file with many in it, each with its hash: what `backup` and `export` write, and `restore` and `import` read.

A ZIP whose last entry, `manifest.json`, names every other with its SHA-256. Rows are JSON lines, one file a table; a
source's bytes are an entry of their own. A file without a manifest was cut off, and is refused.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson
import sqlalchemy as sa

from sourcebook.errors import InvalidInput, StoreError

FORMAT = 1
_MANIFEST = "manifest.json"
_CHUNK = 256 * 1024
_ROWS = 500


class BundleWriter:
    """Writes beside, and renames when all is written: the file is whole or not there."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._kind = kind
        self._files: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._path.is_dir():
            raise StoreError(f"{self._path} cannot be written: it is a folder.", transient=False)
        try:
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written: {error.strerror}.", transient=False) from error
        self._file = os.fdopen(descriptor, "w+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self._part.unlink(missing_ok=True)
            with suppress(Exception):  # an entry may still be open: what is thrown away need not be ended well
                self._zip.close()
            self._file.close()
        if isinstance(error, OSError):
            raise StoreError(f"{self._path} cannot be written: {error.strerror}.", transient=False) from error

    @contextmanager
    def table(self, name: str, table: sa.Table) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], int]]:
        """A function that appends rows to `name`.jsonl and returns how many there are now."""
        count, digest = 0, hashlib.sha256()
        with self._zip.open(f"{name}.jsonl", "w", force_zip64=True) as entry:

            def append(rows: Iterable[Mapping[str, Any]]) -> int:
                nonlocal count
                for row in rows:
                    line = orjson.dumps(encode_row(table, row), option=orjson.OPT_APPEND_NEWLINE)
                    digest.update(line)
                    entry.write(line)
                    count += 1
                return count

            yield append
        self._files[f"{name}.jsonl"] = digest.hexdigest()

    async def blob(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        """Bytes as they are; how many."""
        size, digest = 0, hashlib.sha256()
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_STORED  # most are compressed already
        with self._zip.open(info, "w", force_zip64=True) as entry:
            async for chunk in chunks:
                digest.update(chunk)
                entry.write(chunk)
                size += len(chunk)
        self._files[name] = digest.hexdigest()
        return size

    def finish(self, **about: Any) -> None:
        """Write the manifest, sync, and put the file in its place."""
        manifest = {"format": FORMAT, "kind": self._kind, **about, "files": self._files}
        self._zip.writestr(_MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)


class BundleReader:
    """Reads one. Raises `InvalidInput` (`bundle_invalid`) where it is no bundle of this kind, or is damaged."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._kind = kind

    def __enter__(self) -> Self:
        try:
            self._zip = zipfile.ZipFile(self._path)
            self.manifest: dict[str, Any] = orjson.loads(self._zip.read(_MANIFEST))
            found = (self.manifest["format"], self.manifest["kind"])
            self._files: dict[str, str] = self.manifest["files"]
        except FileNotFoundError as error:
            raise InvalidInput(f"There is no file {self._path}.", code="bundle_invalid") from error
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise self._damaged("is no whole file of ours: its manifest is missing or damaged") from error
        if found != (FORMAT, self._kind):
            raise self._damaged(f"is a {found[1]} of format {found[0]}, not a {self._kind} of format {FORMAT}")
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self, folder: str) -> list[str]:
        """The entries below `folder`."""
        return [name for name in self._files if name.startswith(f"{folder}/")]

    def rows(self, name: str, table: sa.Table) -> Iterator[dict[str, Any]]:
        """A table's rows; none where the table was not written."""
        if f"{name}.jsonl" in self._files:
            with self._checked(f"{name}.jsonl") as entry:
                for line in entry:
                    yield decode_row(table, orjson.loads(line))

    def batches(self, name: str, table: sa.Table) -> Iterator[list[dict[str, Any]]]:
        """The rows, some hundred at a time."""
        batch: list[dict[str, Any]] = []
        for row in self.rows(name, table):
            batch.append(row)
            if len(batch) == _ROWS:
                yield batch
                batch = []
        if batch:
            yield batch

    async def blob(self, name: str) -> AsyncIterator[bytes]:
        """An entry's bytes."""
        with self._checked(name) as entry:
            while chunk := entry.read(_CHUNK):
                yield chunk

    def verify(self) -> None:
        """Read all of it against its hashes, before anything is done with it."""
        for name in self._files:
            with self._checked(name) as entry:
                while entry.read(_CHUNK):
                    pass

    def _checked(self, name: str) -> _Checked:
        try:
            return _Checked(self._zip.open(name), self._files[name], self._damaged(f"is damaged in {name}"))
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            raise self._damaged(f"lacks {name}") from error

    def _damaged(self, what: str) -> InvalidInput:
        remedy = "Take another copy of it; nothing was changed."
        return InvalidInput(f"{self._path.name} {what}.", code="bundle_invalid", remedy=remedy)


class _Checked:
    """An entry that raises at its end where it is not what was written."""

    def __init__(self, entry: IO[bytes], digest: str, error: InvalidInput) -> None:
        self._entry, self._digest, self._error = entry, digest, error
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._entry.close()

    def __iter__(self) -> Iterator[bytes]:
        while line := self._take(self._entry.readline):
            yield line

    def read(self, size: int) -> bytes:
        return self._take(lambda: self._entry.read(size))

    def _take(self, read: Any) -> bytes:
        try:
            data: bytes = read()
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise self._error from error
        self._hash.update(data)
        if not data and self._hash.hexdigest() != self._digest:
            raise self._error
        return data


def encode_row(table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON of a row: bytes as base64, times as ISO 8601."""
    # SQLAlchemy's names are a kind of string that orjson does not take.
    return {str.__str__(name): _encoded(value) for name, value in row.items() if name in table.c}


def decode_row(table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """What `encode_row` was given; a column that this version does not know is left out."""
    return {name: _decoded(table.c[name].type, value) for name, value in row.items() if name in table.c}


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value


def _decoded(kind: sa.types.TypeEngine[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, sa.LargeBinary):
        return base64.b64decode(value)
    if isinstance(kind, sa.TypeDecorator) and isinstance(kind.impl, sa.DateTime):
        return datetime.fromisoformat(value)
    return value
