from __future__ import annotations

from collections.abc import Iterator

import pytest

from sourcebook.hookspecs import hookimpl
from sourcebook.hosts import RouteHost
from sourcebook.testing.llm_server import DIMENSIONS, FakeLLMServer

from .support import IN_PLAIN, IN_SECRETS, Served


class Buggy:
    """A plugin with one route that works and one that does not."""

    __name__ = "buggy"

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        async def bug() -> None:
            raise RuntimeError("the secret is swordfish")

        async def tells() -> dict[str, str]:
            return {"plugin": host.plugin}

        host.router.add_api_route("/bug", bug)
        host.router.add_api_route("/tells", tells)


@pytest.fixture(scope="session")
def llm() -> Iterator[FakeLLMServer]:
    """The server of the model that the pipeline `model` asks."""
    with FakeLLMServer() as server:
        yield server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[Served]:
    """A server without keys."""
    overrides = {
        "llms": {
            "fake": {"use": "openai", "base_url": llm.url, "model": "fake"},
            "narrow": {"use": "openai", "base_url": llm.url, "model": "fake", "context_window": 1800},
        },
        "embedders": {"fake": {"use": "openai", "base_url": llm.url, "model": "fake", "dimensions": DIMENSIONS}},
        "chunkers": {"fine": {"use": "markdown", "size": 60}},
        "pipelines": {
            "model": {"extends": "default", "llm": ["fake"]},
            "narrow": {"extends": "default", "llm": ["narrow"]},
            "embedded": {"extends": "default", "embedder": "fake"},
            "fine": {"extends": "default", "chunker": "fine"},
        },
    }
    with Served(tmp_path_factory.mktemp("served"), overrides, (Buggy(),)) as server:
        yield server


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[Served]:
    """A server where everybody needs a key, with secrets in its files."""
    folder = tmp_path_factory.mktemp("keyed")
    main = folder / "sourcebook.toml"
    at = f'use = "openai", base_url = "{llm.url}", model = "fake"'
    main.write_text(
        f"""
pipelines.secret = {{extends = "default", llm = ["secret"]}}
pipelines.plain = {{extends = "default", llm = ["plain"]}}
llms.secret = {{{at}}}
llms.plain = {{{at}, api_key = "{IN_PLAIN}"}}
"""
    )
    (folder / "secrets.toml").write_text(f'[llms.secret]\napi_key = "{IN_SECRETS}"\n')
    with Served(folder, path=main) as server:
        server.key("root", "admin")
        yield server


@pytest.fixture(scope="session")
def handbook(served: Served) -> str:
    """A notebook with one ingested source, answered without a model."""
    notebook = served.notebook()
    assert served.source(notebook)["state"] == "ready"
    return notebook


@pytest.fixture(scope="session")
def modelled(served: Served) -> str:
    """The same, answered by the fake model."""
    notebook = served.notebook(pipeline="model")
    assert served.source(notebook)["state"] == "ready"
    return notebook


@pytest.fixture(scope="session")
def embedded(served: Served) -> str:
    """An empty notebook whose pipeline has an embedder."""
    return served.notebook(pipeline="embedded")
