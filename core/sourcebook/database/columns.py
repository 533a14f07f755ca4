"""Types of columns that not every engine has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

JSON = sa.JSON(none_as_null=True)
SIZE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Of a file, in bytes: more than 2 GiB."""


class UTCDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite forgets the zone, so it is put back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """A naive datetime is a mistake, never a guess."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Always aware."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value
