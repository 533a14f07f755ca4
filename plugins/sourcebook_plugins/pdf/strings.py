"""Strings that pdfium writes into a buffer of ours, in UTF-16."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_LONGEST = 1_000_000  # characters; nobody reads a title that is longer

# One for all: ctypes makes a type for every size of a buffer, which takes longer than to read most strings.
_buffer = ctypes.create_string_buffer(16 * 1024)
_start = ctypes.cast(_buffer, ctypes.POINTER(ctypes.c_ushort))


def utf16(get: Callable[..., int], longest: int = _LONGEST) -> str:
    """What `get(buffer, bytes)` writes, without white space around it; "" where it is longer than `longest`.

    `get` returns how many bytes there are, with an end mark of two, and writes nothing where they do not fit.
    """
    size = get(_start, len(_buffer))
    if not 2 < size <= 2 * longest + 2:
        return ""
    held = _buffer
    if size > len(_buffer):
        held = ctypes.create_string_buffer(size)
        get(ctypes.cast(held, ctypes.POINTER(ctypes.c_ushort)), size)
    return str(memoryview(held)[: size - 2], "utf-16-le", "replace").strip("\0 \t\r\n")
