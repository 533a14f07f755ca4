"""Whatever stands in a field is text: no script of the data runs, nothing is fetched, nothing leads elsewhere.

That no script ran, no dialog came up, no policy was violated and no other host was asked is what `visit` checks at the
end of each test. Here stands that the data was on the screen, word by word, and that it became no element.

`make browser` takes a sample through every field, and all at once through an answer; `make proof` takes all of it.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of

from .conftest import Visit
from .driving import answered, answers, ask, cards, expect, open_notebook, viewer
from .payloads import ALL, INSPECT, MARKDOWN, ONE_LINE, PRETENDING, SCRIPTS
from .scenes import pieces
from .serving import PATIENCE, Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

PASSAGE = "The harbour of Tolvane closes at ten in the evening."
A_TURN = 12  # payloads that one notebook holds
PART = [pytest.param(12, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
"""Every so many-th payload."""


def plain_text(text: str) -> str:
    """As a reader sees it: the browser collapses spaces."""
    return re.sub(r"\s+", " ", text).strip()


def seen(page: Page, selector: str) -> set[str]:
    """The texts of these elements."""
    return {plain_text(text) for text in page.locator(selector).all_text_contents()}


def settled(page: Page) -> None:
    """Whatever the data may have started has had its time; then nothing of it is an element."""
    page.wait_for_timeout(150)
    assert page.evaluate(INSPECT) == []


def turns() -> list[Any]:
    """So many at a time; first a few, each of another kind."""
    sample = pytest.param([*SCRIPTS[::30], MARKDOWN[0], *PRETENDING], id="some")
    all_ = [ALL[at : at + A_TURN] for at in range(0, len(ALL), A_TURN)]
    return [sample, *(pytest.param(some, id=str(ALL.index(some[0])), marks=pytest.mark.slow) for some in all_)]


@pytest.mark.parametrize("every", PART)
def test_titles_and_descriptions_of_notebooks(visit: Visit, plain: Sourcebook, every: int) -> None:
    made = [plain.made("/notebooks", {"title": p, "description": p}) for p in ONE_LINE[::every]]
    titles = [notebook["title"] for notebook in made]
    assert len(titles) >= 60 // every
    page = visit(plain).go()
    expect(cards(page).filter(has_text=plain_text(titles[-1])).first).to_be_visible()
    text = plain_text(page.locator("sb-notebooks").inner_text())
    assert not [title for title in titles if plain_text(title) not in text]
    settled(page)
    for notebook in made[::4]:
        open_notebook(page, notebook["id"])
        expect(page).to_have_title(re.compile(re.escape(plain_text(notebook["title"])[:20])))
        settled(page)


@pytest.mark.parametrize("every", PART)
def test_names_tags_and_texts_of_sources(visit: Visit, plain: Sourcebook, every: int) -> None:
    notebook = plain.notebook()
    for payload in ONE_LINE[::every]:
        plain.made(
            f"/notebooks/{notebook}/sources/text",
            {"name": f"{payload[:190]}.md", "text": f"{PASSAGE}\n\n{payload}", "tags": [payload[:100]]},
        )
    deadline = time.monotonic() + PATIENCE
    while (sources := plain.read(f"/notebooks/{notebook}/sources?limit=200")["items"]) and any(
        s["state"] != "ready" for s in sources
    ):
        assert time.monotonic() < deadline, [s for s in sources if s["state"] != "ready"][:3]
        time.sleep(0.2)
    page = visit(plain).page
    open_notebook(page, notebook)
    expect(page.locator("sb-sources .sources > li")).to_have_count(len(sources))
    assert not {plain_text(s["name"]) for s in sources} - seen(page, "sb-sources .source-name")
    assert not {plain_text(tag) for s in sources for tag in s["tags"]} - seen(page, "sb-sources .pill")
    settled(page)
    for source in sources[::3]:
        page.goto(f"/#/n/{notebook}/s/{source['id']}?start=0&end={len(PASSAGE)}")
        expect(viewer(page).locator("mark")).to_have_text(PASSAGE)
        text = plain.read(f"/sources/{source['id']}/text")["text"]
        expect(viewer(page).locator(".source-text")).to_have_text(plain_text(text))
        settled(page)


@pytest.mark.parametrize("payloads", turns())
def test_questions_answers_and_thoughts(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, payloads: list[str]
) -> None:
    """As they stream, as they are rendered in the end, and as they are opened again; as a conversation's title too."""
    notebook = modelled.notebook()
    modelled.text(notebook, "harbour.md", PASSAGE)
    page = visit(modelled).page
    open_notebook(page, notebook)
    for payload in payloads:
        llm.script(Reply(stream_of(pieces(f"{payload}\n\n{PASSAGE} [1]\n"), pieces(payload))))
        ask(page, payload)
        answered(page)
        expect(page.get_by_role("article", name="You asked").last).to_contain_text(plain_text(payload)[:40])
        settled(page)
        page.get_by_role("button", name="New conversation").last.click()
    page.get_by_title("Conversations").click()
    expect(page.get_by_role("menu", name="Conversations").get_by_role("menuitem")).to_have_count(len(payloads))
    settled(page)
    page.keyboard.press("Escape")
    for conversation in modelled.read(f"/conversations?notebook={notebook}")["items"]:
        page.evaluate("([key, id]) => sessionStorage.setItem(key, id)", [f"talk:{notebook}", conversation["id"]])
        page.reload()
        answer = answered(page)
        expect(answer).to_contain_text(PASSAGE)
        if answer.locator("summary").count():
            answer.locator("summary").click()
        settled(page)


def test_a_whole_answer_of_them_in_one_piece(visit: Visit, modelled: Sourcebook, llm: FakeLLMServer) -> None:
    notebook = modelled.notebook()
    modelled.text(notebook, "harbour.md", PASSAGE)
    page = visit(modelled).page
    open_notebook(page, notebook)
    llm.script(Reply(stream_of(["\n\n".join(ALL), f"\n\n{PASSAGE} [1]"], ["\n".join(ALL)])))
    ask(page, "What do you have?")
    expect(answered(page)).to_contain_text(PASSAGE)
    settled(page)
    (link, *_) = page.locator("article.answer a").all()
    assert link.get_attribute("rel") == "noopener noreferrer nofollow ugc"


@pytest.mark.parametrize("every", PART)
def test_notes_as_they_are_listed_read_and_edited(visit: Visit, plain: Sourcebook, every: int) -> None:
    notebook = plain.notebook()
    payloads = ALL[::every]
    for payload in payloads:
        note = {"title": plain_text(payload)[:200], "text": f"{PASSAGE}\n\n{payload}"}
        plain.made(f"/notebooks/{notebook}/notes", note)
    page = visit(plain).page
    open_notebook(page, notebook)
    rows = page.locator("sb-notes .note-open")
    expect(rows).to_have_count(len(payloads))
    settled(page)
    for at in range(len(payloads)):
        rows.nth(at).click()
        expect(page.locator("sb-notes article")).to_contain_text(PASSAGE)
        assert page.evaluate(INSPECT) == []
        if at % 10 == 0:
            page.locator("sb-notes").get_by_role("button", name="Edit").click()
            page.get_by_role("button", name="Preview").click()
            expect(page.get_by_role("region", name="Preview")).to_contain_text(PASSAGE)
            settled(page)
            page.get_by_role("button", name="Cancel").click()
            expect(page.locator("sb-notes article")).to_contain_text(PASSAGE)
        page.locator("sb-notes").get_by_role("button", name="All notes").click()
    settled(page)


def test_problems(visit: Visit, plain: Sourcebook) -> None:
    """A problem's words, a failed source's, and a name that is refused."""
    payload = " ".join((SCRIPTS[0], SCRIPTS[5], SCRIPTS[9], MARKDOWN[0], '"><img src=x onerror=pwned(1)>'))
    problem = {"type": payload, "title": payload, "detail": payload, "remedy": payload, "code": payload, "status": 409}

    def refuse(route: Route) -> None:
        route.fulfill(status=409, content_type="application/problem+json", body=json.dumps(problem))

    def failed(route: Route) -> None:
        answer: Any = route.fetch().json()
        for source in answer["items"]:
            source |= {"state": "failed", "problem": problem}
        route.fulfill(json=answer)

    notebook = plain.notebook()
    plain.text(notebook, "harbour.md", PASSAGE)
    watched = visit(plain)
    page = watched.page
    page.route(f"**/notebooks/{notebook}/sources?**", failed)
    page.route("**/api/v1/chat", refuse)
    open_notebook(page, notebook)
    expect(page.locator("sb-sources .problem")).to_contain_text(payload)
    with watched.expecting(409):
        ask(page, "When?")
        expect(answers(page).last.locator(".note.bad")).to_contain_text(payload)
        settled(page)
        page.route(f"**/api/v1/notebooks/{notebook}?**", refuse)
        page.route(f"**/api/v1/notebooks/{notebook}", refuse)
        page.reload()
        expect(page.get_by_role("link", name="All notebooks")).to_be_visible()
        expect(page.locator("main")).to_contain_text(payload)
        settled(page)


@pytest.mark.parametrize("every", PART)
def test_what_a_file_is_called(visit: Visit, plain: Sourcebook, every: int) -> None:
    watched = visit(plain)
    page = watched.page
    open_notebook(page, plain.notebook())
    names = [f"{p[:150]}.txt" for p in ONE_LINE if "/" not in p and "\0" not in p][:24:every]
    page.evaluate(
        """names => { const data = new DataTransfer();
          for (const name of names) data.items.add(new File(['Text of ' + name], name));
          const drop = new DragEvent('drop', {dataTransfer: data, bubbles: true});
          document.querySelector('sb-sources').dispatchEvent(drop) }""",
        names,
    )
    expect(page.locator("sb-sources .sources > li[data-state=ready]")).to_have_count(len(names), timeout=90_000)
    settled(page)
