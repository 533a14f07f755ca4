"""The page in a real Chromium: its size, the first view, and the longest task of the reader's thread.

A task that takes over 50 ms is one in which a click waits: the trace of the browser says how long each took. Measured
on what is heavy for a page: an answer of 10,000 tokens as fast as it comes and at a model's pace, and a notebook of
1,000 sources. Needs Debian's chromium and `playwright` (in the extra `dev`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import Words, machine, median, table, workspace
from serving import Server, serving

from sourcebook.testing.llm_server import FakeLLMServer, Reply, Step, stream_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = 50.0  # ms: the browsers' own word for a task that is felt
_PACE = 0.1  # seconds between the pushes of a paced answer
_CATEGORIES = ["toplevel", "devtools.timeline"]
_VIEW = ".cards"
_SETTINGS = {"SOURCEBOOK_LIMITS__REQUESTS": "0"}


@dataclass(frozen=True)
class Task:
    """Milliseconds: by the clock, and of processor time, which other processes of a busy machine do not lengthen."""

    took: float
    worked: float


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
def traced(browser: Browser, page: Page, tasks: list[Task]) -> Iterator[None]:
    """Fills `tasks` with every task of the page's main thread meanwhile."""
    browser.start_tracing(page=page, categories=_CATEGORIES)
    yield
    events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    names = ("RunTask", "ThreadControllerImpl::RunTask")
    ours = [e for e in events if e["name"] in names and "dur" in e and (e["pid"], e["tid"]) in mains]
    tasks += [Task(e["dur"] / 1000, e.get("tdur", e["dur"]) / 1000) for e in ours]


def asked(browser: Browser, server: Server, llm: FakeLLMServer, notebook: str, steps: list[Step]) -> list[Task]:
    """The tasks while an answer of these steps is asked for, streams, and is put in its final form."""
    llm.script(Reply(steps))
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"{server.url}/#/n/{notebook}")
    page.get_by_label("Question", exact=True).fill("ba den fi gor?")
    tasks: list[Task] = []
    with traced(browser, page, tasks):
        page.get_by_role("button", name="Send", exact=True).click()
        page.locator("article.answer .tools").wait_for(timeout=300_000)
        page.wait_for_timeout(1000)
    context.close()
    return tasks


def paced(texts: list[str], pace: int) -> list[Step]:
    """The same answer at `pace` tokens a second, as a server sends them: some at a time."""
    some = max(1, int(pace * _PACE))
    whole = stream_of(texts)
    pauses: list[Step] = []
    for at in range(0, len(whole), some):
        pauses += [*whole[at : at + some], _PACE]
    return pauses


def opened(browser: Browser, server: Server, notebook: str, count: int) -> list[Task]:
    """The tasks while a notebook of `count` sources is opened, scrolled through and searched."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"{server.url}/#/status")
    page.locator("sb-status table").first.wait_for()
    tasks: list[Task] = []
    with traced(browser, page, tasks):
        page.evaluate("id => { location.hash = `#/n/${id}` }", notebook)
        page.locator(f"sb-sources .sources > li:nth-child({count})").wait_for(state="attached", timeout=300_000)
        page.locator("sb-sources .scroll").hover()
        for _ in range(20):
            page.mouse.wheel(0, 3000)
            page.wait_for_timeout(50)
        page.get_by_role("searchbox").fill("text 1")
        page.wait_for_timeout(1000)
    context.close()
    return tasks


def filled(server: Server, count: int) -> str:
    """A notebook with so many sources, all read."""
    notebook = str(server.call("POST", "/notebooks", {"title": "Many"})["id"])
    for i in range(count):
        text = {"name": f"text {i}.md", "text": f"Text {i}. {Words(i).paragraph(40)}"}
        server.call("POST", f"/notebooks/{notebook}/sources/text", text)
    deadline = time.monotonic() + 600
    while server.call("GET", f"/notebooks/{notebook}?counts=true")["counts"]["ready"] < count:
        if time.monotonic() > deadline:
            raise SystemExit("the sources were not ready in time")
        time.sleep(0.5)
    return notebook


def row(what: str, tasks: list[Task]) -> tuple[str, ...]:
    """A line of the table."""
    longest = max(task.worked for task in tasks)
    longs = sum(task.worked > LONG for task in tasks)
    walls = f"{max(task.took for task in tasks):.0f}"
    return (
        what,
        f"{longest:.0f}",
        f"{longest / LONG:.2f}",
        str(longs),
        f"{sum(t.worked for t in tasks) / 1000:.1f}",
        walls,
    )


def main() -> None:
    """Measure, and print the longest task of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--sources", type=int, default=1_000)
    parser.add_argument("--quick", action="store_true", help="little of everything: to see that it runs")
    given = parser.parse_args()
    if shutil.which("chromium") is None:
        print("page: skipped, there is no chromium (apt.txt names the package)")
        return
    tokens, sources, rounds = (300, 20, 2) if given.quick else (given.tokens, given.sources, 7)
    texts = answer_of(tokens)
    rows: list[tuple[str, ...]] = []
    with workspace("page") as folder, FakeLLMServer() as llm:
        model = f'{{use = "openai", base_url = "{llm.url}", model = "fake"}}'
        (folder / "sourcebook.toml").write_text(f'pipelines.default.llm = ["fake"]\nllms.fake = {model}\n')
        with serving(folder, _SETTINGS) as server, chromium() as browser:
            notebook = server.notebook_with(Words(2).paragraph(500))
            views = [first_view(browser, server.url) for _ in range(rounds + 1)][1:]
            rows.append(
                row(f"{tokens:,} tokens, as they come", asked(browser, server, llm, notebook, stream_of(texts)))
            )
            for pace in (100, 1000):
                tasks = asked(browser, server, llm, notebook, paced(texts, pace * (10 if given.quick else 1)))
                rows.append(row(f"{tokens:,} tokens, {pace} a second", tasks))
            many = filled(server, sources)
            rows.append(row(f"{sources:,} sources", opened(browser, server, many, sources)))
    print("page: what a reader waits for")
    print(machine())
    total, files = size()
    print(f"size: {total:,} bytes in {files} files")
    print(f"first view: {median(views):.0f} ms, {min(views):.0f} to {max(views):.0f}")
    print()
    table(("main thread", "longest ms", f"to {LONG:.0f} ms", "over it", "busy s", "longest ms by the clock"), rows)
    print()
    for what, _, ratio, *_ in rows:
        print(f"ratio  {what}: longest task / {LONG:.0f} ms: {ratio}")


def answer_of(tokens: int) -> list[str]:
    """Paragraphs with a list, bold words and a citation now and then, a word a token."""
    words = Words(3).some(tokens)
    for i in range(0, tokens, 60):
        words[i] = f"\n\n- **{words[i]}**" if i % 240 == 0 else f"\n\n{words[i].capitalize()}"
        if i:
            words[i - 1] += " [1]."
    return [f" {word}" for word in words]


if __name__ == "__main__":
    main()
