"""What the benchmarks share: a line about the machine, medians, tables, the processes below one, and made-up text."""

from __future__ import annotations

import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """Cores, memory, Python, date and load: a wall time says little without the last."""
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}, "
        f"{datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.1f}"
    )


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of them lie: the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their heads, the first column to the left."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print("  ".join(cells).rstrip())


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it. `cpu`: seconds, of its dead children too; `resident`, `private`: bytes."""

    pid: int
    command: str
    cpu: float
    resident: int
    private: int


def processes_below(pid: int) -> Iterator[Process]:
    """`pid` and everything that it started and that still lives. Linux only."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting.extend(parents.get(one, ()))
        if (found := _process(one)) is not None:
            yield found


def cpu_below(pid: int) -> float:
    """Seconds of processor time, of `pid` and all below it."""
    return sum(process.cpu for process in processes_below(pid))


def until_ended(pids: Iterable[int], seconds: float = 20.0) -> None:
    """Wait until these processes are gone: an index process flushes after its last client has left."""
    deadline = time.monotonic() + seconds
    while any(_stat(pid)[:1] not in ([], ["Z"]) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


@contextmanager
def workspace(name: str) -> Iterator[Path]:
    """A temporary folder, removed when every process that was started meanwhile has ended."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
        yield Path(folder)
        until_ended([p.pid for p in processes_below(os.getpid()) if p.pid != os.getpid()])


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _process(pid: int) -> Process | None:
    fields = _stat(pid)
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # it ended meanwhile
        return None
    if not fields:
        return None
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in rollup)}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Process(pid, command, sum(map(int, fields[11:15])) / _TICK, sizes["Rss"], private)


class Words:
    """Text of made-up words whose frequencies fall off as in a language (Zipf's law). The same seed, the same text."""

    def __init__(self, seed: int = 1, size: int = 8000) -> None:
        self._random = random.Random(seed)
        parts = ["ba", "den", "fi", "gor", "hal", "ki", "lo", "mar", "ne", "pil", "qua", "ris", "so", "tem", "ul"]
        self._words = ["".join(self._random.choices(parts, k=self._random.randint(1, 4))) for _ in range(size)]
        self._weights = list(accumulate(1 / rank for rank in range(1, size + 1)))

    def some(self, count: int) -> list[str]:
        """So many words."""
        return self._random.choices(self._words, cum_weights=self._weights, k=count)

    def paragraph(self, count: int = 120) -> str:
        """Sentences of a dozen words."""
        words = self.some(count)
        sentences = [" ".join(words[i : i + 12]).capitalize() + "." for i in range(0, count, 12)]
        return " ".join(sentences)
