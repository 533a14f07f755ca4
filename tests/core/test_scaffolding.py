"""A new plugin's distribution passes its own tests, the linter and the types, unedited."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sourcebook import __version__
from sourcebook.errors import ConfigError, InvalidInput
from sourcebook.plugins import Plugins
from sourcebook.scaffolding import KINDS, write
from sourcebook.settings import PluginSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Kind -> the folder of a new distribution."""
    into = tmp_path_factory.mktemp("new")
    return {kind: write(f"my-{kind}", kind, into)[0].parent for kind in KINDS}


def run(*command: str, cwd: Path, path: str = "") -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.proof  # .ci/run does it too, from the wheel: examples/plugins/check.sh
@pytest.mark.timeout(900)
def test_each_passes_its_own_tests(made: Mapping[str, Path]) -> None:
    path = os.pathsep.join(map(str, made.values()))
    run("pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *map(str, made.values()),
        cwd=made["parser"].parent, path=path)  # fmt: skip


@pytest.mark.slow
@pytest.mark.proof
def test_all_are_as_our_own_code_is(made: Mapping[str, Path]) -> None:
    folder = made["parser"].parent
    run("ruff", "check", "--isolated", "--line-length=120", "--select=E,F,W,I,UP,B,RUF", str(folder), cwd=folder)
    run("ruff", "format", "--isolated", "--check", "--line-length=120", str(folder), cwd=folder)
    modules = [str(path) for kind in KINDS for path in sorted(made[kind].glob("*.py"))]
    run("mypy", "--strict", f"--cache-dir={ROOT / '.mypy_cache'}", "--config-file=", *modules, cwd=folder)


def test_the_parser_is_small(made: Mapping[str, Path]) -> None:
    text = (made["parser"] / "my_parser.py").read_text()
    assert len(text[text.index("class MyParser(") : text.index("@hookimpl")].strip().splitlines()) < 30


def points(folders: Mapping[str, Path]) -> Iterator[EntryPoint]:
    """The entry points that the distributions' metadata name."""
    for folder in folders.values():
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for name, value in project["entry-points"]["sourcebook"].items():
            yield EntryPoint(name, value, "sourcebook")


def test_each_is_loaded_by_its_entry_point(made: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins(PluginSettings())
    for kind, point in zip(KINDS, points(made), strict=True):
        monkeypatch.syspath_prepend(str(made[kind]))
        info = plugins.add(point.load())
        assert info.state == "active"
        assert info.hooks == ["register_routes" if kind == "routes" else f"register_{kind}s"]


def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pyproject.toml").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write("mine", "parser", tmp_path)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["pyproject.toml"]


@pytest.mark.parametrize("name", ["", "My-Parser", "1st", "../up", "a b", "class", "-x", "x-", "a--b", "é"])
def test_a_name_that_no_module_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a plugin's name"):
        write(name, "parser", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there are: parser, chunker"):
        write("mine", "painter", tmp_path)


def test_it_depends_on_this_version(tmp_path: Path) -> None:
    text = write("mine", "parser", tmp_path)[0].read_text()
    assert f'"sourcebook>={__version__}"' in text
