"""Landlock: which files a process may still read, whom it may signal, and no TCP (Linux 5.13 and later).

Source: the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from sourcebook.kernel import held, syscall

CALLS = {
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
"""Their numbers, which are the same on every machine."""

_CREATE, _ADD, _RESTRICT = (numbers[0] for numbers in CALLS.values())
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Rights that each version of the interface added, from its version 1 on: so many of the lowest bits are known.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1
_CREATE_VERSION, _RULE_PATH_BENEATH = 1, 1
_ATTRIBUTES, _RULE = struct.Struct("=QQQ"), struct.Struct("=Qi")


def rules(readable: Iterable[Path], *, network: bool = False) -> int:
    """An open file with the rules: read below `readable`, and nothing else. It is not inherited by what is executed.

    Many processes may keep the same rules: to make them takes longer than all other confinement. Raises `Missing`, and
    `OSError` where the kernel has no Landlock.
    """
    version = syscall(_CREATE, 0, 0, _CREATE_VERSION)
    files = (1 << _FILE_RIGHTS[min(version, 5)]) - 1
    net = _BIND_TCP | _CONNECT_TCP if version >= 4 and not network else 0
    scope = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = held(_ATTRIBUTES.pack(files, net, scope))
    made = syscall(_CREATE, ctypes.addressof(attributes), size, 0)
    try:
        for folder in readable:
            _allow_reading(made, folder)
    except BaseException:
        os.close(made)
        raise
    return made


def keep(made: int) -> None:
    """Keep these rules from now on. Needs `NO_NEW_PRIVS`."""
    syscall(_RESTRICT, made, 0)


def _allow_reading(made: int, folder: Path) -> None:
    beneath = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    rights = _READ_FILE | _READ_DIR if stat.S_ISDIR(os.fstat(beneath).st_mode) else _READ_FILE
    try:
        rule = held(_RULE.pack(rights, beneath))
        syscall(_ADD, made, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(beneath)
