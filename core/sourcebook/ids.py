"""Names for rows: a prefix that says what it is, then 26 characters that sort by time of making (as a ULID does)."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_PASSAGES = uuid.UUID("8a0a7b1e-4a55-5c7f-9d43-3d2f5e6c7b10")


def new_id(prefix: str) -> str:
    """`nb_01k...`: 48 bits of milliseconds and 80 random bits; unguessable, and sorted by time within a prefix."""
    return _named(prefix, (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80))


def first_id_at(prefix: str, at: datetime) -> str:
    """What every id of this prefix that is made at `at` or later sorts behind."""
    return _named(prefix, int(at.timestamp() * 1000) << 80)


def _named(prefix: str, number: int) -> str:
    return f"{prefix}_{''.join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])}"


def passage_id(generation_id: str, ordinal: int) -> str:
    """The id of a passage, which is its point's too: a UUIDv5, so that writing it again is writing the same."""
    digest = bytearray(
        hashlib.sha1(_PASSAGES.bytes + f"{generation_id}/{ordinal}".encode(), usedforsecurity=False).digest()
    )
    # As `uuid.uuid5` does it, in a third of the time: version 5, variant of RFC 9562.
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    n = digest[:16].hex()
    return f"{n[:8]}-{n[8:12]}-{n[12:16]}-{n[16:20]}-{n[20:]}"
