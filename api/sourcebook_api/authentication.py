"""From a request's headers to the principal who sent it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping

from sourcebook.app import Sourcebook
from sourcebook.errors import SourcebookError, Unauthenticated
from sourcebook.owners import Principal
from sourcebook_api.hosts import Hosts

log = logging.getLogger(__name__)

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_REMEMBER = 1.0  # seconds for which "there is no key" is believed
_REMEDY = "Send `Authorization: Bearer <key>`; `sourcebook keys create` makes one."


class Authenticator:
    """Asks the plugins first, then for a key; without any active key, this machine alone is the owner `local`."""

    def __init__(self, book: Sourcebook, hosts: Hosts) -> None:
        self._book = book
        self._hosts = hosts
        self._local: Principal | None = None
        self._keyless_until = 0.0

    async def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who asks, from lower-cased headers. Raises `Unauthenticated`, also where a plugin fails."""
        try:
            named = await self._book.plugins.authenticate(headers, self._book)
        except Exception as error:  # a security hook fails closed, whatever went wrong in it
            log.warning("a plugin's authenticate failed, so the request is denied: %r", error)
            raise Unauthenticated("This request could not be authenticated.", remedy=_REMEDY) from error
        if named is not None:
            return named
        if await self._keyless():
            return await self._local_principal()
        secret = _secret(headers)
        if not secret:
            raise Unauthenticated("This request carries no key.", remedy=_REMEDY)
        return await self._book.owners.authenticate(secret)

    async def maybe(self, headers: Mapping[str, str]) -> Principal | None:
        """The same for what is open to all: None where nobody can be told."""
        try:
            return await self.principal(headers)
        except SourcebookError:
            return None

    def forget(self) -> None:
        """Keys have changed."""
        self._keyless_until = 0.0

    async def _keyless(self) -> bool:
        if not self._hosts.only_loopback:
            return False
        if time.monotonic() < self._keyless_until:
            return True
        if await self._book.owners.any_keys():
            return False
        self._keyless_until = time.monotonic() + _REMEMBER
        return True

    async def _local_principal(self) -> Principal:
        if self._local is None:
            self._local = await self._book.owners.local()
        return self._local


def _secret(headers: Mapping[str, str]) -> str:
    bearer = _BEARER.fullmatch(headers.get("authorization", ""))
    return bearer[1] if bearer else headers.get("x-api-key", "")
