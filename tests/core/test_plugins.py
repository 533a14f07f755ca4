"""Plugins: which may load, why one is off, and what the others keep when one misbehaves."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Mapping
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from sourcebook import hookimpl, hookspecs
from sourcebook.documents import Passage
from sourcebook.errors import Forbidden, PluginError, Unauthenticated
from sourcebook.interfaces import LLMRequest, Message
from sourcebook.owners import Principal
from sourcebook.plugins import PluginInfo, Plugins
from sourcebook.settings import PluginSettings

from .support import Blocks, Lines, Script

NEVER = threading.Event()
APP: Any = SimpleNamespace()
ME = Principal("own_1", "me", frozenset({"read"}))


def plugin(name: str, **hooks: Any) -> SimpleNamespace:
    """A plugin object; every function in it becomes a hook implementation."""
    marked = {key: hookimpl(value) if callable(value) else value for key, value in hooks.items()}
    return SimpleNamespace(__name__=name, **marked)


def loaded(*objects: object, deadline: float = 2.0) -> Plugins:
    plugins = Plugins(PluginSettings(), deadline)
    for one in objects:
        plugins.add(one)
    return plugins


def installed(folder: Path, name: str, source: str) -> EntryPoint:
    """A distribution `name` in `folder` with one module, as pip leaves it."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[sourcebook]\n{module} = {module}\n")
    found: Distribution = next(d for d in distributions(path=[str(folder)]) if d.name == name)
    return next(iter(found.entry_points))


def discovered(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str, *enabled: str) -> PluginInfo:
    point = installed(folder, name, source)
    monkeypatch.syspath_prepend(str(folder))
    plugins = Plugins(PluginSettings(enabled=enabled))
    plugins.load([point])
    return plugins.infos[name]


GOOD = """
from sourcebook import ComponentSettings, Parser, hookimpl
class P(Parser):
    name, media_types, extensions = "mine", ("text/mine",), (".mine",)
    def parse(self, file, out): ...
@hookimpl
def register_parsers(): return [P]
"""


# Discovery.


def test_what_is_not_enabled_is_shown_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = discovered(tmp_path, monkeypatch, "acme-off", "raise SystemExit('imported')")
    assert (info.state, info.reason, info.version) == ("off", "not in [plugins] enabled", "1.2")
    assert "acme_off" not in sys.modules


@pytest.mark.parametrize("spelling", ["acme-good", "Acme_Good", "acme.good"])
def test_a_distribution_is_enabled_by_its_name_however_it_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    info = discovered(tmp_path, monkeypatch, "acme-good", GOOD, spelling)
    assert (info.state, info.components, info.hooks) == ("active", {"parsers": ["mine"]}, ["register_parsers"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("API_VERSION = 2", "It is written for plugin API 2; this Sourcebook has 1."),
        (
            GOOD.replace("register_parsers", "register_parser"),
            "no hook 'register_parser'; did you mean 'register_parsers'?",
        ),
        (GOOD.replace("@hookimpl", ""), "register_parsers lacks its @hookimpl."),
        (GOOD.replace("register_parsers()", "register_parsers(cli)"), "can not be found in the hookspec"),
        (GOOD.replace("[P]", "[str]"), "is not a Parser"),
        (GOOD.replace("[P]", "None"), "TypeError"),
        (GOOD.replace('"mine"', '"Mine!"'), "needs a `name`"),
        (GOOD.replace("def parse", "def pars"), "The parser P lacks: parse."),
        (GOOD.replace('(".mine",)', '".mine"'), "`extensions` of P is '.mine'; it must be a tuple of strings."),
        (GOOD.replace('(".mine",)', '("mine",)'), "must begin with a dot"),
        (GOOD.replace('(".mine",)', '(".MINE",)'), "must be lower case"),
        (GOOD.replace('".mine",)', '".mine",); isolation = "thread"'), "there are 'jail' and 'worker'"),
        (GOOD.replace('".mine",)', '".mine",); Settings = dict'), "is not derived from ComponentSettings"),
        (GOOD.replace("return [P]", "raise RuntimeError('half done')"), "RuntimeError: half done"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_off_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    name = f"acme-bad-{abs(hash(source))}"
    info = discovered(tmp_path, monkeypatch, name, source, name)
    assert info.state == "failed"
    assert reason in info.reason
    assert info.components == {}


def test_a_bad_plugin_does_not_keep_the_others_from_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [installed(tmp_path, "acme-a", "1 / 0"), installed(tmp_path, "acme-b", GOOD)]
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = Plugins(PluginSettings(enabled=("acme-a", "acme-b")))
    plugins.load(points)
    assert [(i.name, i.state) for i in plugins.infos.values()] == [("acme-a", "failed"), ("acme-b", "active")]


def test_a_name_that_is_enabled_and_not_installed_is_shown_as_failed() -> None:
    plugins = Plugins(PluginSettings(enabled=("acme-mistyped",)))
    plugins.load([])
    info = plugins.infos["acme-mistyped"]
    assert (info.state, info.reason) == ("failed", "it is enabled, and no such distribution with a plugin is installed")


def test_what_a_plugin_is_asked_for_before_a_built_in_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = installed(tmp_path, "acme-pdf", GOOD.replace('".mine"', '".pdf"').replace("text/mine", "application/pdf"))
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = Plugins(PluginSettings(enabled=("acme-pdf",)))
    built_in = (p for p in entry_points(group="sourcebook") if p.dist and p.dist.name == "sourcebook")
    plugins.load([point, *built_in])
    assert plugins.infos["acme-pdf"].overrides == ["parser mine before pdf: .pdf, application/pdf"]
    assert plugins.infos["acme-pdf"].import_ms > 0
    assert plugins.infos["pdf"].overrides == []


def test_no_entry_points_are_no_plugins() -> None:
    plugins = Plugins(PluginSettings())
    plugins.load([])
    assert plugins.infos == {}


def test_a_built_in_can_be_switched_off() -> None:
    plugins = Plugins(PluginSettings(disabled=("docx",)))
    plugins.load()
    assert plugins.infos["docx"].state == "off"
    assert plugins.infos["docx"].reason == "disabled in [plugins]"
    assert "docx" not in plugins.classes["parsers"]
    assert plugins.infos["text"].state == "active"


def test_a_name_that_is_taken_is_refused_and_the_first_one_stays() -> None:
    plugins = loaded(plugin("first", register_parsers=lambda: [Lines]))
    other = type("Other", (Lines,), {})
    with pytest.raises(
        PluginError, match=r"registers the parser 'lines', which tests\.core\.support of first has already"
    ):
        plugins.add(plugin("second", register_parsers=lambda: [other], register_chunkers=lambda: [Blocks]))
    assert plugins.classes["parsers"] == {"lines": Lines}
    assert plugins.classes["chunkers"] == {}


def test_a_missing_component_is_told_with_what_there_is_and_what_is_off() -> None:
    plugins = loaded(plugin("first", register_parsers=lambda: [Lines]))
    plugins.infos["acme"] = PluginInfo("acme", "acme", "1", "off", "not in [plugins] enabled")
    with pytest.raises(
        PluginError, match=r"has the parser 'pdf'; there are: lines\..*acme is off: not in \[plugins\] enabled"
    ):
        plugins.component("parsers", "pdf")


@pytest.mark.parametrize("hook", ["refine_query", "authorize", "register_parsers"])
def test_a_wrapper_is_refused(hook: str) -> None:
    def wrapper() -> Any:
        yield

    with pytest.raises(PluginError, match=f"{hook} cannot be a wrapper"):
        loaded(SimpleNamespace(__name__="w", **{hook: hookimpl(wrapper=True)(wrapper)}))


def test_a_hook_may_have_another_name_in_its_module() -> None:
    mine = hookimpl(specname="register_llms")(lambda: [Script])
    assert loaded(SimpleNamespace(__name__="p", mine=mine)).classes["llms"] == {"script": Script}


# The folds.


async def add_one(queries: tuple[str, ...]) -> tuple[str, ...]:
    return (*queries, f"{len(queries)}")


async def raising(queries: tuple[str, ...]) -> tuple[str, ...]:
    raise RuntimeError("bug")


async def slow(queries: tuple[str, ...]) -> tuple[str, ...]:
    await asyncio.sleep(60)
    return ()


async def blocking(queries: tuple[str, ...]) -> tuple[str, ...]:
    time.sleep(0.05)  # what holds the event loop is what this is about
    return ("blocked",)


def hanging(queries: tuple[str, ...]) -> tuple[str, ...]:
    NEVER.wait(60)  # in a thread of its own: the event loop goes on
    return ()


def leaving(queries: tuple[str, ...]) -> tuple[str, ...]:
    raise SystemExit(3)


async def junk(queries: tuple[str, ...]) -> Any:
    return "not a tuple"


async def junk_inside(queries: tuple[str, ...]) -> Any:
    return (*queries, 7)


def test_each_gets_what_the_one_before_made_of_it() -> None:
    plugins = loaded(*(plugin(f"p{n}", refine_query=add_one) for n in range(3)))
    assert asyncio.run(plugins.refine_query("q", ("q",))) == ("q", "1", "2", "3")


def test_none_and_nothing_leave_the_queries() -> None:
    async def none(queries: tuple[str, ...]) -> None:
        return None

    async def nothing(queries: tuple[str, ...]) -> tuple[str, ...]:
        return ()

    assert asyncio.run(loaded(plugin("p", refine_query=none)).refine_query("q", ("q",))) == ("q",)
    assert asyncio.run(loaded(plugin("p", refine_query=nothing)).refine_query("q", ("q",))) == ("q",)


@pytest.mark.parametrize("bad", [raising, slow, blocking, hanging, leaving, junk, junk_inside])
def test_one_that_misbehaves_is_skipped_and_the_others_results_are_kept(bad: Any) -> None:
    plugins = loaded(
        plugin("a", refine_query=add_one),
        plugin("b", refine_query=bad),
        plugin("c", refine_query=add_one),
        deadline=0.02,
    )
    assert asyncio.run(plugins.refine_query("q", ("q",))) == ("q", "1", "2")
    assert {i.name: i.skipped for i in plugins.shown()} == {"a": {}, "b": {"refine_query": 1}, "c": {}}


def test_a_plain_function_is_a_hook_too_and_has_a_thread() -> None:
    threads = []

    def plain(queries: tuple[str, ...]) -> tuple[str, ...]:
        threads.append(threading.current_thread())
        return (*queries, "plain")

    assert asyncio.run(loaded(plugin("p", refine_query=plain)).refine_query("q", ("q",))) == ("q", "plain")
    assert threads[0] is not threading.main_thread()


def test_a_cancel_is_no_failure_of_a_plugin() -> None:
    plugins = loaded(plugin("a", refine_query=slow), deadline=60)

    async def main() -> None:
        task = asyncio.create_task(plugins.refine_query("q", ("q",)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert plugins.calls.skipped == {}


def test_after_three_failures_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    clock = [1000.0]
    monkeypatch.setattr("sourcebook.hook_calls.time.monotonic", lambda: clock[0])

    async def failing(queries: tuple[str, ...]) -> None:
        calls.append(1)
        raise RuntimeError

    plugins = loaded(plugin("a", refine_query=failing))
    for _ in range(5):
        asyncio.run(plugins.refine_query("q", ("q",)))
    assert len(calls) == 3
    clock[0] += 61
    for _ in range(5):
        asyncio.run(plugins.refine_query("q", ("q",)))
    assert len(calls) == 6


def test_a_success_between_failures_starts_the_count_anew() -> None:
    calls = []

    async def sometimes(queries: tuple[str, ...]) -> None:
        calls.append(1)
        if len(calls) % 3:
            raise RuntimeError

    plugins = loaded(plugin("a", refine_query=sometimes))
    for _ in range(9):
        asyncio.run(plugins.refine_query("q", ("q",)))
    assert len(calls) == 9


def test_passages_and_prompts_are_folded_and_checked_too() -> None:
    passage = Passage("p", "s", "n", "d", "g", 0, 0, 1, "x")

    async def none_left(passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        return passages[:0]

    async def strings(passages: tuple[Passage, ...]) -> Any:
        return ("x",)

    async def shout(request: LLMRequest) -> LLMRequest:
        return LLMRequest((Message("user", "LOUD"),), request.question)

    plugins = loaded(plugin("a", refine_passages=none_left, refine_prompt=shout))
    assert asyncio.run(plugins.refine_passages("q", (passage,))) == ()
    assert asyncio.run(plugins.refine_prompt("q", LLMRequest((), "q"))).messages[0].content == "LOUD"
    assert asyncio.run(loaded(plugin("b", refine_passages=strings)).refine_passages("q", (passage,))) == (passage,)


# Security hooks fail closed.


def test_the_first_principal_wins() -> None:
    async def nobody(headers: Mapping[str, str]) -> None:
        return None

    async def somebody(headers: Mapping[str, str]) -> Principal | None:
        return ME if headers.get("x-me") else None

    plugins = loaded(plugin("a", authenticate=somebody), plugin("b", authenticate=nobody))
    assert asyncio.run(plugins.authenticate({"x-me": "1"}, APP)) == ME
    assert asyncio.run(plugins.authenticate({}, APP)) is None


@pytest.mark.parametrize("answer", ["raise", "hang", "junk"])
def test_authenticate_fails_closed(answer: str) -> None:
    async def bad(headers: Mapping[str, str]) -> Any:
        if answer == "raise":
            raise RuntimeError
        if answer == "hang":
            await asyncio.sleep(60)
        return "admin"

    with pytest.raises(Unauthenticated, match="The plugin a could not tell"):
        asyncio.run(loaded(plugin("a", authenticate=bad), deadline=0.02).authenticate({}, APP))


@pytest.mark.parametrize("answer", [False, 0, "yes", RuntimeError(), 60.0])
def test_authorize_fails_closed(answer: Any) -> None:
    async def bad(principal: Principal, action: str, notebook: str | None) -> Any:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return answer

    with pytest.raises(Forbidden, match="The plugin a does not allow this"):
        asyncio.run(loaded(plugin("a", authorize=bad), deadline=0.02).authorize(ME, "read", "nb_1"))


def test_authorize_may_only_deny() -> None:
    async def yes(principal: Principal) -> bool:
        return True

    async def silent(action: str) -> None:
        return None

    async def no(notebook: str | None) -> bool | None:
        return False if notebook == "nb_closed" else None

    plugins = loaded(plugin("a", authorize=yes), plugin("b", authorize=silent), plugin("c", authorize=no))
    asyncio.run(plugins.authorize(ME, "read", "nb_open"))
    with pytest.raises(Forbidden):
        asyncio.run(plugins.authorize(ME, "read", "nb_closed"))


# Life.


def test_a_raising_startup_stops_the_start_and_a_raising_shutdown_stops_nothing() -> None:
    done = []

    async def bad(app: Any) -> None:
        raise RuntimeError("no licence")

    async def good(app: Any) -> None:
        done.append(app)

    plugins = loaded(plugin("good", startup=good, shutdown=good), plugin("bad", startup=bad, shutdown=bad))
    app: Any = object()
    with pytest.raises(PluginError, match="The plugin bad failed at startup: no licence"):
        asyncio.run(plugins.startup(app))
    asyncio.run(plugins.shutdown(app))
    assert done == [app]


def test_a_plugin_whose_routes_raise_has_failed_and_the_others_have_theirs() -> None:
    def bad(host: Any) -> None:
        raise RuntimeError("boom")

    plugins = loaded(
        plugin("good", register_routes=lambda host: host.append("route"), register_commands=lambda cli: cli.append(1)),
        plugin("bad", register_routes=bad),
    )
    hosts: dict[str, list[str]] = {"good": [], "bad": []}
    plugins.routes(hosts.__getitem__)
    commands: list[int] = []
    plugins.commands(commands, lambda plugin: None)
    assert (hosts["good"], commands) == (["route"], [1])
    assert plugins.infos["bad"].state == "failed"
    assert plugins.infos["bad"].reason == "register_routes: RuntimeError: boom"


def test_a_shutdown_that_hangs_does_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sourcebook.plugins._SHUTDOWN", 0.01)
    done = []

    async def hang(app: Any) -> None:
        await asyncio.sleep(60)

    async def good(app: Any) -> None:
        done.append(app)

    app: Any = object()
    asyncio.run(loaded(plugin("good", shutdown=good), plugin("bad", shutdown=hang)).shutdown(app))
    assert done == [app]


# How hooks change.


class Later:
    """The hooks of a later version: one has gained an argument, one is on its way out, and so is an argument."""

    spec: Any = pluggy.HookspecMarker("sourcebook")

    @staticmethod
    @spec  # type: ignore[untyped-decorator]
    def refine_query(question: str, language: str, queries: tuple[str, ...]) -> None:
        """With a new argument."""

    @staticmethod
    @spec(warn_on_impl=DeprecationWarning("rewrite_query is deprecated; use refine_query. It goes in API 2."))  # type: ignore[untyped-decorator]
    def rewrite_query(question: str) -> None:
        """On its way out."""

    @staticmethod
    @spec(warn_on_impl_args={"mood": DeprecationWarning("`mood` is deprecated and always empty.")})  # type: ignore[untyped-decorator]
    def refine_prompt(mood: str, request: LLMRequest) -> None:
        """With an argument on its way out."""


for _kind in ("parsers", "chunkers", "embedders", "retrievers", "rerankers", "llms", "fetchers", "blob_stores"):
    setattr(Later, f"register_{_kind}", staticmethod(getattr(hookspecs, f"register_{_kind}")))


def test_an_argument_that_is_added_breaks_no_plugin() -> None:
    plugins = Plugins(PluginSettings(), specs=Later)
    plugins.add(plugin("old", refine_query=add_one))
    folded = plugins._fold("refine_query", ("q",), lambda got: True, question="q", language="en")
    assert asyncio.run(folded) == ("q", "1")


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"rewrite_query": lambda question: None}, "rewrite_query is deprecated; use refine_query. It goes in API 2."),
        ({"refine_prompt": lambda mood, request: None}, "`mood` is deprecated and always empty."),
    ],
)
def test_what_is_deprecated_warns_with_the_plugins_name_and_works(
    hooks: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = Plugins(PluginSettings(), specs=Later)
    info = plugins.add(plugin("acme-old", **hooks))
    assert (info.state, info.warnings) == ("active", [message])
    assert f"plugin acme-old: {message}" in caplog.text
    assert plugins.add(plugin("acme-new", refine_query=add_one)).warnings == []


# The trace.


def test_every_call_is_printed_with_its_time_and_no_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCEBOOK_TRACE_PLUGINS", "1")

    async def who(headers: Mapping[str, str]) -> Principal:
        return ME

    plugins = loaded(
        plugin("good", refine_query=add_one, authenticate=who, register_parsers=lambda: [Lines]),
        plugin("bad", refine_query=raising),
    )
    asyncio.run(plugins.refine_query("secret question", ("secret question",)))
    asyncio.run(plugins.authenticate({"authorization": "secret key"}, APP))
    said = capsys.readouterr().err
    lines = [re.sub(r" +[\d.]+ ms ", " N ms", line) for line in said.splitlines()]
    assert [" ".join(line.split()) for line in lines] == [
        "hook register_parsers good N ms -> list of 1",
        "hook refine_query bad N ms raised RuntimeError",
        "hook refine_query good N ms -> tuple of 2",
        "hook authenticate good N ms -> Principal",
    ]
    assert "secret" not in said


def test_nothing_is_printed_without_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(loaded(plugin("a", refine_query=add_one)).refine_query("q", ("q",)))
    assert capsys.readouterr().err == ""


def test_a_plugin_without_what_it_needs_is_off_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = """NEEDS = {"json": "", "acme_absent": "pip install 'acme[all]'"}\n"""
    info = discovered(tmp_path, monkeypatch, "acme-needing", GOOD + needs, "acme-needing")
    said = "it needs the package 'acme_absent', which is not installed: pip install 'acme[all]'"
    assert (info.state, info.reason, info.components) == ("off", said, {})
