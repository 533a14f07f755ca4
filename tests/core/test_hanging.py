"""A plugin that hangs is given up after a deadline, and the reason names it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sourcebook.configuration import load
from sourcebook.errors import Forbidden, PluginError, Unauthenticated
from sourcebook.hanging import freed, within
from sourcebook.http import Http
from sourcebook.owners import Principal
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import Plugins
from sourcebook.settings import PluginSettings

from .support import Script
from .test_plugins import GOOD, installed, plugin

HANG = "import threading\nthreading.Event().wait()\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (HANG, "its import was not done within 1.5 s"),
        (GOOD.replace("[P]", "__import__('time').sleep(600)"), "register_parsers was not done within 1.5 s"),
    ],
)
def test_one_that_hangs_at_import_or_in_registering_has_failed_and_the_others_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    name = f"acme-hang-{len(source)}"
    points = [installed(tmp_path, name, source), installed(tmp_path, f"{name}-good", GOOD)]
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = Plugins(PluginSettings(enabled=(name, f"{name}-good"), import_deadline=1.5))
    plugins.load(points)
    assert (plugins.infos[name].state, plugins.infos[name].reason) == ("failed", reason)
    assert plugins.infos[f"{name}-good"].state == "active"


def test_what_is_raised_in_time_is_raised_as_it_is() -> None:
    def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        within(60, late, "late")
    assert within(60, threading.current_thread, "a name").daemon


async def _waits(app: Any) -> None:
    await asyncio.Event().wait()


def test_a_startup_that_hangs_stops_the_start_with_its_reason() -> None:
    plugins = Plugins(PluginSettings(open_deadline=0.1))
    info = plugins.add(plugin("bad", startup=_waits))
    said = "The plugin bad failed at startup: it was not done within 0.1 s"
    with pytest.raises(PluginError, match=said):
        asyncio.run(plugins.startup(object()))  # type: ignore[arg-type]
    assert (info.state, info.reason) == ("failed", said)


class Waiting(Script):
    """Its `open` waits for what never comes."""

    name = "waiting"

    async def open(self, context: Any) -> None:
        await asyncio.Event().wait()


def test_a_component_whose_open_hangs_stops_the_start_and_is_named(tmp_path: Path) -> None:
    configuration = load(None, overrides={"plugins": {"open_deadline": 0.1}})
    plugins = Plugins(configuration.settings.plugins)
    plugins.add(plugin("bad", register_llms=lambda: [Waiting]))

    async def main() -> None:
        pipelines = Pipelines(plugins, configuration, tmp_path, Http())
        await pipelines.component("llms", "waiting", Waiting)

    with pytest.raises(PluginError, match=r"llms\.waiting did not open: it was not done within 0\.1 s") as caught:
        asyncio.run(main())
    assert "open_deadline" in caught.value.remedy


# What holds the event loop itself. pytest-timeout would have the alarm: it is off for these, and each ends by itself.


def _held(seconds: float = 600.0) -> None:
    time.sleep(seconds)


async def _holds(**_: Any) -> Any:
    _held()


@pytest.mark.timeout(0)
def test_a_startup_that_holds_the_event_loop_stops_the_start_with_its_reason() -> None:
    plugins = Plugins(PluginSettings(open_deadline=0.1))
    info = plugins.add(plugin("bad", startup=lambda app: _holds()))
    said = "The plugin bad failed at startup: it was not done within 0.1 s"
    with pytest.raises(PluginError, match=said):
        asyncio.run(plugins.startup(object()))  # type: ignore[arg-type]
    assert (info.state, info.reason) == ("failed", said)


class Holding(Script):
    """Its `open` holds the event loop."""

    name = "holding"

    async def open(self, context: Any) -> None:
        _held()


@pytest.mark.timeout(0)
def test_a_component_whose_open_holds_the_event_loop_stops_the_start_and_is_named(tmp_path: Path) -> None:
    configuration = load(None, overrides={"plugins": {"open_deadline": 0.1}})
    plugins = Plugins(configuration.settings.plugins)
    plugins.add(plugin("bad", register_llms=lambda: [Holding]))

    async def main() -> None:
        pipelines = Pipelines(plugins, configuration, tmp_path, Http())
        await pipelines.component("llms", "holding", Holding)

    with pytest.raises(PluginError, match=r"llms\.holding did not open: it was not done within 0\.1 s"):
        asyncio.run(main())


@pytest.mark.timeout(0)
def test_a_shutdown_that_holds_the_event_loop_does_not_keep_the_others_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sourcebook.plugins._SHUTDOWN", 0.1)
    ended: list[str] = []

    async def good() -> None:
        ended.append("good")

    plugins = Plugins(PluginSettings())
    for one in (plugin("good", shutdown=good), plugin("bad", shutdown=lambda app: _holds())):
        plugins.add(one)
    asyncio.run(plugins.shutdown(object()))  # type: ignore[arg-type]
    assert ended == ["good"]
    assert "plugin bad failed at shutdown" in caplog.text


@pytest.mark.timeout(0)
def test_a_hook_that_holds_the_event_loop_is_skipped_and_all_else_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def holding(queries: tuple[str, ...]) -> None:
        await asyncio.sleep(0)
        with suppress(OSError):  # TimeoutError is one: the alarm rings again
            _held()
        _held()

    plugins = Plugins(PluginSettings(), 0.1)
    for one in (plugin("bad", refine_query=holding), plugin("good", refine_query=_more)):
        plugins.add(one)
    assert asyncio.run(plugins.refine_query("tides", ("tides",))) == ("tides", "more")
    assert plugins.calls.skipped == {("bad", "refine_query"): 1}
    assert "plugin bad: refine_query was skipped: TimeoutError('it held the event loop')" in caplog.text


async def _more(queries: tuple[str, ...]) -> tuple[str, ...]:
    return (*queries, "more")


@pytest.mark.timeout(0)
def test_security_hooks_that_hold_the_event_loop_deny() -> None:
    plugins = Plugins(PluginSettings(), 0.1)
    plugins.add(plugin("bad", authenticate=lambda headers: _holds(), authorize=_holding_no_arguments))
    with pytest.raises(Unauthenticated):
        asyncio.run(plugins.authenticate({}, object()))  # type: ignore[arg-type]
    with pytest.raises(Forbidden):
        asyncio.run(plugins.authorize(Principal("own_1", "me", frozenset()), "read", None))


async def _holding_no_arguments() -> None:
    _held()


@pytest.mark.timeout(0)
def test_the_alarm_rings_for_nobody_else() -> None:
    """One that only waits is not hit, nor is what holds the event loop meanwhile and was given no deadline."""

    async def waits() -> str:
        await asyncio.sleep(0.5)
        return "done"

    async def main() -> Any:
        async def another() -> None:
            _held(0.3)

        return await asyncio.gather(freed(waits(), 0.1), another())

    assert asyncio.run(main()) == ["done", None]


def test_what_is_awaited_step_by_step_is_cancelled_raises_and_returns_as_ever() -> None:
    seen: list[str] = []

    async def cancelled() -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def raising() -> None:
        await asyncio.sleep(0)
        raise KeyError("its own")

    async def main() -> None:
        task = asyncio.create_task(freed(cancelled(), 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(KeyError, match="its own"):
            await freed(raising(), 60)
        ready = asyncio.get_running_loop().create_future()
        ready.set_result(7)
        assert await freed(ready, 60) == 7

    asyncio.run(main())
    assert seen == ["cancelled"]
