"""Signed links: an address that opens one citation in any client, without a key, until it expires.

The token holds the citation's id and when it expires, with the first 128 bits of an HMAC-SHA256 (RFC 2104) over both.
The key is made once, at random, and lies in the database, so that every process and every restore signs alike.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode

import sqlalchemy as sa

from sourcebook import settings
from sourcebook.database.engine import Database
from sourcebook.database.tables import server_secrets
from sourcebook.errors import NotFound

_KEY = "links"
_SIGNATURE = 16
_STEP = 3600  # links of one hour expire together, so that the same citation keeps its address for a while


class Links:
    """Makes and reads tokens. `open` comes first."""

    def __init__(self, options: settings.Links, database: Database) -> None:
        self.lifetime = options.lifetime
        self.public = options.public_url.rstrip("/")
        self._db = database
        self._key = b""

    async def open(self) -> None:
        """Read the key, or make it."""
        query = sa.select(server_secrets.c.value).where(server_secrets.c.name == _KEY)
        async with self._db.read() as c:
            found = (await c.execute(query)).scalar()
        if found is None:
            async with self._db.write() as c:
                new = {"name": _KEY, "value": secrets.token_hex(32)}
                await c.execute(self._db.insert_or_ignore(server_secrets).values(**new))
                found = (await c.execute(query)).scalar()
        self._key = bytes.fromhex(str(found))

    def url(self, citation_id: str, base: str = "") -> str:
        """The address of a citation: below `links.public_url`, else below `base`, else on this server.

        It leads to the words that are marked, wherever on their page they stand.
        """
        return f"{self.public or base.rstrip('/')}/open/{self.token(citation_id)}#cited"

    def token(self, citation_id: str, at: float | None = None) -> str:
        """A token that is good for `lifetime` seconds from `at`, and up to an hour more."""
        expires = int(((time.time() if at is None else at) + self.lifetime) // _STEP + 1) * _STEP
        said = expires.to_bytes(5, "big") + citation_id.encode()
        return urlsafe_b64encode(self._signed(said) + said).rstrip(b"=").decode()

    def read(self, token: str) -> str:
        """The id of the citation. Raises `NotFound`, code `link_expired` where it was a good token once."""
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            signature, said = raw[:_SIGNATURE], raw[_SIGNATURE:]
            citation_id = said[5:].decode("ascii")
        except ValueError:
            raise NotFound("This link is not one of ours.") from None
        as_made = urlsafe_b64encode(raw).rstrip(b"=") == token.encode()  # the last character has bits to spare
        if not (as_made and hmac.compare_digest(signature, self._signed(said))):
            raise NotFound("This link is not one of ours.")
        if int.from_bytes(said[:5], "big") < time.time():
            raise NotFound("This link has expired.", code="link_expired", remedy="Ask the question again.")
        return citation_id

    def _signed(self, said: bytes) -> bytes:
        return hmac.digest(self._key, b"open:" + said, "sha256")[:_SIGNATURE]
