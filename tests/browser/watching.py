"""A browser's context, and everything in it that a page must not do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request

# Runs before the page's own code, outside its Content-Security-Policy.
_INSIDE = """
document.addEventListener('securitypolicyviolation', e =>
  window.__told('CSP: ' + e.effectiveDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber), true);
window.addEventListener('unhandledrejection', e => window.__told('unhandled: ' + (e.reason?.stack ?? e.reason)));
window.pwned = what => window.__told('a script of the data ran: ' + what);
"""
_FAILED = re.compile(r"Failed to load resource: (?:.*status of (\d+)|(net::\w+))")


class Watched:
    """One context on one server. `faults`: what went wrong, a line each; none may be left at the end.

    `expected`: status codes and `net::` errors that the test itself brings about, which Chromium logs as errors.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.faults: list[str] = []
        self.expected: set[str] = set()
        self.requests: list[str] = []
        self.context: BrowserContext = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(30_000)
        self.context.expose_function("__told", lambda fault: self.faults.append(fault))
        self.context.add_init_script(_INSIDE)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self.faults.append(f"page error: {error.error}"))
        self.context.on("dialog", self._dialog)
        self.context.on("request", self._request)
        self.page: Page = self.context.new_page()
        self.context.on("page", lambda page: self.faults.append(f"a window was opened: {page.url}"))

    def go(self, path: str = "/") -> Page:
        """Open a path of the server."""
        self.page.goto(path)
        return self.page

    @contextmanager
    def expecting(self, *causes: str | int) -> Iterator[None]:
        """Chromium may log these failures of requests from here on to the end of the block."""
        before = set(self.expected)
        self.expected |= {str(cause) for cause in causes}
        yield
        self.page.wait_for_timeout(50)  # what is logged meanwhile is told in the order of the events
        self.expected = before

    def close(self) -> None:
        """End the context. Raises `AssertionError` with all faults."""
        self.context.close()
        assert not self.faults, "\n".join(self.faults)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "assert"):
            return
        failed = _FAILED.match(message.text)
        if failed and (failed[1] or failed[2]) in self.expected:
            return
        self.faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"a dialog: {dialog.type} {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.url:
            self.faults.append(f"a foreign request: {request.method} {request.url}")


def with_key(key: str) -> Mapping[str, str]:
    """The headers that carry a key."""
    return {"Authorization": f"Bearer {key}"}
