"""What spreadsheets and tables as text share: names of cells, and whether a row names the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIGURE = re.compile(r"[-+(]?[$€£¥]?\s?\d[\d.,: /-]*\s?[%)€]?|TRUE|FALSE")


def column_name(number: int) -> str:
    """1 -> "A", 27 -> "AA"."""
    name = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        name = chr(65 + rest) + name
    return name


def column_number(name: str) -> int:
    """The inverse: "AA" -> 27. Only the letters that a cell's name begins with count."""
    number = 0
    for letter in name:
        if not "A" <= letter <= "Z":
            break
        number = number * 26 + ord(letter) - 64
    return number


def cell_range(row: int, first: int, last: int) -> str:
    """ "B3:F3", or "B3" where it is one cell."""
    start = f"{column_name(first)}{row}"
    return start if first == last else f"{start}:{column_name(last)}{row}"


def is_header(cells: Sequence[str]) -> bool:
    """Whether a table's first row names its columns: words in most of them, no figures, each once."""
    words = [cell.strip() for cell in cells if cell.strip()]
    if not words or len(words) * 2 < len(cells) or len(set(words)) < len(words):
        return False
    return not any(_FIGURE.fullmatch(word) for word in words)
