"""Calls hook implementations one by one: each under a deadline, and none at the cost of the others.

Pluggy itself calls all at once, loses the others' results when one raises, and cannot await.
`SOURCEBOOK_TRACE_PLUGINS=1` prints every call with its time on stderr; values are named by their type alone, since
headers hold keys and passages hold what is private.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sourcebook.hanging import freed
from sourcebook.metrics import Metrics
from sourcebook.steps import step

log = logging.getLogger(__name__)

TRACE = "SOURCEBOOK_TRACE_PLUGINS"
_REST_AFTER, _REST = 3, 60.0


class HookCalls:
    """The calls of one Sourcebook. `deadline` is in seconds; `skipped` counts failures by plugin and hook."""

    def __init__(self, deadline: float, *, trace: bool | None = None, metrics: Metrics | None = None) -> None:
        self.skipped: dict[tuple[str, str], int] = {}
        self.deadline = deadline
        self._metrics = metrics
        self._trace = os.environ.get(TRACE, "0") not in ("", "0") if trace is None else trace
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}

    def plain(self, impl: Any, hook: str, arguments: Mapping[str, Any]) -> Any:
        """Call a synchronous hook."""
        with self._timed(hook, impl.plugin_name) as done:
            return done(impl.function(*[arguments[name] for name in impl.argnames]))

    async def awaited(self, impl: Any, hook: str, arguments: Mapping[str, Any]) -> Any:
        """Call a hook without a deadline. A plain function runs on the event loop, as `startup` may want to."""
        with self._timed(hook, impl.plugin_name) as done:
            result = impl.function(*[arguments[name] for name in impl.argnames])
            return done(await result if inspect.isawaitable(result) else result)

    async def bounded(self, impl: Any, hook: str, arguments: Mapping[str, Any]) -> Any:
        """Call a hook under the deadline. A plain function has a thread, which is left behind when it overruns."""
        given = [arguments[name] for name in impl.argnames]
        with self._timed(hook, impl.plugin_name) as done:
            async with asyncio.timeout(self.deadline):
                if inspect.iscoroutinefunction(impl.function):
                    return done(await freed(impl.function(*given), self.deadline))
                result = await _in_thread(lambda: impl.function(*given), f"{hook} of {impl.plugin_name}")
                return done(await freed(result, self.deadline) if inspect.isawaitable(result) else result)

    async def fold(
        self,
        impls: Sequence[Any],
        hook: str,
        name: str,
        value: Any,
        valid: Callable[[Any], bool],
        arguments: Mapping[str, Any],
    ) -> Any:
        """Pass `value`, the argument `name`, through every implementation in turn.

        One that raises, overruns or returns junk is skipped; after three failures in a row it rests for 60 s.
        """
        for impl in impls:
            key = (impl.plugin_name, hook)
            failures, rests_until = self._failures.get(key, (0, 0.0))
            if time.monotonic() < rests_until:
                with step("hook", hook, plugin=impl.plugin_name, hook=hook, resting=True):
                    continue
            began = time.monotonic()
            try:
                got = await self.bounded(impl, hook, {**arguments, name: value})
                if time.monotonic() - began > self.deadline:
                    raise TimeoutError("held the event loop beyond its deadline")
                if got is not None and not valid(got):
                    raise TypeError(f"returned {got!r:.100}, which is not what the hook is for")
            except Exception as error:  # enrichment fails open, whatever a plugin does
                failures += 1
                rest = time.monotonic() + _REST if failures % _REST_AFTER == 0 else 0.0
                self._failures[key] = (failures, rest)
                self.skipped[key] = self.skipped.get(key, 0) + 1
                log.warning("plugin %s: %s was skipped: %r", impl.plugin_name, hook, error)
                continue
            self._failures.pop(key, None)
            value = value if got is None else got
        return value

    @contextmanager
    def _timed(self, hook: str, plugin: str) -> Iterator[Callable[[Any], Any]]:
        """Gives a function to pass the result through; counts the call, and prints it where it is traced."""
        said, failed = "raised", False

        def done(result: Any) -> Any:
            nonlocal said
            said = f"-> {_kind(result)}"
            return result

        began = time.perf_counter()
        try:
            with step("hook", hook, plugin=plugin, hook=hook):
                yield done
        except BaseException as error:
            said, failed = f"raised {type(error).__name__}", isinstance(error, Exception)
            raise
        finally:
            spent = (time.perf_counter() - began) * 1000
            if self._metrics is not None:
                self._metrics.hook(plugin, hook, spent / 1000, failed=failed)
            if self._trace:
                print(f"hook {hook:<22} {plugin:<30} {spent:9.2f} ms  {said}", file=sys.stderr, flush=True)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{type(value).__name__}{size}"


async def _in_thread(function: Callable[[], Any], name: str) -> Any:
    """Run it in a thread of its own, that nobody waits for at exit: a pool's threads would hold the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(error: BaseException | None, result: Any) -> None:
        if future.done():  # the deadline was faster
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def run() -> None:
        error, result = None, None
        try:
            result = function()
        except BaseException as raised:  # also SystemExit: it would end this thread alone, and nobody would know
            error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, error, result)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    return await future
