"""What a size counts: characters, or the tokens of a tokenizer."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from sourcebook.errors import PluginError

_WINDOW = 100_000  # characters that are tokenized at once: some tokenizers take quadratic time


class Measure(Protocol):
    """Sizes of ranges of one text. Sizes of neighbouring ranges add up."""

    def size(self, start: int, end: int) -> int:
        """Of `[start, end)`."""

    def reach(self, start: int, size: int) -> int:
        """The furthest end of a range from `start` of at most `size`."""

    def back(self, end: int, size: int) -> int:
        """The first start of a range up to `end` of at most `size`."""

    def length(self, text: str) -> int:
        """Of any other text."""


class Characters:
    """Code points."""

    def size(self, start: int, end: int) -> int:
        """See `Measure`."""
        return end - start

    def reach(self, start: int, size: int) -> int:
        """See `Measure`."""
        return start + size

    def back(self, end: int, size: int) -> int:
        """See `Measure`."""
        return end - size

    def length(self, text: str) -> int:
        """See `Measure`."""
        return len(text)


class Tokens:
    """Tokens that begin in a range. A chunk that is tokenized alone may have one more where a word is cut."""

    def __init__(self, text: str, tokenizer: Path) -> None:
        self._tokenizer = _loaded(tokenizer)
        self._text = text
        self._starts = [start + at for at in range(0, len(text), _WINDOW) for start in self._offsets(at)]

    def size(self, start: int, end: int) -> int:
        """See `Measure`."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def reach(self, start: int, size: int) -> int:
        """See `Measure`."""
        last = bisect_left(self._starts, start) + size
        return self._starts[last] if last < len(self._starts) else len(self._text)

    def back(self, end: int, size: int) -> int:
        """See `Measure`."""
        return self._starts[max(bisect_left(self._starts, end) - size, 0)] if self._starts else end

    def length(self, text: str) -> int:
        """See `Measure`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _offsets(self, at: int) -> list[int]:
        """Where the tokens of one window begin in it, each place once: a letter of several bytes is several tokens."""
        found = self._tokenizer.encode(self._text[at : at + _WINDOW], add_special_tokens=False).offsets
        return sorted({start for start, end in found if end > start})


def measure(text: str, tokenizer: Path | None) -> Measure:
    """Tokens where there is a tokenizer, else characters. Raises `PluginError` where it cannot be loaded."""
    return Tokens(text, tokenizer) if tokenizer is not None else Characters()


@lru_cache(maxsize=2)
def _loaded(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise PluginError(
            "Sizes in tokens need the tokenizers library.", remedy="pip install 'sourcebook[tokenizers]'"
        ) from error
    try:
        loaded = Tokenizer.from_buffer(path.read_bytes())
    except Exception as error:  # the library raises bare exceptions
        raise PluginError(
            f"The tokenizer {path.name} cannot be loaded.",
            remedy="`tokenizer` names a tokenizer.json of Hugging Face's tokenizers, readable by the server.",
        ) from error
    loaded.no_truncation()
    loaded.no_padding()
    return loaded
