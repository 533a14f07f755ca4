"""Every problem code is described, with the status that it comes with."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from sourcebook import errors
from sourcebook.errors import SourcebookError
from sourcebook_api.codes import CODES, ELSEWHERE, render
from sourcebook_api.problems import status_of

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "problems.md"
DESCRIBED = {code: status for status, codes in CODES.items() for code in codes}


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    files = [
        file
        for package in ("core/sourcebook", "plugins/sourcebook_plugins", "api/sourcebook_api")
        for file in sorted((ROOT / package).rglob("*.py"))
    ]
    return [(f.relative_to(ROOT).as_posix(), node) for f in files for node in ast.walk(ast.parse(f.read_text("utf-8")))]


def classes() -> dict[str, type[SourcebookError]]:
    """Every error class by its name."""
    import sourcebook_api.app  # noqa: F401 - they import the modules that define more

    found, waiting = {}, [SourcebookError]
    while waiting:
        cls = waiting.pop()
        found[cls.__name__] = cls
        waiting.extend(cls.__subclasses__())
    return {name: cls for name, cls in found.items() if cls.__module__.startswith(("sourcebook.", "sourcebook_api."))}


def used() -> Iterator[tuple[str, str, str]]:
    """File, class and code of every error that is made with a code of its own."""
    for file, node in nodes():
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and keyword.value.value:
                    yield file, name, str(keyword.value.value)


def test_every_code_that_is_used_is_described() -> None:
    known = set(DESCRIBED) | set(ELSEWHERE)
    assert not {(file, code) for file, _, code in used() if code not in known}, "describe these in codes.py"
    assert not {cls.code for cls in classes().values()} - known, "describe these in codes.py"


def test_no_code_has_two_meanings() -> None:
    assert sum(len(codes) for codes in CODES.values()) == len(DESCRIBED)
    assert not set(DESCRIBED) & set(ELSEWHERE)


def test_every_code_comes_with_the_status_that_is_told() -> None:
    known = classes()
    wrong = []
    for name, cls in known.items():
        error = cls("x")
        if cls.code in DESCRIBED and status_of(error) != DESCRIBED[cls.code]:
            wrong.append((name, cls.code, status_of(error)))
    for file, name, code in used():
        if name in known and code in DESCRIBED and status_of(known[name]("x", code=code)) != DESCRIBED[code]:
            wrong.append((file, code, status_of(known[name]("x", code=code))))
    assert not wrong


def test_every_description_is_of_a_code_that_exists() -> None:
    composed = {c for c in DESCRIBED if c.partition("_")[0] in ("llm", "embedder", "reranker", "fetch", "upstream")}
    elsewhere = {
        n.value
        for file, n in nodes()
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and not file.endswith("/codes.py")
    }
    assert not set(DESCRIBED) - elsewhere - composed


def test_the_page_is_this_versions() -> None:
    assert KEPT.read_text(encoding="utf-8") == render(), "run: python -m sourcebook_api.codes > docs/problems.md"


def test_every_class_of_the_core_is_reached() -> None:
    assert {n for n in dir(errors) if isinstance(getattr(errors, n), type)} - {"Any", "ClassVar"} <= set(classes())
