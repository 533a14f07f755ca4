"""The stores that the core's tests run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import Store


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """SQLite, unless the test's module says `pytestmark = both_stores`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return Store(tmp_path)
    return Store(tmp_path, request.getfixturevalue("postgres").emptied())
