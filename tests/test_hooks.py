"""Every hook is documented under its exact signature, and does what its page says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import typer
from fastapi import APIRouter

import sourcebook
from sourcebook import LLMRequest, Message, Passage, hookimpl, hookspecs, interfaces
from sourcebook.configuration import load
from sourcebook.errors import Forbidden, PluginError, Unauthenticated
from sourcebook.hosts import CommandHost, RouteHost
from sourcebook.jail import Jail
from sourcebook.owners import Principal
from sourcebook.plugin_checks import INTERFACES
from sourcebook.plugins import Plugins
from sourcebook.settings import PluginSettings
from sourcebook.testing.parsers import MemoryFile
from sourcebook.writer import DocumentWriter

FOLDER = Path(__file__).parents[1] / "docs" / "plugins"
PAGES = {p.stem: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.md")}
TUTORIAL, HOOK_PAGE = PAGES["tutorial"], PAGES["hooks"]
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
QUESTION = "When does it open?"
APP: Any = object()
ROBOT = Principal("own_robot", "robot", frozenset({"read"}))
PASSAGES = tuple(Passage(f"p{i}", "s", "n", "d", "g", i, 0, 4, f"text {i}") for i in range(3))


def signatures() -> dict[str, str]:
    """Hook -> its signature as the source writes it."""
    tree = ast.parse(inspect.getsource(hookspecs))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
            returns = ast.unparse(cast(ast.expr, node.returns))
            found[node.name] = f"{prefix}{node.name}({ast.unparse(node.args)}) -> {returns}"
    return found


HOOKS = signatures()


def section(hook: str) -> str:
    """What the document says about one hook."""
    found = HOOK_PAGE.partition(f"\n### {HOOKS[hook]}\n")[2]
    assert found, f"docs/plugins/hooks.md has no heading '### {HOOKS[hook]}'"
    return re.split(r"\n##", found)[0]


def plugins(*hooks: Any, deadline: float = 2.0) -> Plugins:
    """Plugins with one plugin for each function given, registered in this order."""
    made = Plugins(PluginSettings(), deadline)
    for number, hook in enumerate(hooks):
        made.add(SimpleNamespace(__name__=f"tiny{number}", **{hook.__name__: hookimpl(hook)}))
    return made


def a_class_of(kind: str) -> type:
    """A complete class of this kind, whose methods do nothing."""
    base: type = INTERFACES[kind]
    methods = {name: lambda *_: None for name in getattr(base, "__abstractmethods__", ())}
    found_by = {"media_types": ("text/tiny",), "extensions": (".tiny",), "schemes": ("tiny",)}
    return type("Tiny", (base,), {**methods, **found_by, "name": "tiny"})


def registered(kind: str) -> None:
    """A class that `register_<kind>` returns can be named; what is no such class fails its plugin alone."""
    cls = a_class_of(kind)
    hook = lambda: [cls]  # noqa: E731 - its name is set in the next line
    hook.__name__ = f"register_{kind}"
    made = plugins(hook)
    assert made.component(kind, "tiny") is cls
    assert made.infos["tiny0"].state == "active"
    assert made.infos["tiny0"].components == {kind: ["tiny"]}
    hook = lambda: [int]  # noqa: E731
    hook.__name__ = f"register_{kind}"
    with pytest.raises(PluginError, match="which is not a"):
        made.add(SimpleNamespace(__name__="unfit", **{hook.__name__: hookimpl(hook)}))
    assert made.component(kind, "tiny") is cls


def test_the_hooks_are_those_that_pluggy_knows() -> None:
    assert set(HOOKS) == {n for n, v in vars(hookspecs).items() if hasattr(v, "sourcebook_spec")}


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_under_its_exact_signature(hook: str) -> None:
    assert len(section(hook).strip()) > 50
    assert CODE.search(section(hook)), f"{hook} has no example"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook: str) -> None:
    assert any(name == f"test_hook_{hook}" or name.startswith(f"test_hook_{hook}_") for name in globals())


def test_no_heading_names_a_hook_that_is_gone() -> None:
    headings = re.findall(r"^### (.+)$", HOOK_PAGE, re.MULTILINE)
    assert set(headings) == set(HOOKS.values())


@pytest.mark.parametrize("hook", HOOKS)
def test_every_example_of_a_hook_is_accepted(hook: str) -> None:
    module = ModuleType(f"example_{hook}")
    vars(module).update({name: getattr(sourcebook, name) for name in sourcebook.__all__ if name != "__version__"})
    exec(CODE.findall(section(hook))[0], vars(module))
    kind = hook.removeprefix("register_")
    if kind in INTERFACES:
        (named,) = re.findall(r"return \[(\w+)\]", section(hook))
        vars(module)[named] = a_class_of(kind)
    info = Plugins(PluginSettings()).add(module)
    assert info.state == "active"
    assert info.hooks == [hook]


# The document's parser.


@pytest.fixture
def subrip(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The first example, as the module that it is."""
    module = ModuleType("sourcebook_subrip")
    exec(CODE.findall(TUTORIAL)[0], vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_the_documents_parser_is_small_and_reads_a_file(subrip: ModuleType) -> None:
    assert len(CODE.findall(TUTORIAL)[0].splitlines()) < 30
    made = Plugins(PluginSettings())
    made.add(subrip)
    cls = made.component("parsers", "subrip")
    out = DocumentWriter()
    data = b"1\r\n00:00:01,000 --> 00:00:02,000\r\nFirst,\r\nand still.\r\n\r\n2\r\n01:00:00,250 --> x\r\nSecond\r\n"
    cls(cls.Settings()).parse(MemoryFile(data, "film.srt"), out)
    document = out.document()
    assert document.text == "First,\nand still.\n\nSecond"
    assert [locator.place.seconds for locator in document.locators] == [1.0, 3600.25]


def test_the_documents_parser_keeps_its_contract_as_the_document_tests_it(subrip: ModuleType) -> None:
    namespace: dict[str, Any] = {}
    exec(CODE.findall(TUTORIAL)[-1], namespace)
    suite = namespace["TestSubRip"]()
    tests = [name for name in dir(suite) if name.startswith("test_")]
    assert len(tests) > 5
    for name in tests:
        with suppress(pytest.skip.Exception):  # the jail cannot import a module that lies nowhere
            getattr(suite, name)()


def test_every_suite_that_the_document_names_exists() -> None:
    table = re.findall(r"^\| `(sourcebook\.testing\.\w+)` \| `(\w+)` \| (.*) \|$", PAGES["testing"], re.MULTILINE)
    assert len(table) == len(INTERFACES) + 1  # a retriever that stores has another
    for module, suite, given in table:
        cls = getattr(import_module(module), suite)
        for name in re.findall(r"`(\w+)", given):
            assert hasattr(cls, name), f"{suite}.{name}"


def test_every_interface_is_in_the_documents_table() -> None:
    for interface in (*INTERFACES.values(), interfaces.Index):
        row = re.search(rf"^\| `{interface.__name__}[(`].*$", "\n".join(PAGES.values()), re.MULTILINE)
        assert row, interface.__name__
        for method in getattr(interface, "__abstractmethods__", ()):
            inherited = interface is interfaces.Index and method == "search"
            assert inherited or method in row[0], f"{interface.__name__}.{method}"


# Each hook, through the facade.


def test_hook_register_parsers() -> None:
    registered("parsers")


def test_hook_register_chunkers() -> None:
    registered("chunkers")


def test_hook_register_embedders() -> None:
    registered("embedders")


def test_hook_register_retrievers() -> None:
    registered("retrievers")


def test_hook_register_rerankers() -> None:
    registered("rerankers")


def test_hook_register_llms() -> None:
    registered("llms")


def test_hook_register_fetchers() -> None:
    registered("fetchers")


def test_hook_register_blob_stores() -> None:
    registered("blob_stores")


def test_hook_register_routes(caplog: pytest.LogCaptureFixture) -> None:
    def register_routes(host: RouteHost) -> None:
        host.router.add_api_route(f"/of-{host.plugin}", lambda: "here")

    def failing(host: RouteHost) -> None:
        raise RuntimeError("no routes today")

    failing.__name__ = "register_routes"
    router = APIRouter()
    made = plugins(register_routes, failing)
    made.routes(lambda plugin: RouteHost(router, cast(Any, None), plugin))
    assert [getattr(route, "path", "") for route in router.routes] == ["/of-tiny0"]
    assert made.infos["tiny0"].state == "active"
    assert made.infos["tiny1"].state == "failed"
    assert "no routes today" in made.infos["tiny1"].reason


def test_hook_register_commands() -> None:
    from typer.testing import CliRunner

    def register_commands(cli: typer.Typer, host: CommandHost) -> None:
        @cli.command()
        def hello() -> None:
            typer.echo(f"Hello from {host.plugin}, on port {host.configuration.settings.server.port}")

    cli, configuration = typer.Typer(), load(environ={}, overrides={"server": {"port": 81}})
    plugins(register_commands).commands(cli, lambda plugin: CommandHost(configuration, plugin))
    assert CliRunner().invoke(cli).stdout == "Hello from tiny0, on port 81\n"


def test_hook_startup() -> None:
    seen: list[Any] = []

    async def startup(app: Any) -> None:
        seen.append(app)

    app = object()
    asyncio.run(plugins(startup).startup(cast(Any, app)))
    assert seen == [app]


def test_hook_startup_that_raises_stops_the_start() -> None:
    async def startup() -> None:
        raise RuntimeError("no disk")

    with pytest.raises(PluginError, match=r"tiny0 failed at startup: no disk"):
        asyncio.run(plugins(startup).startup(cast(Any, None)))


def test_hook_shutdown_runs_everywhere_though_one_raises(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def shutdown() -> None:
        seen.append("first registered, last called")

    async def failing() -> None:
        seen.append("failing")
        raise RuntimeError("too late")

    failing.__name__ = "shutdown"
    with caplog.at_level(logging.ERROR):
        asyncio.run(plugins(shutdown, failing).shutdown(cast(Any, None)))
    assert seen == ["failing", "first registered, last called"]
    assert "tiny1 failed at shutdown" in caplog.text


def test_hook_refine_query_is_folded_and_fails_open() -> None:
    async def refine_query(question: str, queries: tuple[str, ...]) -> tuple[str, ...]:
        return (*queries, question.upper())

    async def leaving(queries: tuple[str, ...]) -> None:
        assert queries == (QUESTION,)  # it was registered last, so it is called first

    async def junk(queries: tuple[str, ...]) -> Any:
        return "a text is no tuple of texts"

    async def late() -> Any:
        await asyncio.sleep(60)

    for hook in (leaving, junk, late):
        hook.__name__ = "refine_query"
    made = plugins(refine_query, junk, late, leaving, deadline=0.2)
    assert asyncio.run(made.refine_query(QUESTION, (QUESTION,))) == (QUESTION, QUESTION.upper())


def test_hook_refine_query_rests_after_three_failures() -> None:
    calls: list[str] = []

    async def refine_query(question: str) -> None:
        calls.append(question)
        raise RuntimeError("never works")

    made = plugins(refine_query)
    for number in range(5):
        asyncio.run(made.refine_query(str(number), ("q",)))
    assert calls == ["0", "1", "2"]


def test_hook_refine_passages() -> None:
    async def refine_passages(passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        return passages[::-1]

    async def cutting(passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        return passages[:2]

    cutting.__name__ = "refine_passages"
    refined = asyncio.run(plugins(refine_passages, cutting).refine_passages(QUESTION, PASSAGES))
    assert [p.id for p in refined] == ["p1", "p0"]


def test_hook_refine_prompt() -> None:
    async def refine_prompt(request: LLMRequest) -> LLMRequest:
        return replace(request, options={"temperature": 0.0})

    async def junk() -> Any:
        return {"messages": []}

    junk.__name__ = "refine_prompt"
    request = LLMRequest((Message("user", QUESTION),), QUESTION)
    refined = asyncio.run(plugins(refine_prompt, junk).refine_prompt(QUESTION, request))
    assert refined == replace(request, options={"temperature": 0.0})


def test_hook_authenticate_takes_the_first_who_is_named() -> None:
    async def authenticate(headers: Mapping[str, str], app: Any) -> Principal | None:
        assert app is APP
        return ROBOT if headers.get("x-robot") else None

    async def unasked() -> Principal:  # `app` came later: whoever does not name it goes on as before
        return replace(ROBOT, name="somebody else")

    unasked.__name__ = "authenticate"
    made = plugins(authenticate)
    assert asyncio.run(made.authenticate({"x-robot": "yes"}, APP)) == ROBOT
    assert asyncio.run(made.authenticate({}, APP)) is None
    assert asyncio.run(plugins(unasked, authenticate).authenticate({"x-robot": "yes"}, APP)) == ROBOT


@pytest.mark.parametrize("how", ["raises", "overruns", "returns junk"])
def test_hook_authenticate_fails_closed(how: str) -> None:
    async def authenticate() -> Any:
        if how == "raises":
            raise RuntimeError("directory is away")
        if how == "overruns":
            await asyncio.sleep(60)
        return "root"

    with pytest.raises(Unauthenticated, match="tiny0"):
        asyncio.run(plugins(authenticate, deadline=0.1).authenticate({}, APP))


@pytest.mark.parametrize(
    ("answer", "allowed"), [(None, True), (True, True), (False, False), (0, False), ("yes", False)]
)
def test_hook_authorize_may_only_take_away(answer: Any, allowed: bool) -> None:
    seen: list[Any] = []

    async def authorize(principal: Principal, action: str, notebook: str | None) -> Any:
        seen.append((principal, action, notebook))
        return answer

    ask = plugins(authorize).authorize(ROBOT, "write", "nb_1")
    if allowed:
        asyncio.run(ask)
    else:
        with pytest.raises(Forbidden, match="tiny0"):
            asyncio.run(ask)
    assert seen == [(ROBOT, "write", "nb_1")]


def test_hook_authorize_fails_closed() -> None:
    async def authorize() -> None:
        raise RuntimeError("policy is away")

    with pytest.raises(Forbidden):
        asyncio.run(plugins(authorize).authorize(ROBOT, "read", None))


# The pages.


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for name, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            assert (FOLDER / link).exists(), f"{name}.md: {link}"


def test_the_tutorials_commands_are_those_that_there_are() -> None:
    from typer.main import get_command

    from sourcebook_api.cli import cli

    known: Any = get_command(cli)
    used = re.findall(r"^\$ sourcebook (\w+)(?: (\w+))?", TUTORIAL, re.MULTILINE)
    assert len(used) >= 4
    for first, second in used:
        command = known.commands[first]
        assert second in getattr(command, "commands", {second: None})


def test_the_tutorials_plugin_reads_a_film_and_cites_its_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sourcebook_in_process: Any
) -> None:
    """Its blocks as files in a folder, loaded and used as the page says."""
    (tmp_path / "sourcebook_subrip.py").write_text(CODE.findall(TUTORIAL)[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sourcebook.wiring.Jail", partial(Jail, search_path=[tmp_path]))
    try:
        book = sourcebook_in_process(import_module("sourcebook_subrip"))
        film = book.ingest("film.srt", b"1\n00:01:02,500 --> 00:01:04,000\nThe harbour opens at dawn.\n")
        assert (film.state, film.document["parser"]) == ("ready", "subrip/1 local")
        citation = book.ask("When does the harbour open?").citations[0]
        assert citation["quote"] == "The harbour opens at dawn."
        assert citation["places"][0]["seconds"] == 62.5
    finally:
        sys.modules.pop("sourcebook_subrip", None)


def test_the_versions_page_names_the_number() -> None:
    assert f"`sourcebook.API_VERSION` (now {sourcebook.API_VERSION})" in PAGES["versions"]
