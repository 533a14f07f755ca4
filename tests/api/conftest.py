from __future__ import annotations

from collections.abc import Iterator

import pytest

from sourcebook.testing.llm_server import FakeLLMServer

from .support import Served


@pytest.fixture(scope="session")
def llm() -> Iterator[FakeLLMServer]:
    """The server of the model that the pipeline `model` asks."""
    with FakeLLMServer() as server:
        yield server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[Served]:
    """A server without keys."""
    overrides = {
        "llms": {"fake": {"use": "openai", "base_url": llm.url, "model": "fake"}},
        "pipelines": {"model": {"extends": "default", "llm": ["fake"]}},
    }
    with Served(tmp_path_factory.mktemp("served"), overrides) as server:
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
