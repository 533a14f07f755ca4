"""The page in a real Chromium: its size, the first view, and the longest task of the reader's thread.

A task that takes over 50 ms is one in which a click waits: the trace of the browser says how long each took. Measured on
what is heavy for a page: an answer of 10,000 tokens as fast as it comes and at a model's pace, and a notebook of 1,000
sources. Needs Debian's chromium and `playwright` (in the extra `dev`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = 50.0  # ms: the browsers' own word for a task that is felt
_PACE = 0.1  # seconds between the pushes of a paced answer
_CATEGORIES = ["toplevel", "devtools.timeline"]
_VIEW = ".cards"
_SETTINGS = {"SOURCEBOOK_LIMITS__REQUESTS": "0", "SOURCEBOOK_LIMITS__WAITING_JOBS": "0"}


def size() -> tuple[int, int]:
    """Bytes and number of all files that the page consists of."""
    (folder,) = (find_spec("sourcebook_plugins.webui") or sys.exit("no webui")).submodule_search_locations or ("",)
    files = [path for path in (Path(folder) / "static").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files), len(files)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or sys.exit("there is no chromium: apt.txt names the package")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


def first_view(browser: Browser, url: str) -> float:
    """Milliseconds from the request to the list of notebooks on the screen, with nothing in any cache."""
    context = browser.new_context()
    page = context.new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(_VIEW)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    took = time.perf_counter() - began
    context.close()
    return took * 1000


@contextmanager
def traced(browser: Browser, page: Page, tasks: list[float]) -> Iterator[None]:
    """Fills `tasks` with the milliseconds of every task of the page's main thread meanwhile."""
    browser.start_tracing(page=page, categories=_CATEGORIES)
    yield
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    names = ("RunTask", "ThreadControllerImpl::RunTask")
    tasks += [e["dur"] / 1000 for e in events if e["name"] in names and "dur" in e and (e["pid"], e["tid"]) in mains]
