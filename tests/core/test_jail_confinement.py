"""The filter of system calls, run here on every case that it decides, without installing it."""

from __future__ import annotations

import os
import struct

import pytest

from sourcebook import seccomp
from sourcebook.confinement import JailLimits, limit_exceeded, missing

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
EPERM, EACCES, ENOSYS = 0x50001, 0x5000D, 0x50026
MACHINES = ("x86_64", "aarch64")
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the kernel's interpreter of classic BPF would return for this call."""
    column = MACHINES.index(machine)
    words = tuple(arguments) + (0,) * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *words)
    program = list(struct.iter_unpack("=HBBI", seccomp.program(column)))
    accumulator = at = 0
    while True:
        code, yes, no, operand = program[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif code == 0x06:
            return int(operand)
        else:
            tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            at += yes if tests[code] else no


def number_of(name: str, machine: str) -> int:
    return seccomp.SYSCALLS[name][MACHINES.index(machine)]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("socket", (), EPERM),
        ("connect", (), EPERM),
        ("execve", (), EPERM),
        ("ptrace", (), EPERM),
        ("fchmod", (), EPERM),
        ("mount", (), EPERM),
        ("open_by_handle_at", (), EPERM),
        ("clone3", (), ENOSYS),
        ("io_uring_setup", (), ENOSYS),
        ("openat2", (), ENOSYS),
        ("clone", (0x11,), EPERM),
        ("clone", (0x3D0F00,), ALLOWED),
        ("kill", (os.getpid(), 9), ALLOWED),
        ("kill", (0, 9), EPERM),
        ("kill", (2**32 - 1, 9), EPERM),
        ("tgkill", (os.getpid(), 1, 6), ALLOWED),
        ("tgkill", (1, 1, 9), EPERM),
        ("prlimit64", (0,), ALLOWED),
        ("prlimit64", (1,), EPERM),
        ("prctl", (1, 0), EPERM),
        ("prctl", (15, 0), ALLOWED),
        ("openat", (0, 0, os.O_RDONLY | os.O_CLOEXEC), ALLOWED),
        ("openat", (0, 0, os.O_WRONLY), EACCES),
        ("openat", (0, 0, os.O_RDWR), EACCES),
        ("openat", (0, 0, os.O_CREAT), EACCES),
        ("openat", (0, 0, os.O_TRUNC), EACCES),
    ],
)
def test_a_call_is_judged_by_its_name_and_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert verdict(machine, number_of(name, machine), *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_every_forbidden_call_is_refused_and_its_number_is_its_own(machine: str) -> None:
    column = MACHINES.index(machine)
    numbers = [numbers[column] for numbers in seccomp.SYSCALLS.values() if numbers[column] >= 0]
    assert len(numbers) == len(set(numbers))
    for name, numbers_ in seccomp.FORBIDDEN.items():
        if numbers_[column] >= 0:
            assert verdict(machine, numbers_[column]) == EPERM, name


@pytest.mark.parametrize("machine", MACHINES)
def test_what_a_parser_needs_is_allowed(machine: str) -> None:
    """read, write, mmap, munmap, brk, futex, exit_group, lseek, recvfrom, sendto."""
    needed = {
        "x86_64": (0, 1, 9, 11, 12, 202, 231, 8, 45, 44),
        "aarch64": (63, 64, 222, 215, 214, 98, 94, 62, 207, 206),
    }
    assert {verdict(machine, number) for number in needed[machine]} == {ALLOWED}


@pytest.mark.parametrize("machine", MACHINES)
def test_whatever_is_not_named_is_allowed(machine: str) -> None:
    named = {numbers[MACHINES.index(machine)] for numbers in seccomp.SYSCALLS.values()}
    others = [number for number in (*range(700), 2**30 - 1) if number not in named]
    assert {verdict(machine, number) for number in others} == {ALLOWED}


def test_calls_under_the_numbers_of_another_architecture_kill() -> None:
    assert verdict("x86_64", 41, arch=0x40000003) == KILLED
    assert verdict("aarch64", 198, arch=0x40000028) == KILLED
    assert verdict("x86_64", 0x40000000 | 41) == KILLED


def test_missing_layers_are_told_with_their_reasons() -> None:
    assert missing({"limits": "active", "landlock": "missing: Function not implemented"}) == [
        "landlock (Function not implemented)"
    ]


@pytest.mark.parametrize(
    ("what", "limit", "code"),
    [
        ("time", 60, "timeout"),
        ("cpu", 30, "timeout"),
        ("memory", 1 << 30, "out_of_memory"),
        ("output", 1 << 28, "too_large_unpacked"),
    ],
)
def test_every_limit_has_its_error(what: str, limit: int, code: str) -> None:
    error = limit_exceeded(what, JailLimits())  # type: ignore[arg-type]  # a parameter is no literal
    assert error.problem_code == code
    assert error.details == {"what": what, "limit": limit}
    assert error.remedy
