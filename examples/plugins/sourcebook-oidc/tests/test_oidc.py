import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from sourcebook_oidc import Oidc

AUDIENCE = "sourcebook"


class Provider:
    """A small provider on a real socket. `keys` are those that it publishes."""

    def __init__(self) -> None:
        self.keys = {"first": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.asked: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                body = json.dumps(provider.answer(self.path)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> Any:
        if path == "/keys":
            public = {kid: json.loads(RSAAlgorithm.to_jwk(key.public_key())) for kid, key in self.keys.items()}
            return {"keys": [{**key, "kid": kid, "use": "sig"} for kid, key in public.items()]}
        return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}

    def token(self, kid: str = "first", key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        usual = {"iss": self.issuer, "aud": AUDIENCE, "sub": "u-1", "exp": now + 300, "email": "zoe@example.org"}
        payload = {**usual, "scope": "openid sourcebook:read sourcebook:write", **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, key or self.keys[kid], algorithm, headers={"kid": kid})


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    made = Provider()
    monkeypatch.setenv("OIDC_ISSUER", made.issuer)
    monkeypatch.setenv("OIDC_AUDIENCE", AUDIENCE)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def server(provider: Provider, sourcebook_server: Callable[..., Any]) -> Any:
    started = sourcebook_server(Oidc())
    started.key("root", "admin")  # from now on everybody needs a credential
    return started


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_lets_its_subject_in_and_each_has_notebooks_of_their_own(provider: Provider, server: Any) -> None:
    zoe, eve = bearer(provider.token()), bearer(provider.token(sub="u-2"))
    made = server.json("POST", "/api/v1/notebooks", {"title": "Tides"}, zoe)
    assert [n["id"] for n in server.json("GET", "/api/v1/notebooks", headers=zoe)["items"]] == [made["id"]]
    assert server.json("GET", "/api/v1/notebooks", headers=eve)["items"] == []
    assert server.request("GET", f"/api/v1/notebooks/{made['id']}", headers=eve).status == 404


def test_permissions_come_from_the_scope(provider: Provider, server: Any) -> None:
    reader = bearer(provider.token(scope="openid sourcebook:read"))
    assert server.request("GET", "/api/v1/notebooks", headers=reader).status == 200
    assert server.request("POST", "/api/v1/notebooks", {"title": "x"}, reader).status == 403
    nobody = bearer(provider.token(scope="openid"))
    assert server.request("GET", "/api/v1/notebooks", headers=nobody).status == 403


def test_a_key_of_sourcebooks_own_works_beside_it(server: Any) -> None:
    assert server.request("GET", "/api/v1/notebooks", headers=server.key("robot", "read")).status == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"aud": "somebody-else"},
        {"iss": "https://elsewhere.example"},
        {"exp": None},
        {"sub": None},
        {"nbf": 4_000_000_000},
        {"key": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
        {"key": "a shared secret that is long enough for it", "algorithm": "HS256"},
        {"key": "", "algorithm": "none"},
    ],
    ids=lambda claims: next(iter(claims)) + str(claims.get("algorithm", "")),
)
def test_a_token_that_is_not_right_lets_nobody_in(provider: Provider, server: Any, claims: dict[str, Any]) -> None:
    if claims.get("algorithm") == "none":
        _, body, _ = provider.token().split(".")
        none = jwt.utils.base64url_encode(json.dumps({"alg": "none", "kid": "first"}).encode()).decode()
        token = f"{none}.{body}."
    else:
        token = provider.token(**claims)
    assert server.request("GET", "/api/v1/notebooks", headers=bearer(token)).status == 401


def test_keys_are_fetched_once_and_again_for_a_new_one(provider: Provider, server: Any, monkeypatch: Any) -> None:
    for _ in range(3):
        assert server.request("GET", "/api/v1/notebooks", headers=bearer(provider.token())).status == 200
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]
    provider.keys["second"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert server.request("GET", "/api/v1/notebooks", headers=bearer(provider.token("second"))).status == 401
    monkeypatch.setattr("sourcebook_oidc._KEYS_AT_MOST_EVERY", 0.0)
    assert server.request("GET", "/api/v1/notebooks", headers=bearer(provider.token("second"))).status == 200
