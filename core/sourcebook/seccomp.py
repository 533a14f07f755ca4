"""seccomp: which system calls a process may still make. Everything but what is named here: parsers need many.

The filter is a classic BPF program over struct seccomp_data {int nr; u32 arch; u64 instruction_pointer; u64 args[6]}.
The kernel runs it for every call, and once for every number when it is installed: so it looks numbers up as in a tree.
Sources: seccomp(2), and the kernel's Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from sourcebook import landlock
from sourcebook.kernel import MACHINES, PDEATHSIG, SECCOMP, held, machine, prctl

_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_X32_BIT = 0x40000000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000  # the last carries an errno
_MODE_FILTER = 2
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_CLONE_THREAD = 0x00010000
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ME = 0x5EC0_1DAD  # stands for the process's own id in what all share

# name: (x86_64, aarch64); -1 where the machine has no such call
_CONDITIONAL = {"clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261),
                "prctl": (157, 167), "open": (2, -1), "openat": (257, 56)}  # fmt: skip
# Callers fall back on what can be filtered by its arguments.
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
            "io_uring_register": (427, 427)}  # fmt: skip
_NETWORK = {"socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "accept": (43, 202),
            "accept4": (288, 242), "bind": (49, 200), "listen": (50, 201)}  # fmt: skip
_PROCESSES = {
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "setsid": (112, 157),
    "setpgid": (109, 154), "setns": (308, 268), "unshare": (272, 97), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "semget": (64, 190),
    "semop": (65, 193), "semtimedop": (220, 192), "mq_open": (240, 180), "mq_unlink": (241, 181),
}  # fmt: skip
_FILES = {
    "creat": (85, -1), "truncate": (76, 45), "mknod": (133, -1), "mknodat": (259, 33), "mkdir": (83, -1),
    "mkdirat": (258, 34), "rmdir": (84, -1), "unlink": (87, -1), "unlinkat": (263, 35), "link": (86, -1),
    "linkat": (265, 37), "symlink": (88, -1), "symlinkat": (266, 36), "rename": (82, -1), "renameat": (264, 38),
    "renameat2": (316, 276), "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54), "utime": (132, -1),
    "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
}  # fmt: skip
_KERNEL = {
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "quotactl": (179, 60), "acct": (163, 89), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, -1), "ioperm": (173, -1), "syslog": (103, 116), "vhangup": (153, 58), "personality": (135, 92),
    "modify_ldt": (154, -1), "fanotify_init": (300, 262),
}  # fmt: skip
FORBIDDEN = _NETWORK | _PROCESSES | _FILES | _KERNEL
"""Refused with EPERM."""

SYSCALLS: Mapping[str, tuple[int, int]] = _CONDITIONAL | _UNKNOWN | FORBIDDEN | landlock.CALLS
"""Every call that is named here: its numbers on `MACHINES`."""


_Steps = tuple[bytes, ...]


class _Test(NamedTuple):
    """What lets a conditional call pass: a test of the low half of an argument, and its outcome."""

    argument: int
    test: int
    operand: int
    passes: bool
    errno: int


_TESTS = {
    "clone": _Test(0, _ANY_BIT, _CLONE_THREAD, True, _EPERM),  # threads, no processes
    "kill": _Test(0, _EQUAL, _ME, True, _EPERM),
    "tgkill": _Test(0, _EQUAL, _ME, True, _EPERM),
    "prlimit64": _Test(0, _EQUAL, 0, True, _EPERM),  # 0: the caller itself
    "prctl": _Test(0, _EQUAL, PDEATHSIG, False, _EPERM),
    "open": _Test(1, _ANY_BIT, _FOR_WRITING, False, _EACCES),
    "openat": _Test(2, _ANY_BIT, _FOR_WRITING, False, _EACCES),
}


def install(*, network: bool = False) -> None:
    """Filter the calls of this process from now on. Needs `NO_NEW_PRIVS`. Raises `Missing` and `OSError`."""
    _code, pointer = _filter(network)
    prctl(SECCOMP, _MODE_FILTER, ctypes.addressof(pointer))


def prepare() -> None:
    """Make what children can share. Raises `Missing`."""
    _filter(network=False)


def _filter(network: bool) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    """The program, which has to stay where it is until it is loaded, and what points to it."""
    code = held(program(machine(), network=network))
    # struct sock_fprog {unsigned short len; struct sock_filter *filter}, with the compiler's padding
    return code, held(struct.pack("@HP", len(code) // 8, ctypes.addressof(code)))


def program(column: int, *, network: bool = False) -> bytes:
    """For this process, on a machine of `MACHINES`: instructions of eight bytes, struct sock_filter."""
    return _shared(column, network).replace(struct.pack("=I", _ME), struct.pack("=I", os.getpid()))


@cache
def _shared(column: int, network: bool) -> bytes:
    """The program with `_ME` for the process's id."""
    return b"".join(_steps(column, network))


def _steps(column: int, network: bool) -> Iterator[bytes]:
    yield from (_step(_LOAD, _ARCH_AT), _step(_EQUAL, _AUDIT_ARCH[column], 1, 0), _step(_RETURN, _KILL))
    yield _step(_LOAD, _NUMBER_AT)
    if MACHINES[column] == "x86_64":  # the same calls under other numbers
        yield from (_step(_AT_LEAST, _X32_BIT, 0, 1), _step(_RETURN, _KILL))
    yield from _looked_up(_ranges(_verdicts(column, network)))


def _verdicts(column: int, network: bool) -> dict[int, _Steps]:
    """What is done about each call that is named, by its number."""
    forbidden = {n: c for n, c in FORBIDDEN.items() if not (network and n in _NETWORK)}
    plain = [(_UNKNOWN, _ENOSYS), (forbidden, _EPERM)]
    found: dict[int, _Steps] = {}
    for calls, errno in plain:
        found |= {numbers[column]: (_refuse(errno),) for numbers in calls.values()}
    found |= {numbers[column]: _judged(_TESTS[name]) for name, numbers in _CONDITIONAL.items()}
    found.pop(-1, None)
    return found


def _judged(test: _Test) -> _Steps:
    """Refuse the call unless its argument passes."""
    passes = (1, 0) if test.passes else (0, 1)
    return (
        _step(_LOAD, _ARGUMENTS_AT + 8 * test.argument),
        _step(test.test, test.operand, *passes),
        _refuse(test.errno),
        _step(_RETURN, _ALLOW),
    )


def _ranges(verdicts: Mapping[int, _Steps]) -> list[tuple[int, _Steps]]:
    """Where each range of numbers begins that are treated alike, from 0 on; what is not named is allowed."""
    allowed = (_step(_RETURN, _ALLOW),)
    every = {number: allowed for named in verdicts for number in (0, named + 1)} | dict(verdicts)
    found: list[tuple[int, _Steps]] = []
    for number, steps in sorted(every.items()):
        if not found or found[-1][1] != steps:
            found.append((number, steps))
    return found


def _looked_up(ranges: Sequence[tuple[int, _Steps]]) -> _Steps:
    """A tree of comparisons, down to the range that a call's number is in."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _looked_up(ranges[:middle]), _looked_up(ranges[middle:])
    return (_step(_AT_LEAST, ranges[middle][0], len(below), 0), *below, *above)


def _refuse(errno: int) -> bytes:
    return _step(_RETURN, _REFUSE | errno)


def _step(code: int, operand: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """One instruction. Jumps count from the next one, and are shorter than 256."""
    return struct.pack("=HBBI", code, jump_true, jump_false, operand)
