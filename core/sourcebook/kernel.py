"""Calls to the kernel that Python's library does not have. Sources: prctl(2), syscall(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from typing import NoReturn

MACHINES = ("x86_64", "aarch64")
"""Those whose numbers of system calls are known; a table's columns are in this order."""

PDEATHSIG, DUMPABLE, SECCOMP, CHILD_SUBREAPER, NO_NEW_PRIVS = 1, 4, 22, 36, 38
"""Options of `prctl`."""


class Missing(Exception):
    """This system does not have what was asked for."""


def machine() -> int:
    """This one's place in `MACHINES`. Raises `Missing`."""
    _need_linux()
    name = platform.machine()
    if name not in MACHINES or sys.maxsize < 2**32:
        raise Missing(f"not known for {name}")
    return MACHINES.index(name)


def prctl(option: int, argument: int, pointer: int = 0) -> None:
    """Raises `Missing`, and `OSError` where the kernel refuses."""
    _need_linux()
    rest = (ctypes.c_ulong(argument), ctypes.c_ulong(pointer), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if _libc().prctl(option, *rest) != 0:
        _fail()


def syscall(number: int, *arguments: int) -> int:
    """What the system call of this number returns. Raises like `prctl`."""
    _need_linux()
    result: int = _libc().syscall(ctypes.c_long(number), *(ctypes.c_ulong(a) for a in arguments))
    if result < 0:
        _fail()
    return result


def held(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Bytes at an address."""
    return _bytes_of(len(data)).from_buffer_copy(data)


def prepare() -> None:
    """Look up what `prctl` and `syscall` need, which children then share."""
    for function in ("prctl", "syscall"):
        getattr(_libc(), function, None)  # is kept once it was asked for


def _need_linux() -> None:
    if sys.platform != "linux":
        raise Missing(f"not on {sys.platform}")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _bytes_of(size: int) -> type[ctypes.Array[ctypes.c_char]]:
    """The type of a buffer. To make one takes longer than to be confined, so children have those of their parent."""
    return ctypes.c_char * size


def _fail() -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
