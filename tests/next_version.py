"""A later version of the program, as far as its database goes: one more migration, which runs on top of ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import sourcebook.database.upgrade as upgrading
from sourcebook.database.engine import Database
from sourcebook.database.tables import SCHEMA

NEXT = f"{int(SCHEMA) + 1:04}"

_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{next}"
down_revision = "{schema}"
compatible_since = "{since}"

def upgrade() -> None:
    {does}
"""
EXPAND = 'op.add_column("sources", sa.Column("colour", sa.String(20), nullable=False, server_default="none"))'
"""Adds a column that older code neither reads nor writes."""


async def upgraded_to_the_next(database: Database, folder: Path, since: str, does: str = EXPAND) -> None:
    """Run the next version's migration, which says that code since `since` can go on."""
    folder.mkdir(exist_ok=True)
    text = _MIGRATION.format(next=NEXT, schema=SCHEMA, since=since, does=does)
    (folder / f"{NEXT}_next.py").write_text(text, encoding="utf-8")
    ours = upgrading._config

    def theirs(connection: Any = None) -> Any:
        config = ours(connection)
        versions = Path(config.get_main_option("script_location")) / "versions"
        config.set_main_option("path_separator", "os")
        config.set_main_option("version_locations", f"{versions}{os.pathsep}{folder}")
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrading, "_config", theirs)
        await upgrading.upgrade(database)
