from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.addresses import AddressGuard
from sourcebook.errors import UpstreamError
from sourcebook.http import Http, Timeouts
from sourcebook.testing.llm_server import FakeLLMServer, Recorded, Reply

BLOCKED = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
    "not an address", "", "2130706433",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1"]


@pytest.mark.parametrize("address", BLOCKED)
def test_an_address_that_is_not_public_is_not_allowed(address: str) -> None:
    assert not AddressGuard().allows(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert AddressGuard().allows(address)


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_maps(address: object) -> None:
    guard = AddressGuard()
    assert guard.allows(f"::ffff:{address}") == guard.allows(str(address))


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "192.168.0.1", "::1", "fc00::1", "1.1.1.1"])
def test_an_operator_may_open_private_networks(address: str) -> None:
    assert AddressGuard(allow_private=True).allows(address)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::1", "::ffff:a9fe:a9fe"]
)
def test_metadata_services_stay_shut_when_private_networks_are_open(address: str) -> None:
    assert not AddressGuard(allow_private=True).allows(address)


def test_a_denied_network_is_not_allowed() -> None:
    assert not AddressGuard(deny=["1.1.1.0/24"]).allows("1.1.1.1")


def test_the_machines_own_address_is_not_allowed_even_if_it_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket:
        """A kernel that routes 1.1.1.1 to itself and everything else through 9.9.9.9."""

        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Socket:
            return self

        def __exit__(self, *_: object) -> None: ...

        def connect(self, where: tuple[str, int]) -> None:
            self.name = (where[0] if where[0] == "1.1.1.1" else "9.9.9.9", 5)

        def getsockname(self) -> tuple[str, int]:
            return self.name

    monkeypatch.setattr("sourcebook.addresses.socket.socket", Socket)
    assert not AddressGuard().allows("1.1.1.1")
    assert AddressGuard().allows("8.8.8.8")


def test_the_kernel_sends_from_an_address_of_ours_to_itself() -> None:
    from sourcebook.addresses import _is_own

    assert _is_own(ip_address("127.0.0.1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return  # no route out of this machine: nothing more to see
        assert _is_own(ip_address(probe.getsockname()[0]))
        assert not _is_own(ip_address("192.0.2.1"))


async def refused(host: str, guard: AddressGuard, port: int = 80) -> UpstreamError:
    http = Http(guard=guard, timeouts=Timeouts(connect=5))
    try:
        with pytest.raises(UpstreamError) as caught:
            await http.request("GET", f"http://{host}:{port}/")
        return caught.value
    finally:
        await http.aclose()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "0", "[::1]", "[::ffff:127.0.0.1]",
     "[::ffff:7f00:1]", "169.254.169.254", "100.64.0.1", "[64:ff9b::a9fe:a9fe]", "127.0.0.1.", "LOCALHOST"],
)  # fmt: skip
def test_no_connection_is_made_however_the_host_is_spelt(host: str) -> None:
    with FakeLLMServer() as server:
        error = asyncio.run(refused(host, AddressGuard(), int(server.root.rsplit(":", 1)[1])))
        # A resolver may refuse to read odd spellings; what counts is that nobody knocked.
        assert error.problem_code in {"upstream_blocked", "upstream_unreachable", "upstream_bad_request"}
        assert server.connections == 0


def test_one_bad_answer_among_good_ones_is_enough_to_refuse() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["1.1.1.1", "127.0.0.1"]

    error = asyncio.run(refused("mixed.test", AddressGuard(resolver=resolver)))
    assert error.problem_code == "upstream_blocked"
    assert "127.0.0.1" not in str(error.problem())


def test_a_name_is_resolved_once_and_the_connection_goes_to_what_was_checked() -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.66"]  # the second answer is the attacker's

    with FakeLLMServer() as server:

        async def fetch() -> None:
            # A guard that lets only the first answer through: the connection must go there.
            http = Http(guard=AddressGuard(allow_private=True, deny=["127.0.0.66/32"], resolver=resolver))
            port = server.root.rsplit(":", 1)[1]
            answer = await http.request("GET", f"http://rebind.test:{port}/v1/models")
            assert answer.status == 200
            await http.aclose()

        asyncio.run(fetch())
        assert asked == ["rebind.test"]
        assert server.requests[0].headers["host"].startswith("rebind.test:")


def test_the_next_address_is_tried_when_the_first_refuses() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.99", "127.0.0.1"]  # the server listens on the second alone

    with FakeLLMServer() as server:

        async def fetch() -> int:
            http = Http(guard=AddressGuard(allow_private=True, resolver=resolver))
            answer = await http.request("GET", f"http://two.test:{server.root.rsplit(':', 1)[1]}/v1/models")
            await http.aclose()
            return answer.status

        assert asyncio.run(fetch()) == 200


def test_a_name_without_addresses_is_unreachable() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert asyncio.run(refused("nowhere.test", AddressGuard(resolver=resolver))).problem_code == "upstream_unreachable"


def test_a_slow_resolver_ends_at_the_connect_deadline() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(3600)
        return []

    async def fetch() -> None:
        http = Http(guard=AddressGuard(resolver=resolver), timeouts=Timeouts(connect=0.05))
        with pytest.raises(UpstreamError) as caught:
            await http.request("GET", "http://slow.test/")
        assert caught.value.problem_code == "upstream_connect_timeout"
        await http.aclose()

    asyncio.run(fetch())


def test_a_guard_and_a_proxy_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="proxy"):
        Http(guard=AddressGuard(), proxy="http://127.0.0.1:1")


def test_the_pool_still_takes_our_backend() -> None:
    """The guard stands on httpcore's `network_backend`: if that went away, nothing would be checked."""
    seen: list[str] = []

    class Guard(AddressGuard):
        async def addresses(self, host: str, port: int) -> Sequence[str]:
            seen.append(host)
            return ["127.0.0.1"]

    with FakeLLMServer() as server:
        server.script(Reply([b"{}"]), path="/x")

        async def fetch() -> list[Recorded]:
            http = Http(guard=Guard())
            await http.request("GET", f"{server.root}/x")
            await http.aclose()
            return server.requests

        assert len(asyncio.run(fetch())) == 1
    assert seen == ["127.0.0.1"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key for `tls.test`, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tls.test"
    command += f" -addext subjectAltName=DNS:tls.test -keyout {path} -out {path}.crt"
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


async def to_here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@pytest.mark.parametrize(
    ("trusted", "host", "code"),
    [(True, "tls.test", ""), (True, "other.test", "upstream_unreachable"), (False, "tls.test", "upstream_unreachable")],
)
def test_tls_is_checked_against_the_name_that_was_asked_for(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, host: str, code: str
) -> None:
    """Though a guarded client connects to an address: the name is what the certificate must hold."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    else:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeLLMServer(tls=context) as server:
        url = server.root.replace("127.0.0.1", host) + "/v1/models"

        async def use() -> str:
            http = Http(guard=AddressGuard(allow_private=True, resolver=to_here))
            try:
                return str((await http.request("GET", url)).status)
            except UpstreamError as error:
                return error.problem_code
            finally:
                await http.aclose()

        assert asyncio.run(use()) == (code or "200")
        assert len(server.requests) == (0 if code else 1)
