"""What the program has, the pages name: commands, options, events, environment variables. And nothing that is gone.

Settings are held to docs/configuration.md by tests/test_configuration.py, metrics to docs/operations.md by
tests/api/test_metrics.py, problem codes by tests/api/test_codes.py, hooks and interfaces by tests/test_hooks.py, routes
by tests/api/test_openapi.py.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sourcebook.events import EVENTS, Event
from sourcebook.filters import BUILT_IN, MAX_CONDITIONS, MAX_DEPTH, MAX_TEXT, MAX_VALUES, RESERVED, parse
from sourcebook.progress import NotebookProgress, Pace
from sourcebook_api.cli.describing import commands, named, render
from sourcebook_api.schemas.answers import ChatOptions, NewChat, NewSearch

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMANDS = dict(commands())
# Python's own, and of the jail: what it passes on, and what it sets for the libraries in it.
NOT_OURS = {"PYTHONPATH"}


def page(name: str) -> str:
    """The text of a page in docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next of its own rank."""
    rank = heading.split(" ")[0]
    found = text.partition(f"\n{heading}\n")[2]
    assert found, f"there is no heading {heading!r}"
    return re.split(rf"\n{rank} ", found)[0]


def rows(text: str) -> dict[str, str]:
    """First cell -> the rest, of the rows whose first cell is a word in backticks."""
    return dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", text, re.MULTILINE))


# Commands.


def test_the_page_of_commands_is_this_versions() -> None:
    told = "run: python -m sourcebook_api.cli.describing > docs/cli.md"
    assert page("cli.md") == render(), told


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_argument_and_option_is_described(path: str) -> None:
    assert (COMMANDS[path].help or "").strip(), f"{path} has no docstring"
    nameless = [named(p) for p in COMMANDS[path].params if p.name != "help" and not (p.help or "").strip()]
    assert not nameless, f"{path}: give these a help text"
    below = section(page("cli.md"), f"## {path}")
    for parameter in COMMANDS[path].params:
        if parameter.name != "help":
            assert f"| `{named(parameter)}` |" in below


def test_plugins_commands_are_among_them() -> None:
    assert "sourcebook mcp" in COMMANDS
    assert len(COMMANDS) > 30


def test_every_command_that_a_page_shows_exists() -> None:
    """`sourcebook jobs list --state failed` in any page: the command is there, and so is the option."""
    wrong = []
    everywhere = {name for p in COMMANDS["sourcebook"].params for name in p.opts} | {"--help"}
    for file in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for line in shown(file.read_text(encoding="utf-8")):
            words = re.sub(r" (--config|-c) \S+", "", line).split()
            path = max((p for p in COMMANDS if words[: len(p.split())] == p.split()), key=len)
            if path == "sourcebook" and len(words) > 1 and re.fullmatch(r"[a-z][a-z-]+", words[1]):
                wrong.append((file.name, line))
            options = {name for p in COMMANDS[path].params for name in p.opts} | everywhere
            wrong += [(file.name, line) for word in words if re.fullmatch(r"--[a-z-]+", word) and word not in options]
    assert not wrong


def shown(text: str) -> Iterator[str]:
    """Every `sourcebook ...` in code, inline or in a block, without what a pipe or a comment adds."""
    blocks = re.findall(r"```(?:sh|bash|console|toml|ini|)\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`((?:\$ )?sourcebook [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [line for block in blocks for line in block.splitlines()] + inline:
        command = re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?(sourcebook(?: [^|>#;&]*)?)", line)
        if command is not None and "=" not in command[1].partition(" ")[0]:
            yield command[1]


# Events.


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.type)
def test_every_event_of_a_run_is_documented_with_each_of_its_fields(event: type[Event]) -> None:
    streaming = page("streaming.md")
    table = rows(section(streaming, "## Events"))
    assert event.type in table, f"docs/streaming.md does not tell of {event.type}"
    told = table[event.type] + (section(streaming, "## Citations") if event.type == "citation" else "")
    for field in fields(event):
        assert re.search(rf"[`\"\[ ]{field.name}[`\",)]", told), f"{event.type}.{field.name}"


def test_no_event_is_documented_that_is_gone() -> None:
    assert set(rows(section(page("streaming.md"), "## Events"))) == {event.type for event in EVENTS}


def test_the_events_of_progress_are_documented_with_their_fields() -> None:
    told = section(page("streaming.md"), "## Progress")
    sent = {
        n.value.decode()
        for n in ast.walk(ast.parse((ROOT / "api/sourcebook_api/routes/jobs.py").read_text(encoding="utf-8")))
        if isinstance(n, ast.Constant) and isinstance(n.value, bytes) and n.value.isalpha()
    }
    assert sent == {"progress", "done", "idle"} == set(re.findall(r"\| `(\w+)` \|", told))
    for name in {f.name for f in fields(NotebookProgress)} | set(Pace().of(1, 2)) | {"rate", "left_seconds"}:
        assert f"`{name}`" in told, name


# What a search takes.


def test_every_field_of_a_question_is_documented() -> None:
    told = section(page("api.md"), "## Searching and asking")
    names = {*NewSearch.model_fields, *NewChat.model_fields, *ChatOptions.model_fields}
    assert not [name for name in names if f"`{name}`" not in told]
    assert set(rows(told)) == set(NewSearch.model_fields)


def test_every_filter_that_is_shown_is_one_and_every_key_is_named() -> None:
    told = section(page("api.md"), "## Searching and asking")
    shown = re.findall(r"^\{.*\}$", told, re.MULTILINE)
    assert len(shown) == 2
    assert all(parse(json.loads(line), {}) is not None for line in shown)
    assert not [word for word in (*BUILT_IN, *RESERVED) if f"`{word}`" not in told]
    limits = (f"{MAX_DEPTH} deep", f"{MAX_CONDITIONS} conditions", f"{MAX_VALUES:,} values", f"{MAX_TEXT} characters")
    assert not [limit for limit in limits if limit not in told]


# Environment variables.


def read_from_the_environment() -> set[str]:
    """Names of variables in the source: our own anywhere, others where `environ` or a command's option names them."""
    found: set[str] = set()
    for package in ("core/sourcebook", "plugins/sourcebook_plugins", "api/sourcebook_api"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                found |= set(_names(node))
    return {name for name in found if "__" not in name and name != "SOURCEBOOK_"} - NOT_OURS


def _names(node: ast.AST) -> Iterator[str]:
    candidates: list[Any] = []
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch("SOURCEBOOK_[A-Z_]+", node.value)
    ):
        yield node.value
    if isinstance(node, ast.Call):
        if "environ" in ast.unparse(node.func) and node.args:
            candidates = [node.args[0]]
        candidates += [k.value for k in node.keywords if k.arg == "envvar"]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
        candidates = [node.slice]
    for candidate in candidates:
        if isinstance(candidate, ast.Constant) and re.fullmatch("[A-Z][A-Z_]+", str(candidate.value)):
            yield str(candidate.value)


def read_by_tests() -> set[str]:
    """Variables of tests, benchmarks and their scripts: ours, other than settings and those of the program."""
    found: set[str] = set()
    files = [ROOT / "Makefile", *(f for folder in ("tests", "bench") for f in (ROOT / folder).rglob("*.py"))]
    for file in files:
        if file != Path(__file__):
            found |= set(re.findall(r"\b(?:SOURCEBOOK|INTEROP)_[A-Z_]*[A-Z]\b", file.read_text(encoding="utf-8")))
    return {name for name in found if "__" not in name} - read_from_the_environment()


def test_every_variable_of_the_tests_is_documented() -> None:
    assert set(rows(section(page("developing.md"), "## Variables of tests and benchmarks"))) == read_by_tests()


def test_every_target_of_the_makefile_is_documented() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)) - {"help"}
    assert set(re.findall(r"^\| `make (\w+)` \|", page("developing.md"), re.MULTILINE)) == targets


def test_every_variable_is_documented_and_none_that_is_gone() -> None:
    assert (
        set(rows(section(page("configuration.md"), "### Variables that are no settings")))
        == read_from_the_environment()
    )
