"""The rules of the house, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest
import sourcebook

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "sourcebook": ROOT / "core" / "sourcebook",
    "sourcebook_plugins": ROOT / "plugins" / "sourcebook_plugins",
    "sourcebook_api": ROOT / "api" / "sourcebook_api",
}
# Arrows: plugins -> core <- api.
MAY_IMPORT = {
    "sourcebook": {"sourcebook"},
    "sourcebook_plugins": {"sourcebook", "sourcebook_plugins"},
    "sourcebook_api": {"sourcebook", "sourcebook_api"},
}
# The client, and the check of addresses that it connects through.
SPEAK_HTTP = {"core/sourcebook/http.py", "core/sourcebook/addresses.py"}
MOST_LINES = 400
HEAVY = ("pypdfium2", "docx", "lxml", "numpy", "qdrant_edge", "qdrant_client", "markdown_it", "httpx", "httpcore")


def modules() -> Iterator[tuple[str, str, Path]]:
    """Package, path below the root and file, of every module."""
    for package, folder in PACKAGES.items():
        found = sorted(folder.rglob("*.py"))
        assert found, f"{folder} holds no module"
        for file in found:
            yield package, file.relative_to(ROOT).as_posix(), file


ALL = list(modules())
each_module = pytest.mark.parametrize(("package", "path", "file"), ALL, ids=[path for _, path, _ in ALL])


@cache
def tree_of(file: Path) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(file: Path) -> set[str]:
    """The top-level names of all that a module imports, wherever in it, also for types alone."""
    names: set[str] = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import hides which package it reaches"
            names.add((node.module or "").partition(".")[0])
    return names


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """The module itself, and the classes and functions in it that others may use."""
    yield "the module", tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node


@each_module
def test_imports_go_along_the_arrows(package: str, path: str, file: Path) -> None:
    assert imported(file) & set(PACKAGES) <= MAY_IMPORT[package]


@each_module
def test_only_the_client_speaks_http(package: str, path: str, file: Path) -> None:
    if path not in SPEAK_HTTP:
        assert not imported(file) & {"httpx", "httpcore", "requests", "aiohttp", "urllib3"}


def test_the_modules_that_speak_http_do() -> None:
    for path in SPEAK_HTTP:
        assert imported(ROOT / path) & {"httpx", "httpcore"}, f"{path} need not be allowed to"


@each_module
def test_no_module_is_long(package: str, path: str, file: Path) -> None:
    if "/migrations/versions/" not in path:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@each_module
def test_what_is_public_is_described(package: str, path: str, file: Path) -> None:
    bare = [name for name, node in public(tree_of(file)) if not ast.get_docstring(node)]  # type: ignore[arg-type]  # public() gives only nodes that may have one
    assert not bare


@each_module
def test_no_plugin_is_named_outside_the_plugins(package: str, path: str, file: Path) -> None:
    if package != "sourcebook_plugins":
        assert "sourcebook_plugins" not in file.read_text(encoding="utf-8")


def test_the_public_names_are_exact_and_sorted() -> None:
    listed = sourcebook.__all__
    tree = tree_of(PACKAGES["sourcebook"] / "__init__.py")
    bound = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)} - {
        "__all__"
    }
    assert set(listed) == bound | assigned
    assert len(set(listed)) == len(listed)
    assert listed == sorted(listed, key=_as_ruff_sorts)
    for name in listed:
        assert not isinstance(getattr(sourcebook, name), ModuleType)


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


def test_importing_every_plugin_module_imports_nothing_heavy() -> None:
    points = [p.value for p in entry_points(group="sourcebook") if p.dist and p.dist.name == "sourcebook"]
    assert len(points) > 5
    code = (
        f"import sys, importlib\nfor name in {points!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_what_a_plugin_author_imports_does_not_import_a_web_framework() -> None:
    code = "import sys, sourcebook, sourcebook.testing\nprint(*({'fastapi', 'sqlalchemy', 'typer', 'pytest'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
