"""Fixtures for plugin authors, in every pytest run where Sourcebook is installed. What is heavy waits until it is used.

- `fake_llm`: a scripted OpenAI-compatible server on a real socket (`FakeLLMServer`)
- `fake_embedder`: an embedder without a model, not open yet (`FakeEmbedder`)
- `sourcebook_in_process(*plugins, enabled=(), config={})`: makes a whole Sourcebook without a server (`InProcess`)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sourcebook.testing.fakes import FakeEmbedder
    from sourcebook.testing.in_process import InProcess
    from sourcebook.testing.llm_server import FakeLLMServer


@pytest.fixture
def fake_llm() -> Iterator[FakeLLMServer]:
    """A scripted server: `fake_llm.url` is a `base_url`, `fake_llm.script(...)` queues answers."""
    from sourcebook.testing.llm_server import FakeLLMServer

    with FakeLLMServer() as server:
        yield server


@pytest.fixture
def fake_embedder() -> FakeEmbedder:
    """An embedder without a model; it is opened with `sourcebook.testing.components.opened`."""
    from sourcebook.testing.fakes import FakeEmbedder, FakeEmbedderSettings

    return FakeEmbedder(FakeEmbedderSettings())


@pytest.fixture
def sourcebook_in_process() -> Iterator[Callable[..., InProcess]]:
    """Call it with plugin modules or objects; what it gives is open, and closed after the test.

    The fake embedder is there as `embedder = "fake"`.
    """
    from sourcebook.testing.fakes import Fakes
    from sourcebook.testing.in_process import InProcess

    with ExitStack() as stack:

        def make(*plugins: Any, enabled: Sequence[str] = (), config: Mapping[str, Any] | None = None) -> InProcess:
            return stack.enter_context(InProcess((Fakes(), *plugins), enabled=enabled, config=config))

        yield make


def pytest_sessionfinish() -> None:
    """End what the suites share."""
    jailed = sys.modules.get("sourcebook.testing.jailed")
    if jailed is not None:
        jailed.close()
