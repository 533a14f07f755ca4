"""`sourcebook plugins check`: the contract of every component of an installed plugin, as one report.

The suites are those that authors subclass; here each is given the component as the configuration would build it. What
only its author can give (files that a parser reads, an address, a server that fails) is told as not run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from sourcebook.configuration import Configuration
from sourcebook.errors import ConfigError, NotFound, PluginError
from sourcebook.http import Http
from sourcebook.interfaces import Index
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import GROUP, PluginInfo, Plugins
from sourcebook.testing.deadlines import DEADLINE, Overdue, timely

# Kind -> module, suite, and the method that gives the component.
_SUITES = {
    "parsers": ("parsers", "ParserContract", "parser"),
    "chunkers": ("chunkers", "ChunkerContract", "chunker"),
    "embedders": ("embedders", "EmbedderContract", "embedder"),
    "rerankers": ("rerankers", "RerankerContract", "reranker"),
    "llms": ("llms", "LLMContract", "answering"),
    "blob_stores": ("blob_stores", "BlobStoreContract", "store"),
}
_PLAIN = {"parsers", "chunkers", "blob_stores"}  # the others are given within a context
_NEED_SAMPLES = (
    "test_samples_have_text_whose_blocks_and_locators_lie_in_it",
    "test_text_is_normal",
    "test_every_character_of_ink_stands_in_a_block",
    "test_it_is_deterministic",
    "test_documents_survive_storage",
    "test_it_reads_the_same_in_the_jail_and_outlives_a_kill",
)
_MODULE = "sourcebook_check"
_IMPORTS = 3
# `import sourcebook` imports next to nothing: its names come when they are first asked for. That is Sourcebook's to
# pay, and so is what every plugin may use beside them.
_MEASURE = """
import importlib, sys, time
import sourcebook, sourcebook.errors, sourcebook.events, sourcebook.filters, sourcebook.owners, sourcebook.upstream
for name in sourcebook.__all__:
    getattr(sourcebook, name)
began = time.perf_counter()
importlib.import_module(sys.argv[1])
print(time.perf_counter() - began)
"""


@dataclass
class Row:
    """One component."""

    component: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CheckReport:
    """One plugin. `import_ms` is what its own modules cost, where all of Sourcebook's names are imported already."""

    plugin: str
    version: str
    import_ms: float
    rows: list[Row]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(row.failed for row in self.rows)


def check(
    configuration: Configuration, distribution: str, samples: Path | None = None, deadline: float = DEADLINE
) -> CheckReport:
    """Load a plugin (of a distribution, or a built-in by its name) and run every suite that fits.

    No import and no call of a component may take longer than `deadline` seconds.

    Raises `NotFound` where it is not installed, `PluginError` where it cannot be loaded, `ConfigError` without pytest.
    """
    try:
        import_module("pytest")
    except ModuleNotFoundError as error:
        raise ConfigError("The contracts are pytest tests.", remedy="pip install 'sourcebook[testing]'") from error
    mine = _points(distribution)
    plugins = Plugins(configuration.settings.plugins.model_copy(update={"enabled": (), "disabled": ()}))
    plugins.load(p for p in entry_points(group=GROUP) if p not in mine and p.dist and p.dist.name == "sourcebook")
    infos = [_loaded(plugins, point, deadline) for point in mine]
    pipelines = Pipelines(plugins, configuration, configuration.settings.storage.path, Http())
    rows = [
        _run(_suite(kind, name, pipelines, configuration, samples, deadline), f"{kind}.{name}")
        for info in infos
        for kind, names in info.components.items()
        for name in names
    ]
    version = mine[0].dist.version if mine[0].dist else ""
    return CheckReport(distribution, version, sum(_import_ms(p.module, deadline) for p in mine), rows)


def _points(distribution: str) -> list[EntryPoint]:
    def named(point: EntryPoint) -> bool:
        owner = point.dist.name if point.dist else ""
        return _normal(owner) == _normal(distribution) or (owner == "sourcebook" and point.name == distribution)

    found = [p for p in entry_points(group=GROUP) if named(p)]
    if not found:
        raise NotFound(f"No plugin {distribution!r} is installed.", remedy="`sourcebook plugins list` names them.")
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _loaded(plugins: Plugins, point: EntryPoint, deadline: float) -> PluginInfo:
    try:
        module = timely(f"Importing {point.module}", deadline, point.load)
    except (Exception, SystemExit, Overdue) as error:  # whatever a stranger's module raises at import
        raise PluginError(f"{point.module} cannot be imported: {type(error).__name__}: {error}") from error
    owner = point.dist.name if point.dist else "local"
    return plugins.add(module, PluginInfo(point.name, owner, point.dist.version if point.dist else "", "off"))


def _import_ms(module: str, deadline: float) -> float:
    """The least of some measurements, each in a process of its own: whatever else runs can only add to it."""
    return min(_imported(module, deadline) for _ in range(_IMPORTS))


def _imported(module: str, deadline: float) -> float:
    command = [sys.executable, "-c", _MEASURE, module]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=deadline)
    except subprocess.TimeoutExpired:
        return float("nan")
    return float(done.stdout.split()[-1]) * 1000 if done.returncode == 0 else float("nan")


def _suite(
    kind: str,
    name: str,
    pipelines: Pipelines,
    configuration: Configuration,
    samples: Path | None,
    deadline: float,
) -> type[Any] | str:
    """The suite for one component, or why there is none."""
    # As it is configured: what `resolve` gives has its secrets masked.
    table = {k: v for k, v in getattr(configuration.settings, kind).get(name, {}).items() if k != "use"}
    try:
        cls, _ = pipelines.resolve(kind, name)
    except ConfigError as error:
        return f"it cannot be built from the configuration: {error.detail}"
    if kind == "retrievers":
        if issubclass(cls, Index):
            return _index_suite(f"{kind}.{name}", cls, table, deadline)
        return "a retriever that stores nothing needs passages that only its author knows: RetrieverContract"
    if kind not in _SUITES:
        return "it needs an address that only its author knows: FetcherContract"
    module, suite, method = _SUITES[kind]
    base, settings = getattr(import_module(f"sourcebook.testing.{module}"), suite), cls.Settings.model_validate(table)

    given = (settings,) if kind in ("parsers", "chunkers") else (settings, name)

    def plain(_: Any) -> Any:
        return timely(f"Building {kind}.{name}", deadline, lambda: cls(*given))

    @contextmanager
    def within(_: Any) -> Iterator[Any]:
        yield plain(_)

    made: dict[str, Any] = {method: plain if kind in _PLAIN else within, "deadline": deadline}
    if kind == "parsers":
        files = _samples(cls, samples)
        made["samples"] = lambda _: files
        if not files:
            made |= dict.fromkeys(_NEED_SAMPLES, _without_samples)
    return type(f"{kind}.{name}", (base,), made)


def _samples(cls: type[Any], folder: Path | None) -> Mapping[str, bytes]:
    files = sorted(folder.rglob("*")) if folder is not None else []
    return {p.name: p.read_bytes() for p in files if p.is_file() and p.suffix.lower() in cls.extensions}


def _without_samples(_: Any) -> None:
    import pytest

    pytest.skip("no files that it reads: give --samples FOLDER")


def _index_suite(named: str, cls: type[Any], settings: Mapping[str, Any], deadline: float) -> type[Any]:
    from sourcebook.testing.checked_index import CheckedIndex

    made = {"module": cls.__module__, "cls": cls.__qualname__, "settings": settings, "deadline": deadline}
    return type(named, (CheckedIndex,), made)


class _Recorder:
    """Listens to pytest."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of one test."""
        test = report.nodeid.rpartition("::")[2]
        if report.failed:
            self._row.failed += 1
            last = str(report.longrepr).strip().splitlines()
            said = next((line[1:].strip() for line in last if line.startswith("E ")), last[-1] if last else "")
            self._row.failures.append(f"{test}: {said[:200]}")
        elif report.skipped:
            self._row.skipped += 1
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._row.reasons.append(f"{test}: {reason.removeprefix('Skipped: ')}")
        elif report.when == "call":
            self._row.passed += 1


def _run(suite: type[Any] | str, component: str) -> Row:
    """Run pytest in this process, quietly."""
    import pytest

    row = Row(component)
    if isinstance(suite, str):
        row.skipped, row.reasons = 1, [suite]
        return row
    holder = ModuleType(_MODULE)
    holder.TestContract = suite  # type: ignore[attr-defined]
    sys.modules[_MODULE] = holder
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "test_contract.py"
        file.write_text(f"from {_MODULE} import TestContract\n", encoding="utf-8")
        options = ["-p", "no:cacheprovider", "-p", "no:terminal", "--import-mode=importlib",
                   f"--rootdir={folder}", "-c", "/dev/null", str(file)]  # fmt: skip
        pytest.main(options, plugins=[_Recorder(row)])
    sys.modules.pop(_MODULE)
    return row
