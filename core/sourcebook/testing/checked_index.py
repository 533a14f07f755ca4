"""The contract of an index that `sourcebook plugins check` found by its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from sourcebook.interfaces import Index
from sourcebook.testing.index_points import context
from sourcebook.testing.indexes import IndexContract


class CheckedIndex(IndexContract):
    """Subclassed with the index's module, class and settings, which another process is given too."""

    module: str
    cls: str
    settings: Mapping[str, Any]

    async def open_index(self, folder: Path) -> Index[Any]:
        """The index of these settings."""
        cls = getattr(import_module(self.module), self.cls)
        made: Index[Any] = cls(cls.Settings.model_validate(self.settings))
        await made.open(context(folder))
        return made

    def child(self) -> tuple[type[IndexContract], dict[str, Any]]:
        """This class: the one that is made for the check cannot be imported."""
        return CheckedIndex, {"module": self.module, "cls": self.cls, "settings": dict(self.settings)}
