"""What is under test and hangs fails its test, with the place where it hung: it never holds up the whole run.

On the main thread, where pytest runs tests, an alarm interrupts it: Python code, a sleep, a lock, a system call, a
regular expression. In other threads, and where there are no alarms, it is left behind in a thread of its own. Neither
ends C code that does not come back to Python; pytest's `faulthandler_timeout` shows at least where that is.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds that one call of a component may take where nobody says otherwise."""

_AGAIN = 1.0  # seconds, for code that catches the first alarm and goes on
_GRACE = 1.0  # seconds that asyncio is given to end what awaits, before the alarm does it


class Overdue(BaseException):
    """Something took longer than its deadline. No `Exception`, which a parser may take for a fault of its file."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(
            f"{what} was not done within {seconds:g} s. "
            "Where it needs longer: `deadline` of the suite, or --deadline of `sourcebook plugins check`."
        )


def timely(what: str, seconds: float, function: Callable[[], T], grace: float = 0.0) -> T:
    """What `function` returns or raises; `Overdue`, which names `what`, after `seconds` (and `grace`)."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return _aside(what, seconds, function, grace)
    with _alarm(what, seconds, grace):
        return function()


def run_timely(what: str, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, with a deadline for what awaits and for what holds the event loop."""

    async def bounded() -> T:
        return await awaited_timely(what, seconds, work)

    return timely(what, seconds, lambda: asyncio.run(bounded()), _GRACE)


async def awaited_timely(what: str, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; `Overdue` where it awaits for longer than `seconds`."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise Overdue(what, seconds) from None
        raise  # of its own


@contextmanager
def _alarm(what: str, seconds: float, grace: float) -> Iterator[None]:
    began, rung = time.monotonic(), False

    def ring(_number: int, _frame: FrameType | None) -> None:
        nonlocal rung
        rung = True
        raise Overdue(what, seconds)

    left, every = signal.getitimer(signal.ITIMER_REAL)
    if 0 < left <= seconds + grace:  # somebody's alarm, such as pytest-timeout's, comes first
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds + grace, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), every)
    if rung:  # it was caught in there
        raise Overdue(what, seconds)


def _aside(what: str, seconds: float, function: Callable[[], T], grace: float) -> T:
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=what, daemon=True).start()
    try:
        return future.result(seconds + grace)
    except TimeoutError:
        if future.done():  # its own
            raise
        raise Overdue(what, seconds) from None


class Timely:
    """The base of every suite."""

    deadline: ClassVar[float] = DEADLINE
    """Seconds that one call of a plain method may take, and what one test does with an async component."""

    def _timely(self, what: str, function: Callable[[], T]) -> T:
        return timely(what, self.deadline, function)

    def _run(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        return run_timely(what, self.deadline, work)
