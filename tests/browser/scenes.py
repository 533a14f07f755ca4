"""The main states of the page, as the bundled example shows them: for axe-core and for pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of

from .driving import answers, cards, chip, expect, open_notebook, turn_to, viewer
from .serving import Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

QUESTION = "When was the light on Candle Rock first lit, and how does a boat come in by it?"
REASONING = (
    "The reader wants a date, and what to do on the way in. The section on Candle Rock has the date in its first "
    "sentence; the way in has a section of its own. Who kept the light is worth a line."
)
_ANSWER = """\
The light on Candle Rock was first lit on 2 November 1871 [{rock}]. It burned colza oil, then paraffin, and from 1938 \
electricity that came through a cable on the bed of the bay [{rock}]. The last of its keepers, **Edwin Hallow**, was \
taken off on 30 June 1986, when the light became automatic [{rock}].

To come in:

- Keep the light well to starboard until the two white marks on the Old Quay come into line [{way}].
- Call the harbour on channel 12 when the rock is abeam [{way}].
- Wait outside the West Arm if nobody answers [{way}].

Their diaries were destroyed by a fire in 1958 [{rock}].
"""
_NOTES = (
    ("Gate and tide", "The sill gate opens **two hours before** high water.\n\n- Ask about force 9\n"),
    ("For the visit", "1. Call on channel 12\n2. Wait outside the West Arm if nobody answers\n"),
)


@dataclass
class Example:
    """The bundled example on a server with a model, with one conversation and three notes."""

    server: Sourcebook
    notebook: str
    conversation: str
    message: str
    citation: Any


def answer_for(server: Sourcebook, notebook: str) -> str:
    """The model's answer, with the numbers that the passages have in its prompt."""
    asked = {"question": QUESTION, "notebooks": [notebook], "stream": False}
    passages = server.made("/chat", asked)["retrieval"]["passages"]
    numbers = {
        name: next(p["n"] for p in passages if words in p["text"])
        for name, words in {"rock": "first lit on 2 November 1871", "way": "well to starboard"}.items()
    }
    return _ANSWER.format(**numbers)


def example_on(server: Sourcebook, llm: FakeLLMServer) -> Example:
    """Make it, through the API alone."""
    notebook = server.made("/notebooks/example", None)["id"]
    for source in server.read(f"/notebooks/{notebook}/sources")["items"]:
        assert server.ended(source["id"])["state"] == "ready"
    text = answer_for(server, notebook)
    for conversation in server.read(f"/conversations?notebook={notebook}")[
        "items"
    ]:  # the one that only asked for the numbers
        server.call("DELETE", f"/conversations/{conversation['id']}")
    llm.script(Reply(stream_of(pieces(text), pieces(REASONING))))
    made = server.made("/chat", {"question": QUESTION, "notebooks": [notebook], "stream": False})
    assert made["text"] == text
    doubted = [text[c["answer_start"] : c["answer_end"]] for c in made["citations"] if not c["supported"]]
    assert ["diaries" in sentence for sentence in doubted] == [True], doubted
    server.made(f"/notebooks/{notebook}/notes", {"message_id": made["message_id"], "title": "Candle Rock"})
    for title, note in _NOTES:
        server.made(f"/notebooks/{notebook}/notes", {"title": title, "text": note})
    return Example(server, notebook, made["conversation_id"], made["message_id"], made["citations"][0])


def pieces(text: str, length: int = 7) -> list[str]:
    """A text as a model's server sends it."""
    return [text[i : i + length] for i in range(0, len(text), length)]


def first(page: Page, example: Example) -> None:
    """The first run: what stands in the place of a list that is empty."""
    page.route("**/api/v1/notebooks?*", lambda route: route.fulfill(json={"items": [], "next_cursor": None}))
    page.goto("/#/")
    expect(page.get_by_role("button", name="Try the example")).to_be_visible()


def notebooks(page: Page, example: Example) -> None:
    """The list."""
    page.goto("/#/")
    expect(page.get_by_role("heading", name="Notebooks", exact=True)).to_be_visible()
    expect(cards(page).first).to_be_visible()


def empty(page: Page, example: Example) -> None:
    """A notebook in which nothing is yet."""
    found = [n for n in example.server.read("/notebooks")["items"] if n["title"] == "A new notebook"]
    open_notebook(page, found[0]["id"] if found else example.server.notebook("A new notebook"))
    expect(page.get_by_text("What would you like to know?")).to_be_visible()


def answer(page: Page, example: Example) -> None:
    """A conversation with an answer, its citations and one sentence that nothing supports."""
    open_notebook(page, example.notebook)
    page.evaluate(
        "([notebook, talk]) => sessionStorage.setItem(`talk:${notebook}`, talk)",
        [example.notebook, example.conversation],
    )
    page.reload()
    expect(answers(page)).to_contain_text("first lit on 2 November 1871")
    expect(answers(page).get_by_role("button", name="Save to notes")).to_be_visible()


def source(page: Page, example: Example) -> None:
    """The page that a citation stands on, its words marked."""
    answer(page, example)
    chip(page, example.citation["n"]).first.click()
    expect(viewer(page).get_by_role("img")).to_be_visible()
    expect(viewer(page).get_by_role("region", name="Page of the source")).not_to_have_attribute("aria-busy", "true")
    page.mouse.move(0, 0)


def notes(page: Page, example: Example) -> None:
    """The notes of a notebook."""
    answer(page, example)
    turn_to(page, "Notes")
    expect(page.get_by_text("Gate and tide")).to_be_visible()


def status(page: Page, example: Example) -> None:
    """What runs, and how it is."""
    page.goto("/#/status")
    expect(page.get_by_role("heading", name="Status", exact=True)).to_be_visible()
    expect(page.get_by_text("webui").first).to_be_visible()


SCENES: dict[str, Callable[[Page, Example], None]] = {
    scene.__name__: scene for scene in (first, notebooks, empty, answer, source, notes, status)
}
