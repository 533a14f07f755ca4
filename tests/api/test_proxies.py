"""Behind a proxy: whose address limits and the audit log see, and that nobody can choose it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import orjson
import pytest

from sourcebook.configuration import load
from sourcebook.errors import ConfigError
from sourcebook.settings import Server
from sourcebook_api.proxies import Proxies

from .support import Served, is_problem

PROXIES = ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")


def seen(peer: str, forwarded: str, trusted: Sequence[str] = PROXIES) -> str:
    """The address that a request is taken to come from."""
    scope = {"client": (peer, 1234)}
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    Proxies(Server(trusted_proxies=tuple(trusted))).resolve(scope, headers)
    return str(scope["client"][0])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5, 192.0.2.7", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5,10.9.9.9 ,  192.0.2.7", "203.0.113.5"),
        ("2001:db8::1", "2001:4860::8", "2001:4860::8"),
        ("10.0.0.1", "203.0.113.5:4711", "203.0.113.5"),
        ("10.0.0.1", "[2001:4860::8]:4711", "2001:4860::8"),
        ("10.0.0.1", "::ffff:203.0.113.5", "203.0.113.5"),
        ("::ffff:10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),  # all of them ours: whoever is farthest
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_the_last_hop_that_no_trusted_proxy_has_is_the_client(peer: str, forwarded: str, client: str) -> None:
    assert seen(peer, forwarded) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("127.0.0.1, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.9, 203.0.113.5", "203.0.113.5"),  # to call oneself a trusted proxy helps nobody
        ("198.51.100.1, 203.0.113.5, 192.0.2.7", "203.0.113.5"),
        ("203.0.113.5, nobody", "10.0.0.1"),
        ("203.0.113.5, ", "10.0.0.1"),
        ("203.0.113.5, unknown, 192.0.2.7", "192.0.2.7"),
        ("for=203.0.113.5", "10.0.0.1"),
        ("203.0.113.5\\n", "10.0.0.1"),
        ("999.0.113.5", "10.0.0.1"),
        ("fe80::1%eth0", "10.0.0.1"),
    ],
)
def test_what_the_client_wrote_itself_is_not_believed(forwarded: str, client: str) -> None:
    assert seen("10.0.0.1", forwarded) == client


@pytest.mark.parametrize("trusted", [(), ("10.0.0.2",), ("2001:db8::/32",)])
def test_whoever_is_not_trusted_may_write_what_they_like(trusted: Sequence[str]) -> None:
    assert seen("10.0.0.1", "203.0.113.5", trusted) == "10.0.0.1"


def test_a_request_without_a_peer_stays_without_one() -> None:
    scope = {"client": None}
    Proxies(Server(trusted_proxies=PROXIES)).resolve(scope, {"x-forwarded-for": "203.0.113.5"})
    assert scope["client"] is None


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "10.0.0.0/99", "*", ""])
def test_a_proxy_that_is_no_address_is_an_error_of_the_configuration(wrong: str) -> None:
    with pytest.raises(ConfigError, match="an address or a network"):
        load(None, {}, {"server": {"trusted_proxies": [wrong]}})


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = {"server": {"trusted_proxies": ["127.0.0.1"]}, "limits": {"failures": 3}}
    with Served(tmp_path_factory.mktemp("behind"), settings) as server:
        server.key("root", "admin")
        yield server


def refused(server: Served, *forwarded: str) -> int:
    """The status of a request with a key that is none, which came through these hops, one line each."""
    headers = [("X-API-Key", "sbk_none"), *(("X-Forwarded-For", hop) for hop in forwarded)]
    return server.http.get("/api/v1/notebooks", headers=headers).status_code


def test_wrong_keys_are_counted_for_the_client_and_not_for_the_proxy(behind: Served) -> None:
    assert [refused(behind, "203.0.113.1") for _ in range(4)] == [401, 401, 401, 429]
    assert refused(behind, "203.0.113.2") == 401
    # Whoever writes the header themselves is still the one that the proxy saw last.
    assert [refused(behind, f"198.51.100.{n}", "203.0.113.1") for n in range(3)] == [429] * 3


def test_the_audit_log_names_the_client(behind: Served) -> None:
    headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.77"}
    is_problem(behind.http.post("/api/v1/notebooks", json={"title": "A"}, headers=headers), 401, "unauthenticated")
    told: set[str] = set()
    for _ in range(200):
        lines = (behind.book.folder / "audit.log").read_bytes().splitlines()
        if "203.0.113.77" in (told := {orjson.loads(line)["address"] for line in lines}):
            break
        time.sleep(0.05)
    assert "203.0.113.77" in told
    assert "6.6.6.6" not in told


def test_a_reload_changes_who_is_trusted() -> None:
    proxies = Proxies(Server())
    scope = {"client": ("10.0.0.1", 1)}
    proxies.resolve(scope, {"x-forwarded-for": "203.0.113.5"})
    assert scope["client"] == ("10.0.0.1", 1)
    proxies.change(Server(trusted_proxies=("10.0.0.1",)))
    proxies.resolve(scope, {"x-forwarded-for": "203.0.113.5"})
    assert scope["client"] == ("203.0.113.5", 0)
