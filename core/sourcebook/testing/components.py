"""Opens a component for a test as the server would."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sourcebook.http import Http
from sourcebook.interfaces import Component, Context

C = TypeVar("C", bound=Component[Any])


@asynccontextmanager
async def opened(component: C) -> AsyncIterator[C]:
    """The component, open, with a folder of its own and our HTTP client; closed again at the end."""
    http = Http()
    with tempfile.TemporaryDirectory() as folder:
        try:
            await component.open(Context(logging.getLogger(component.instance), Path(folder), http))
            yield component
        finally:
            await component.close()
            await http.aclose()
