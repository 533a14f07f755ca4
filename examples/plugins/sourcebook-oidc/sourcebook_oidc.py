"""Lets people in by the access tokens of an OpenID Connect provider: `Authorization: Bearer <JWT>`.

The provider's keys are found as OpenID Connect Discovery 1.0 says, and kept; a token is checked as RFC 9068 says:
signature, issuer, audience, expiry. A request without a token, or with a key of Sourcebook's own, is none of ours.

Settings come from the environment, since an `authenticate` plugin is no component: OIDC_ISSUER, OIDC_AUDIENCE, and
maybe OIDC_PERMISSIONS_CLAIM (default `scope`, in which `sourcebook:read`, `:write` and `:admin` count).
"""

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sourcebook import hookimpl
from sourcebook.errors import ConfigError
from sourcebook.owners import PERMISSIONS, Principal

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook

API_VERSION = 1
_KEEP_KEYS = 3600.0  # seconds
_KEYS_AT_MOST_EVERY = 30.0  # seconds: a made-up key id must not make us ask the provider each time
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class Provider:
    """One provider, with its keys."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        try:
            self.issuer, self.audience = environ["OIDC_ISSUER"].rstrip("/"), environ["OIDC_AUDIENCE"]
        except KeyError as error:
            raise ConfigError(f"sourcebook-oidc needs the environment variable {error}.") from error
        self._claim = environ.get("OIDC_PERMISSIONS_CLAIM", "scope")
        self._keys: dict[str, Any] = {}
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def principal(self, token: str, app: "Sourcebook") -> Principal | None:
        """Whose token it is; None where it is no JWT, or not from here. Raises where it is not valid."""
        import jwt

        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            if jwt.decode(token, options={"verify_signature": False}).get("iss", "").rstrip("/") != self.issuer:
                return None
        except jwt.InvalidTokenError:
            return None
        claims = jwt.decode(
            token,
            await self._key(kid, app),
            algorithms=_ALGORITHMS,
            audience=self.audience,
            options={"require": ["exp", "iss", "sub", "aud"]},
            leeway=30,
        )
        given = claims.get(self._claim, "")
        words = set(given.split() if isinstance(given, str) else given)
        permissions = frozenset(p for p in PERMISSIONS if f"sourcebook:{p}" in words)
        # The subject is unique within its issuer only, and never reused: no name or address is.
        owner = await app.owners.ensure(f"{self.issuer}#{claims['sub']}")
        return Principal(owner, str(claims.get("email") or claims["sub"]), permissions)

    async def _key(self, kid: str, app: "Sourcebook") -> Any:
        async with self._asking:
            age = time.monotonic() - self._asked
            if age > _KEEP_KEYS or (kid not in self._keys and age > _KEYS_AT_MOST_EVERY):
                self._keys, self._asked = await self._fetch(app), time.monotonic()
        return self._keys[kid]

    async def _fetch(self, app: "Sourcebook") -> dict[str, Any]:
        import jwt

        found = await _get(app, f"{self.issuer}/.well-known/openid-configuration")
        keys = await _get(app, found["jwks_uri"])
        return {k["kid"]: jwt.PyJWK(k).key for k in keys["keys"] if "kid" in k and k.get("use", "sig") == "sig"}


async def _get(app: "Sourcebook", url: str) -> Any:
    answer = await app.http.request("GET", url)
    if answer.status != 200:
        raise ConnectionError(f"{url} answered {answer.status}")
    return answer.json()


class Oidc:
    """The hooks. `startup` refuses a server without its settings, rather than the first request."""

    provider: Provider | None = None

    @hookimpl
    async def startup(self) -> None:
        self.provider = Provider(os.environ)

    @hookimpl
    async def authenticate(self, headers: Mapping[str, str], app: "Sourcebook") -> Principal | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self.provider is None or scheme.lower() != "bearer" or token.count(".") != 2:
            return None
        return await self.provider.principal(token.strip(), app)  # what raises is a 401, with the reason in the log


plugin = Oidc()
