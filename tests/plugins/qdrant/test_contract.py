"""The embedded Qdrant keeps the contract of an index."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from sourcebook.interfaces import Index
from sourcebook.testing.indexes import IndexContract, context
from sourcebook_plugins.qdrant import Qdrant


class TestQdrant(IndexContract):
    async def open_index(self, folder: Path) -> Qdrant:
        index = Qdrant(Qdrant.Settings.model_validate({"idle_seconds": 0}))
        await index.open(context(folder))
        return index

    async def kill(self, index: Index[Any]) -> None:
        assert isinstance(index, Qdrant)
        pid = index.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)
