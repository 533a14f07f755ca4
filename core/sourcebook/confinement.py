"""Takes rights away from the current process, for good: what a parser that was taken over can still do.

Every layer is best effort and says whether it is active. All of them work without privilege.

    limits        memory, processor time, open files; no file grows, no core is dumped (setrlimit)
    lifeline      the process dies with its parent, and nobody else may trace it (prctl)
    no_new_privs  no setuid program gives rights back (prctl)
    landlock      files: nothing but reading below named folders; no TCP; no signals to others (Linux 5.13)
    seccomp       system calls: no network, no new process, no change to any file (x86_64, aarch64)

Sources: setrlimit(2), prctl(2), and those of `landlock` and `seccomp`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sourcebook import kernel, landlock, seccomp
from sourcebook.errors import ConfigError, LimitExceeded
from sourcebook.kernel import Missing

LAYERS = ("limits", "lifeline", "no_new_privs", "landlock", "seccomp")
ACTIVE = "active"
HEADROOM = 32 * 1024 * 1024
"""Bytes of address space beyond the memory limit, which `make_room` opens to report that the limit was reached."""

Readable = Iterable[Path] | int
"""Folders and files that may still be read, or an open file of `landlock.rules`, which is closed."""


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


def confine(
    limits: JailLimits,
    readable: Readable,
    parent: int,
    base: int,
    layers: Iterable[str] = LAYERS,
    *,
    network: bool = False,
) -> dict[str, str]:
    """Confine the calling thread and its children; returns the state of every layer.

    `readable`: what may still be read. `parent`: the process to die with. `base`: the address space in bytes that is
    in use already and does not count. `layers` names those to put on; `network` leaves the network open.
    """
    chosen = set(layers)
    steps: dict[str, Callable[[], None]] = {
        "limits": lambda: _limit(limits, base),
        "lifeline": lambda: _die_with(parent),
        "no_new_privs": lambda: kernel.prctl(kernel.NO_NEW_PRIVS, 1),
        "landlock": lambda: _restrict_files(readable, network=network),
        "seccomp": lambda: seccomp.install(network=network),  # last: it forbids what the others need
    }
    states = {name: _apply(step) if name in chosen else "missing: switched off" for name, step in steps.items()}
    if states["seccomp"] != ACTIVE and "limits" in chosen:  # costs threads too, where nothing else stops processes
        _apply(lambda: _lower(resource.RLIMIT_NPROC, 0, 0))
    return states


def rules(readable: Sequence[Path], layers: Iterable[str] = LAYERS) -> Readable:
    """The same for many processes to keep, made once where that can be. It must not get to what they are to read."""
    if "landlock" in layers:
        with contextlib.suppress(Missing, OSError):  # `confine` tells why
            return landlock.rules(readable)
    return readable


def prepare() -> None:
    """Make what `confine` needs and children can share. Takes no right away."""
    kernel.prepare()
    with contextlib.suppress(Missing):
        seccomp.prepare()


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
    return _apply(lambda: kernel.prctl(kernel.CHILD_SUBREAPER, 1))


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


def _die_with(parent: int) -> None:
    kernel.prctl(kernel.PDEATHSIG, signal.SIGKILL)
    kernel.prctl(kernel.DUMPABLE, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _restrict_files(readable: Readable, *, network: bool) -> None:
    made = readable if isinstance(readable, int) else landlock.rules(readable, network=network)
    try:
        landlock.keep(made)
    finally:
        os.close(made)  # whoever has it could add to what others may read
