from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from sourcebook.addresses import AddressGuard
from sourcebook.errors import FetchError
from sourcebook.interfaces import Fetched, Fetcher
from sourcebook.testing.components import opened
from sourcebook.testing.fetchers import FetcherContract
from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply
from sourcebook_plugins.web import Web, WebSettings

BYTES = "application/octet-stream"


def port_of(server: FakeLLMServer) -> int:
    return int(server.root.rsplit(":", 1)[1])


def open_to(server: FakeLLMServer, guard: AddressGuard | None = None, **settings: Any) -> Web:
    """A fetcher that an operator has opened to this machine and to the server's port."""
    return Web(WebSettings(allow_private=True, ports=(80, 443, port_of(server)), **settings), guard=guard)


def fetch(web: Web, url: str) -> tuple[Fetched, bytes]:
    async def main() -> Fetched:
        async with opened(web):
            return await web.fetch(url, file)

    file = io.BytesIO()
    return asyncio.run(main()), file.getvalue()


def failure(web: Web, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(web, url)
    return caught.value


def page(body: bytes = b"page", /, **headers: str) -> Reply:
    return Reply([body], headers={name.replace("_", "-"): value for name, value in headers.items()})


def redirect(to: str, status: int = 302) -> Reply:
    return Reply([], status, {"location": to})


class TestContract(FetcherContract):
    blocked = ("http://localhost/", "http://10.0.0.1/", "http://user:pass@example.com/", "ftp://example.com/")

    @contextmanager
    def fetcher(self) -> Iterator[tuple[Fetcher[Any], str, bytes]]:
        with FakeLLMServer() as server:
            server.script(page(b"<p>hello", content_type="text/html; charset=utf-8"), path="/a/page.html")
            web = open_to(server, AddressGuard(allow_private=True, deny=["10.0.0.0/8", "::1/128"], resolver=resolver))
            yield web, f"{server.root}/a/page.html", b"<p>hello"


async def resolver(host: str, port: int) -> Sequence[str]:
    return {"127.0.0.1": ["127.0.0.1"], "10.0.0.1": ["10.0.0.1"], "localhost": ["::1"]}.get(host, ["127.0.0.1"])


# What a fetch tells.


@pytest.mark.parametrize(
    ("path", "headers", "name", "media_type"),
    [
        ("/a/rep%20ort.pdf?x=1", {"content_type": "application/pdf"}, "rep ort.pdf", "application/pdf"),
        ("/a/b/", {"content_type": "Text/HTML; charset=latin-1"}, "b", "text/html"),
        ("/", {}, "127.0.0.1", "application/octet-stream"),
        ("/x", {"content_disposition": 'attachment; filename="r.pdf"'}, "r.pdf", "application/octet-stream"),
        ("/x", {"content_disposition": "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"}, "größe.txt", BYTES),
        ("/x", {"content_disposition": 'attachment; filename="../../etc/passwd"'}, "passwd", BYTES),
        ("/x", {"content_disposition": 'attachment; filename="a\\\\b\\\\c.txt"'}, "c.txt", BYTES),
        ("/x", {"content_disposition": "attachment; filename*=nonsense''a"}, "a", BYTES),
        ("/x", {"content_disposition": 'attachment; filename=".."'}, "x", BYTES),
        ("/%2e%2e%2f%2e%2e%2fsecret", {}, "secret", BYTES),
    ],
)  # fmt: skip
def test_name_and_type_come_from_the_headers_or_the_path(
    path: str, headers: dict[str, str], name: str, media_type: str
) -> None:
    with FakeLLMServer() as server:
        server.script(page(b"page", **headers), path=path)
        found, body = fetch(open_to(server), server.root + path)
        assert server.requests[0].path == path
    assert (found.name, found.media_type, body) == (name, media_type, b"page")


def test_metadata_keeps_what_helps_later() -> None:
    with FakeLLMServer() as server:
        server.script(page(etag='"1"', last_modified="then", content_type="text/html;charset='utf-8'"), path="/x")
        found, _ = fetch(open_to(server), f"{server.root}/x#part")
    assert found.metadata == {"etag": '"1"', "last_modified": "then", "charset": "utf-8", "fetched_from": "127.0.0.1"}


def test_no_cookie_and_no_referrer_is_sent_after_a_redirect() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([], 302, {"location": "/b", "set-cookie": "a=b"}), path="/a")
        server.script(page(), path="/b")
        found, _ = fetch(open_to(server, user_agent="us"), f"{server.root}/a")
        assert found.url == f"{server.root}/b"
        assert server.requests[1].headers["user-agent"] == "us"
        assert not {"cookie", "referer", "authorization"} & set(server.requests[1].headers)


# Where it does not go.


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "//example.com/", "example.com", "",
        "http://", "http:///x", "http://user@example.com/", "http://user:pass@example.com/", "http://@example.com/",
        "http://example.com:22/", "http://example.com:8080/", "http://example.com:0/", "http://example.com:99999/",
        "http://example.com:x/", "http://example.com\\@127.0.0.1/", "http://127.0.0.1\\.example.com/",
        "http://exam ple.com/", "http://example.com/\r\nx: y", "http://example.com/\x00", "\thttp://example.com/",
        "http://[::1", "http://example.com/" + "a" * 9000,
    ],
)  # fmt: skip
def test_an_address_that_is_not_fetched_is_blocked_before_any_look_up(url: str) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError("resolved")

    assert failure(Web(WebSettings(), guard=AddressGuard(resolver=never)), url).problem_code == "fetch_blocked"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254",
     "100.64.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fec0::1]", "[::127.0.0.1]", "224.0.0.1"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_not_connected_to(host: str) -> None:
    with FakeLLMServer() as server:
        web = Web(WebSettings(ports=(port_of(server),)))
        error = failure(web, f"http://{host}:{port_of(server)}/")
        assert error.problem_code in {"fetch_blocked", "fetch_failed"}
        assert server.connections == 0
    if host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "100.64.0.1"):
        assert error.problem_code == "fetch_blocked"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    ["http://inside.test:{port}/", "http://169.254.169.254/latest", "//inside.test:{port}/", "http://10.0.0.1/"],
)
def test_a_redirect_to_an_address_that_is_not_public_is_not_followed(status: int, target: str) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return {"page.test": ["127.0.0.1"], "inside.test": ["127.0.0.2"]}.get(host, [host])

    with FakeLLMServer() as server:
        server.script(redirect(target.format(port=port_of(server)), status), path="/a")
        # 127.0.0.1 stands for a public address here, all else of this machine and its networks is shut.
        guard = AddressGuard(allow_private=True, deny=["127.0.0.2/32", "10.0.0.0/8"], resolver=resolver)
        error = failure(open_to(server, guard), f"http://page.test:{port_of(server)}/a")
        assert error.problem_code == "fetch_blocked"
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "target", ["ftp://a.test/", "file:///etc/passwd", "http://u:p@a.test/", "http://a.test:22/", "http://["]
)
def test_a_redirect_is_checked_like_the_first_address(target: str) -> None:
    with FakeLLMServer() as server:
        server.script(redirect(target), path="/a")
        assert failure(open_to(server), f"{server.root}/a").problem_code == "fetch_blocked"


def test_every_connection_is_to_an_address_resolved_once_for_it() -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if asked.count(host) == 1 else ["127.0.0.2"]  # the second answer is the attacker's

    with FakeLLMServer() as server:
        server.script(redirect(f"http://b.test:{port_of(server)}/b"), path="/a")
        server.script(page(), path="/b")
        guard = AddressGuard(allow_private=True, deny=["127.0.0.2/32"], resolver=resolver)
        fetch(open_to(server, guard), f"http://a.test:{port_of(server)}/a")
    assert asked == ["a.test", "b.test"]


def test_five_redirects_are_followed_and_six_are_not() -> None:
    with FakeLLMServer() as server:
        for n in range(6):
            server.script(*[redirect(f"/{n + 1}")] * 2, path=f"/{n}")
        server.script(page(), path="/6")
        assert fetch(open_to(server), f"{server.root}/1")[0].url == f"{server.root}/6"
        error = failure(open_to(server), f"{server.root}/0")
    assert (error.problem_code, "redirects" in error.detail) == ("fetch_failed", True)


def test_a_redirect_to_nowhere_fails() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([], 302, {}), path="/a")
        assert failure(open_to(server), f"{server.root}/a").problem_code == "fetch_failed"


# How much, and how long.


def test_a_declared_size_over_the_limit_is_not_read() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n", Hold()], framing="raw"), path="/x")
        assert failure(open_to(server, max_bytes=1000), f"{server.root}/x").problem_code == "fetch_too_large"
        assert server.wait_for_connections(0)


def test_a_body_that_grows_over_the_limit_is_stopped() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"x" * 600, b"x" * 600, Hold()], headers={}), path="/x")
        assert failure(open_to(server, max_bytes=1000), f"{server.root}/x").problem_code == "fetch_too_large"


def test_a_body_of_exactly_the_limit_is_kept() -> None:
    with FakeLLMServer() as server:
        server.script(page(b"x" * 1000), path="/x")
        assert fetch(open_to(server, max_bytes=1000), f"{server.root}/x")[1] == b"x" * 1000


def test_the_deadline_is_for_all_hops_together() -> None:
    with FakeLLMServer() as server:
        for n in range(5):
            server.script(Reply([0.1], 302, {"location": f"/{n + 1}"}, framing="close"), path=f"/{n}")
            server.script(Reply([b"HTTP/1.1 302 Found\r\n", 0.1, b"location: /x\r\n\r\n"], framing="raw"), path="/x")
        error = failure(open_to(server, total=0.25), f"{server.root}/x")
    assert (error.problem_code, error.transient) == ("fetch_failed", True)
    assert error.details["cause"] == "upstream_total_timeout"


@pytest.mark.parametrize(("status", "transient"), [(404, False), (403, False), (429, True), (503, True), (304, False)])
def test_a_status_that_is_no_success_fails(status: int, transient: bool) -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"no"], status, {"retry-after": "9"}), path="/x")
        error = failure(open_to(server), f"{server.root}/x")
    assert (error.problem_code, error.transient, error.details["status"]) == ("fetch_failed", transient, status)
    assert error.retry_after == 9.0


def test_a_cut_body_fails() -> None:
    with FakeLLMServer() as server:
        server.script(Reply([b"half", "close"], headers={}), path="/x")
        assert failure(open_to(server), f"{server.root}/x").problem_code == "fetch_failed"


def test_settings_refuse_networks_that_are_none() -> None:
    with pytest.raises(ValidationError, match="deny"):
        WebSettings(deny=("not a network",))
