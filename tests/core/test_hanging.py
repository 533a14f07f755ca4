"""A plugin that hangs is given up after a deadline, and the reason names it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from sourcebook.configuration import load
from sourcebook.errors import PluginError
from sourcebook.hanging import within
from sourcebook.http import Http
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
