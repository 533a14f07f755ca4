"""How faithfully a parser read: words found, and found in order."""

from __future__ import annotations

import re
import unicodedata
from difflib import SequenceMatcher

_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def words(text: str) -> list[str]:
    """Words without case and marks; a Chinese, Japanese or Korean character is one."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


def matched(expected: list[str], found: list[str]) -> int:
    """How many words stand in both in the same order (difflib's matching blocks)."""
    blocks = SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)


def fidelity(expected: str, found: str) -> float:
    """F1 of the words that are found in order: 1 where nothing is missing, added or moved."""
    a, b = words(expected), words(found)
    return 2 * matched(a, b) / (len(a) + len(b)) if a or b else 1.0


def recall(expected: str, found: str) -> float:
    """The part of the expected words that was found in order."""
    a = words(expected)
    return matched(a, words(found)) / len(a) if a else 1.0
