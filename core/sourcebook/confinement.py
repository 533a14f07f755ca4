"""Takes rights away from the current process, for good: what a parser that was taken over can still do.

Every layer is best effort and says whether it is active. All of them work without privilege.

    limits        memory, processor time, open files; no file grows, no core is dumped (setrlimit)
    lifeline      the process dies with its parent, and nobody else may trace it (prctl)
    no_new_privs  no setuid program gives rights back (prctl)
    landlock      files: nothing but reading below named folders; no TCP; no signals to others (Linux 5.13)
    seccomp       system calls: no network, no new process, no change to any file (x86_64, aarch64)

Sources: seccomp(2), landlock(7), prctl(2), and the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NoReturn

from sourcebook.errors import ConfigError, LimitExceeded

LAYERS = ("limits", "lifeline", "no_new_privs", "landlock", "seccomp")
ACTIVE = "active"
HEADROOM = 32 * 1024 * 1024
"""Bytes of address space beyond the memory limit, which `make_room` opens to report that the limit was reached."""


@dataclass(frozen=True)
class JailLimits:
    """What one document may cost. Sizes are in bytes; `memory` is address space above that of the warm parent.

    `strict` refuses to parse where a layer of confinement is missing; `best-effort` goes on without it.
    """

    wall_seconds: float = 60
    cpu_seconds: int = 30
    memory: int = 1024 * 1024 * 1024
    output: int = 256 * 1024 * 1024
    open_files: int = 64
    mode: Literal["strict", "best-effort"] = "best-effort"


class Missing(Exception):
    """This system does not have the layer."""


def confine(
    limits: JailLimits,
    readable: Iterable[Path],
    parent: int,
    base: int,
    layers: Iterable[str] = LAYERS,
    *,
    network: bool = False,
) -> dict[str, str]:
    """Confine the calling thread and its children; returns the state of every layer.

    `readable`: folders and files that may still be read. `parent`: the process to die with. `base`: the address space
    in bytes that is in use already and does not count. `layers` names those to put on; `network` leaves the network
    open.
    """
    chosen = set(layers)
    steps: dict[str, Callable[[], None]] = {
        "limits": lambda: _limit(limits, base),
        "lifeline": lambda: _die_with(parent),
        "no_new_privs": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "landlock": lambda: _restrict_files(readable, network),
        "seccomp": lambda: _restrict_calls(network),  # last: it forbids what the others need
    }
    states = {name: _apply(step) if name in chosen else "missing: switched off" for name, step in steps.items()}
    if states["seccomp"] != ACTIVE and "limits" in chosen:  # costs threads too, where nothing else stops processes
        _apply(lambda: _lower(resource.RLIMIT_NPROC, 0, 0))
    return states


def prepare() -> None:
    """Make what `confine` needs and children can share. Takes no right away."""
    with contextlib.suppress(Missing):
        _filter(network=False)
    for function in ("prctl", "syscall"):
        getattr(_libc(), function, None)  # is kept once it was asked for
    for structure in (_ATTRIBUTES, _RULE):
        _bytes_of(structure.size)


def missing(layers: Mapping[str, str]) -> list[str]:
    """The layers that are not active, each with its reason."""
    return [f"{name} ({state.removeprefix('missing: ')})" for name, state in layers.items() if state != ACTIVE]


def refusal(lacking: Iterable[str]) -> ConfigError:
    """Why a strict jail does not parse."""
    return ConfigError(
        f"The parser jail is strict, and layers of its confinement are missing: {', '.join(lacking)}.",
        remedy='Run on a system that has them (`sourcebook doctor` lists them), or set [jail] mode = "best-effort".',
    )


def limit_exceeded(what: Literal["time", "cpu", "memory", "output"], limits: JailLimits) -> LimitExceeded:
    """The error for a limit that a document reached; `details` has `what` and `limit`."""
    code, limit, text = {
        "time": ("timeout", limits.wall_seconds, f"it took longer than {limits.wall_seconds:g} seconds"),
        "cpu": ("timeout", limits.cpu_seconds, f"it took more than {limits.cpu_seconds} seconds of processor time"),
        "memory": ("out_of_memory", limits.memory, f"it needs more than {limits.memory:,} bytes of memory"),
        "output": ("too_large_unpacked", limits.output, f"its contents came to more than {limits.output:,} bytes"),
    }[what]
    return LimitExceeded(
        f"Reading the file was stopped: {text}.",
        remedy="Split the file and upload its parts, or raise the limit in [jail].",
        code=code,
        what=what,
        limit=limit,
    )


def address_space() -> int:
    """Bytes of address space of this process; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def make_room() -> None:
    """After the memory limit was reached: open the last bit, to report it."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def become_reaper() -> str:
    """Processes that escape from their group come back to this one when their parent dies; returns the state."""
    return _apply(lambda: _prctl(_PR_SET_CHILD_SUBREAPER, 1))


def _apply(step: Callable[[], None]) -> str:
    try:
        step()
    except Missing as error:
        return f"missing: {error}"
    except (OSError, ValueError) as error:
        return f"missing: {getattr(error, 'strerror', None) or error}"
    return ACTIVE


def _limit(limits: JailLimits, base: int) -> None:
    # Never above what the process itself was given.
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)
    _lower(resource.RLIMIT_CORE, 0, 0)
    _lower(resource.RLIMIT_FSIZE, 0, 0)
    _lower(resource.RLIMIT_NOFILE, limits.open_files, limits.open_files)
    if not base:
        raise Missing("no limit of address space on this system; time, files and output are limited")
    _lower(resource.RLIMIT_AS, base + limits.memory, base + limits.memory + HEADROOM)


def _lower(what: int, soft: int, hard: int) -> None:
    now = resource.getrlimit(what)[1]
    if now != resource.RLIM_INFINITY:
        soft, hard = min(soft, now), min(hard, now)
    resource.setrlimit(what, (soft, hard))


# prctl

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _prctl(option: int, argument: int, pointer: int = 0) -> None:
    _need_linux()
    rest = (ctypes.c_ulong(argument), ctypes.c_ulong(pointer), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if _libc().prctl(option, *rest) != 0:
        _fail()


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


def _held(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Bytes at an address."""
    return _bytes_of(len(data)).from_buffer_copy(data)


def _fail() -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def _syscall(name: str, *arguments: int) -> int:
    number = _SYSCALLS[name][_machine()]
    result: int = _libc().syscall(ctypes.c_long(number), *(ctypes.c_ulong(a) for a in arguments))
    if result < 0:
        _fail()
    return result


def _machine() -> int:
    """The column of `_SYSCALLS`."""
    _need_linux()
    machine = platform.machine()
    if machine not in _MACHINES or sys.maxsize < 2**32:
        raise Missing(f"not known for {machine}")
    return _MACHINES.index(machine)


# Landlock

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Rights that each version of the interface added, from its version 1 on: so many of the lowest bits are known.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1
_CREATE_VERSION, _RULE_PATH_BENEATH = 1, 1
_ATTRIBUTES, _RULE = struct.Struct("=QQQ"), struct.Struct("=Qi")


def _restrict_files(readable: Iterable[Path], network: bool) -> None:
    version = _syscall("landlock_create_ruleset", 0, 0, _CREATE_VERSION)
    files = (1 << _FILE_RIGHTS[min(version, 5)]) - 1
    net = _BIND_TCP | _CONNECT_TCP if version >= 4 and not network else 0
    scope = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = _held(_ATTRIBUTES.pack(files, net, scope))
    rules = _syscall("landlock_create_ruleset", ctypes.addressof(attributes), size, 0)
    try:
        for folder in readable:
            _allow_reading(rules, folder)
        _syscall("landlock_restrict_self", rules, 0)
    finally:
        os.close(rules)


def _allow_reading(rules: int, folder: Path) -> None:
    beneath = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    rights = _READ_FILE | _READ_DIR if stat.S_ISDIR(os.fstat(beneath).st_mode) else _READ_FILE
    try:
        rule = _held(_RULE.pack(rights, beneath))
        _syscall("landlock_add_rule", rules, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(beneath)


# seccomp: a classic BPF program over struct seccomp_data {int nr; u32 arch; u64 instruction_pointer; u64 args[6]}

_MACHINES = ("x86_64", "aarch64")
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_X32_BIT = 0x40000000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000  # the last carries an errno
_MODE_FILTER = 2
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_CLONE_THREAD = 0x00010000
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

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
_LANDLOCK = {"landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445),
             "landlock_restrict_self": (446, 446)}  # fmt: skip
_FORBIDDEN = _NETWORK | _PROCESSES | _FILES | _KERNEL
_SYSCALLS: Mapping[str, tuple[int, int]] = _CONDITIONAL | _UNKNOWN | _FORBIDDEN | _LANDLOCK


def _restrict_calls(network: bool) -> None:
    _code, pointer = _filter(network)
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(pointer))


def _filter(network: bool) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    """The program, which has to stay where it is until it is loaded, and what points to it."""
    code = _held(b"".join(_program(_machine(), network)))
    # struct sock_fprog {unsigned short len; struct sock_filter *filter}, with the compiler's padding
    return code, _held(struct.pack("@HP", len(code) // 8, ctypes.addressof(code)))


def _program(machine: int, network: bool = False) -> Iterator[bytes]:
    """Everything is allowed but what is named: native parsers need more calls than anyone can list."""
    yield from _fixed(machine, network)
    me = os.getpid()
    yield from _unless(machine, "clone", 0, _JUMP_ANY_BIT, _CLONE_THREAD, _EPERM)  # threads, no processes
    yield from _unless(machine, "kill", 0, _JUMP_EQUAL, me, _EPERM)
    yield from _unless(machine, "tgkill", 0, _JUMP_EQUAL, me, _EPERM)
    yield from _unless(machine, "prlimit64", 0, _JUMP_EQUAL, 0, _EPERM)  # 0: the caller itself
    yield from _if(machine, "prctl", 0, _JUMP_EQUAL, _PR_SET_PDEATHSIG, _EPERM)
    yield from _if(machine, "open", 1, _JUMP_ANY_BIT, _FOR_WRITING, _EACCES)
    yield from _if(machine, "openat", 2, _JUMP_ANY_BIT, _FOR_WRITING, _EACCES)
    yield _step(_RETURN, _ALLOW)


@cache
def _fixed(machine: int, network: bool) -> tuple[bytes, ...]:
    """The part that is the same in every process."""
    return tuple(_forbidding(machine, network))


def _forbidding(machine: int, network: bool) -> Iterator[bytes]:
    yield from (_step(_LOAD, _ARCH_AT), _step(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0), _step(_RETURN, _KILL))
    yield _step(_LOAD, _NUMBER_AT)
    if _MACHINES[machine] == "x86_64":  # the same calls under other numbers
        yield from (_step(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1), _step(_RETURN, _KILL))
    forbidden = {n: c for n, c in _FORBIDDEN.items() if not (network and n in _NETWORK)}
    for calls, errno in ((_UNKNOWN, _ENOSYS), (forbidden, _EPERM)):
        for number in (numbers[machine] for numbers in calls.values()):
            if number >= 0:
                yield from (_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE | errno))


def _step(code: int, operand: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """One instruction, struct sock_filter."""
    return struct.pack("=HBBI", code, jump_true, jump_false, operand)


def _unless(machine: int, name: str, argument: int, test: int, operand: int, errno: int) -> Iterator[bytes]:
    """Refuse the call unless the low half of an argument passes the test."""
    return _conditional(machine, name, argument, _step(test, operand, 1, 0), errno)


def _if(machine: int, name: str, argument: int, test: int, operand: int, errno: int) -> Iterator[bytes]:
    """Refuse the call if the low half of an argument passes the test."""
    return _conditional(machine, name, argument, _step(test, operand, 0, 1), errno)


def _conditional(machine: int, name: str, argument: int, test: bytes, errno: int) -> Iterator[bytes]:
    number = _SYSCALLS[name][machine]
    if number >= 0:
        yield _step(_JUMP_EQUAL, number, 0, 4)
        yield _step(_LOAD, _ARGUMENTS_AT + 8 * argument)
        yield test
        yield _step(_RETURN, _REFUSE | errno)
        yield _step(_RETURN, _ALLOW)
