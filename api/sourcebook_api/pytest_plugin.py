"""The pytest plugin: the fixtures of `sourcebook.testing.pytest_plugin`, and a real server.

- `sourcebook_server(*plugins, enabled=(), config={})`: makes a server on a free port of 127.0.0.1, in a thread
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from sourcebook.testing.pytest_plugin import fake_embedder, fake_llm, pytest_sessionfinish, sourcebook_in_process

if TYPE_CHECKING:
    from sourcebook_api.testing import TestServer

__all__ = ["fake_embedder", "fake_llm", "pytest_sessionfinish", "sourcebook_in_process", "sourcebook_server"]


@pytest.fixture
def sourcebook_server() -> Iterator[Callable[..., TestServer]]:
    """Call it with plugin modules or objects; the server that it gives answers, and is stopped after the test."""
    from sourcebook.testing.fakes import Fakes
    from sourcebook_api.testing import TestServer

    with ExitStack() as stack:

        def make(*plugins: Any, enabled: Sequence[str] = (), config: Mapping[str, Any] | None = None) -> TestServer:
            return stack.enter_context(TestServer((Fakes(), *plugins), enabled=enabled, config=config))

        yield make
