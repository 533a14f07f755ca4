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
# The client, its connections, and the check of addresses that they go through.
SPEAK_HTTP = {"core/sourcebook/http.py", "core/sourcebook/sockets.py", "core/sourcebook/addresses.py"}
CLIENTS = {"httpx", "httpcore", "requests", "aiohttp", "urllib3"}
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


def public(
    tree: ast.Module,
) -> Iterator[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The module itself, and the classes and functions in it that others may use."""
    yield "the module", tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node


def test_imports_go_along_the_arrows() -> None:
    strays = {path: imported(file) & set(PACKAGES) - MAY_IMPORT[package] for package, path, file in ALL}
    assert not {path: names for path, names in strays.items() if names}


def test_only_the_client_speaks_http() -> None:
    assert {path for _, path, file in ALL if imported(file) & CLIENTS} == SPEAK_HTTP


def test_no_module_is_long() -> None:
    sizes = {path: len(file.read_text(encoding="utf-8").splitlines()) for _, path, file in ALL}
    assert not {p: n for p, n in sizes.items() if n > MOST_LINES and "/migrations/versions/" not in p}


def test_what_is_public_is_described() -> None:
    assert not [
        f"{path}: {name}"
        for _, path, file in ALL
        for name, node in public(tree_of(file))
        if not ast.get_docstring(node)
    ]


def test_no_plugin_module_is_named_outside_the_plugins() -> None:
    assert not [
        path
        for package, path, file in ALL
        if package != "sourcebook_plugins" and "sourcebook_plugins" in file.read_text(encoding="utf-8")
    ]


def test_the_public_names_are_exact_and_sorted() -> None:
    listed = sourcebook.__all__
    tree = tree_of(PACKAGES["sourcebook"] / "__init__.py")
    (lazy,) = [n for n in tree.body if isinstance(n, ast.If)]  # for type checkers; `__getattr__` imports them
    bound = {a.asname or a.name for n in lazy.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    assigned = {name for name in assigned if name == "__version__" or not name.startswith("_")}
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
    heavy = {"fastapi", "sqlalchemy", "typer", "pytest"}
    code = f"import sys, sourcebook, sourcebook.testing\nprint(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
