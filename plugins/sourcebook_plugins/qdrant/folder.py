"""The folder of an index: which of its shards answers, and what of it is on the disk."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

LAYOUT = 2
"""Goes up when data of an older version can no longer be read."""

Json = dict[str, Any]


def read_layout(folder: Path) -> Json:
    """Which shard answers, and the spaces. Raises `RuntimeError` for a layout that this version cannot read."""
    path = folder / "layout.json"
    stored: Json = json.loads(path.read_text("utf-8")) if path.exists() else {"layout": LAYOUT, "spaces": []}
    if stored["layout"] == 1 and not stored["spaces"]:
        stored["layout"] = LAYOUT  # they differ in the names of vectors alone
    if stored["layout"] != LAYOUT:
        raise RuntimeError(f"{folder} holds layout {stored['layout']}, and this program reads {LAYOUT}")
    return {"shard": "shard", **stored}


def write_layout(folder: Path, layout: Json) -> None:
    """Durable when this returns."""
    fresh = folder / "layout.json.new"
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(layout, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / "layout.json")
    sync(folder)


def sweep(folder: Path, name: str) -> None:
    """Remove shards that a compaction replaced, or did not finish."""
    for path in folder.glob("shard*"):
        if path.name != name and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def sync_files(folder: Path) -> None:
    """Make every file in `folder` survive power loss, and their names."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Make a file, or the renames in a folder, survive power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
