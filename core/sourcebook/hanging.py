"""Ends what a plugin does not end: an import, a hook or an `open` that hangs has a deadline, and its reason is told."""

from __future__ import annotations

import contextvars
import signal
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from sourcebook.errors import PluginError

T = TypeVar("T")
HELD = "it held the event loop"
_AGAIN = 1.0  # seconds, for code that takes the first alarm for a failure of its own and goes on


def within(seconds: float, function: Callable[[], T], what: str) -> T:
    """What `function` returns or raises; `PluginError` after `seconds`.

    It runs in a thread of its own, since nothing ends an import: the thread is left behind, and keeps no process alive.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # also SystemExit: it would end this thread alone, and nobody would know
            future.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=what, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # its own
            raise
        raise overrun(what, seconds, "import_deadline") from None


async def freed(work: Awaitable[T], seconds: float) -> T:
    """The result of `work`, in which `TimeoutError` is raised where it holds the event loop longer than `seconds`.

    There asyncio has no say. A signal does it, so it works in the main thread alone, where a server runs; elsewhere
    nothing is done. It is armed only while `work` itself runs, and never hits what runs between two of its steps.
    """
    result: T = await _Steps(work, seconds)
    return result


class _Steps:
    """Awaits something step by step, each under an alarm."""

    def __init__(self, work: Awaitable[Any], seconds: float) -> None:
        self._work = work
        self._seconds = seconds

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = _awaited(self._work).__await__()
        step = partial(steps.send, None)
        while True:
            try:
                with _alarm(self._seconds):
                    waits_for = step()
            except StopIteration as done:
                return done.value
            try:
                step = partial(steps.send, (yield waits_for))
            except BaseException as error:  # a cancellation, for one, which is for `work` to see
                step = partial(steps.throw, error)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(HELD)

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def overrun(what: str, seconds: float, setting: str) -> PluginError:
    """The error for something that was not done in time."""
    return PluginError(
        f"{what} was not done within {seconds:g} s",
        remedy=f"See what it waits for, or give it longer with [plugins] {setting}.",
    )
