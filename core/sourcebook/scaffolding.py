"""Writes a new plugin distribution from the templates in `scaffold/`: one module, its tests, its metadata."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from sourcebook.errors import ConfigError, InvalidInput

KINDS = ("parser", "chunker", "embedder", "retriever", "reranker", "llm", "fetcher", "routes")
"""What `sourcebook plugins new --kind` takes."""

_NOUNS = {"retriever": "index", "llm": "language model", "routes": "set of routes"}
_FILES = {
    "pyproject.toml": "pyproject.toml.jinja",
    "README.md": "README.md.jinja",
    "{module}.py": "{kind}.py.jinja",
    "tests/test_{module}.py": "test_{kind}.py.jinja",
}


def write(distribution: str, kind: str, into: Path) -> list[Path]:
    """Write the distribution's folder below `into`; returns its files. What is there already is never touched.

    Raises `InvalidInput` for a name that cannot be both a distribution's and a module's, `ConfigError` where the folder
    exists or cannot be written.
    """
    values = _values(distribution, kind)
    folder = into / distribution
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"{folder} exists already.", remedy="Choose another name, or another --into.") from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}.") from error
    written = []
    for name, template in _FILES.items():
        path = folder / name.format(**values)
        path.parent.mkdir(exist_ok=True)
        path.write_text(_rendered(template.format(**values), values), encoding="utf-8")
        written.append(path)
    return written


def _values(distribution: str, kind: str) -> dict[str, str]:
    from sourcebook import API_VERSION, __version__

    if kind not in KINDS:
        raise InvalidInput(f"There is no kind {kind!r}; there are: {', '.join(KINDS)}.")
    module = re.sub(r"[-.]+", "_", distribution)
    if not re.fullmatch(r"[a-z][a-z0-9]*([-._][a-z0-9]+)*", distribution) or keyword.iskeyword(module):
        raise InvalidInput(f"{distribution!r} cannot be a plugin's name: take one such as 'my-parser'.")
    noun = _NOUNS.get(kind, kind)
    return {
        "distribution": distribution,
        "module": module,
        "kind": kind,
        "noun": noun,
        "article": "an" if noun[0] in "aeiou" else "a",
        "name": module,
        "suffix": module.replace("_", "-"),  # of files, and of addresses
        "cls": "".join(part.capitalize() for part in module.split("_")),
        "api": str(API_VERSION),
        "sourcebook": __version__,
    }


def _rendered(template: str, values: dict[str, str]) -> str:
    from jinja2 import Environment, StrictUndefined

    source = (files("sourcebook") / "scaffold" / template).read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - Python, not HTML
    return environment.from_string(source).render(values)
