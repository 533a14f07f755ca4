"""A real Chromium and real servers. What starts slowly is started once; notebooks are each test's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sourcebook.testing.llm_server import FakeLLMServer

from .beacon import HOST, Beacon
from .serving import Sourcebook, serving
from .watching import Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Visit = Callable[..., Watched]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder is `browser`: `make browser` and not `make test`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def beacon() -> Iterator[Beacon]:
    """Where `evil.test` leads to."""
    with Beacon() as listening:
        yield listening


@pytest.fixture(scope="package")
def browser(beacon: Beacon) -> Iterator[Browser]:
    """The machine's own Chromium. No name but `evil.test` leads anywhere."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or pytest.skip("there is no chromium: apt.txt names the package")
    rules = f"MAP {HOST} 127.0.0.1:{beacon.port}, MAP *.{HOST} 127.0.0.1:{beacon.port}, MAP * ~NOTFOUND"
    arguments = [f"--host-resolver-rules={rules}, EXCLUDE 127.0.0.1", "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser, beacon: Beacon) -> Iterator[Visit]:
    """`visit(server, **options of the context)`: a page that is watched. Whatever it did wrong fails the test."""
    opened: list[Watched] = []
    before = beacon.connections

    def open_(server: Any, **options: Any) -> Watched:
        opened.append(
            Watched(browser, server.url, **{"locale": "en-GB", "viewport": {"width": 1280, "height": 800}, **options})
        )
        return opened[-1]

    yield open_
    for one in opened:
        one.close()
    assert beacon.connections == before, "a foreign host was connected to"


@pytest.fixture(scope="package")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sourcebook]:
    """A server without keys, whose answers quote the best sentences."""
    with serving(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Sourcebook]:
    """The same, with nothing in it yet. Named before `visit`, or it would end while a page is open."""
    with serving(tmp_path) as server:
        yield server


@pytest.fixture(scope="package")
def llm() -> Iterator[FakeLLMServer]:
    """The server of the model."""
    with FakeLLMServer() as server:
        yield server


@pytest.fixture(scope="package")
def modelled(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[Sourcebook]:
    """A server without keys, whose answers come from `llm`."""
    with serving(tmp_path_factory.mktemp("modelled"), llm.url) as server:
        yield server


@pytest.fixture(scope="package")
def keys() -> dict[str, str]:
    """Owner -> key of the server `keyed`; filled when that is started."""
    return {"ada": "", "bob": "", "cleo": ""}


@pytest.fixture(scope="package")
def keyed(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer, keys: dict[str, str]) -> Iterator[Sourcebook]:
    """A server where everybody needs a key."""
    with serving(tmp_path_factory.mktemp("keyed"), llm.url, owners=keys) as server:
        yield server
