"""Long lists that must not be held in memory: what goes over a budget lies in a file that has no name."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar, cast, overload

T = TypeVar("T")


class Spool(Sequence[T]):
    """Append, then read like a tuple. The first items stay in memory, up to `memory` bytes by their own estimate.

    `encode` and `decode` are for the rest. Its file is in `folder` (None: the system's), and gone at `close`.
    """

    def __init__(
        self, encode: Callable[[T], bytes], decode: Callable[[bytes], T], memory: float, folder: Path | None = None
    ) -> None:
        self._encode = encode
        self._decode = decode
        self._left = memory
        self._folder = folder
        self._held: list[T] = []
        self._file: BinaryIO | None = None
        self._ends = array("Q", [0])  # in the file: item n stands in [ends[n], ends[n + 1])

    def append(self, item: T, size: int) -> None:
        """Add an item that takes about `size` bytes of memory."""
        self._left -= size
        if self._file is None and self._left >= 0:
            self._held.append(item)
            return
        if self._file is None:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 - closed by:
            weakref.finalize(self, self._file.close)  # and, where it is called, by `close`
        data = self._encode(item)
        self._file.seek(self._ends[-1])
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._held = []
        self._ends = array("Q", [0])
        if self._file is not None:
            self._file.close()
            self._file = None

    def part(self, start: int, stop: int) -> Part[T]:
        """`[start, stop)` of it, read when it is asked for."""
        return Part(self, start, stop)

    def __len__(self) -> int:
        return len(self._held) + len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = index if index >= 0 else index + len(self)
        if not 0 <= at < len(self):
            raise IndexError(index)
        if at < len(self._held):
            return self._held[at]
        n = at - len(self._held)
        assert self._file is not None
        self._file.seek(self._ends[n])
        return self._decode(self._file.read(self._ends[n + 1] - self._ends[n]))

    def __eq__(self, other: object) -> bool:
        """As a sequence: for tests."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]  # it can change


class Part(Sequence[T], Generic[T]):
    """A range of a spool."""

    def __init__(self, whole: Spool[T], start: int, stop: int) -> None:
        self._whole = whole
        self._range = range(start, stop)

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self._whole[i] for i in self._range[index]]
        return self._whole[self._range[index]]

    def __iter__(self) -> Iterator[T]:
        return (self._whole[i] for i in self._range)


def _same(a: object, b: object) -> bool:
    return a == b
