"""The six main states of the page, as the bundled example shows them: for axe-core and for pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of

from .driving import expect, open_notebook
from .serving import Sourcebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

QUESTION = "When was the light on Candle Rock first lit, and who kept it?"
REASONING = (
    "The reader wants a date and the people behind it. The section on Candle Rock has both: the date is in its first "
    "sentence, the keepers come two sentences later. What became of the lens is worth a line."
)
_ANSWER = """\
The light on Candle Rock was first lit on 2 November 1871 [{n}]. It burned colza oil, then paraffin, and from 1938 \
electricity that came through a cable on the bed of the bay [{n}].

Two keepers lived in the tower at a time:

- They stayed six weeks on the rock and three ashore [{keepers}].
- The last of them, **Edwin Hallow**, was taken off on 30 June 1986, when the light became automatic [{keepers}].

The lens of 1871, 412 kilograms of glass and brass, stands in the hall of the harbour office [{keepers}]. Their \
diaries were lost in the flood of 1962 [{n}].
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
        for name, words in {"n": "first lit on 2 November 1871", "keepers": "Edwin Hallow"}.items()
    }
    return _ANSWER.format(**numbers)


def example_on(server: Sourcebook, llm: FakeLLMServer) -> Example:
    """Make it, through the API alone."""
    notebook = server.made("/notebooks/example", None)["id"]
    for source in server.read(f"/notebooks/{notebook}/sources")["items"]:
        assert server.ended(source["id"])["state"] == "ready"
    text = answer_for(server, notebook)
    for conversation in server.read("/conversations")["items"]:  # the one that only asked for the numbers
        server.call("DELETE", f"/conversations/{conversation['id']}")
    llm.script(Reply(stream_of(pieces(text), pieces(REASONING))))
    made = server.made("/chat", {"question": QUESTION, "notebooks": [notebook], "stream": False})
    assert made["text"] == text
    assert [c["supported"] for c in made["citations"]] == [True] * 5 + [False], made["citations"]
    server.made(f"/notebooks/{notebook}/notes", {"message_id": made["message_id"], "title": "Candle Rock"})
    for title, note in _NOTES:
        server.made(f"/notebooks/{notebook}/notes", {"title": title, "text": note})
    return Example(server, notebook, made["conversation_id"], made["message_id"], made["citations"][0])


def pieces(text: str, length: int = 7) -> list[str]:
    """A text as a model's server sends it."""
    return [text[i : i + length] for i in range(0, len(text), length)]


def notebooks(page: Page, example: Example) -> None:
    """The list, with its offer for the first run."""
    page.goto("/#/")
    expect(page.get_by_role("heading", name="Notebooks", exact=True)).to_be_visible()


def empty(page: Page, example: Example) -> None:
    """A notebook in which nothing is yet."""
    made = example.server.notebook("A new notebook")
    open_notebook(page, made)


SCENES: dict[str, Callable[[Page, Example], None]] = {f.__name__: f for f in (notebooks, empty)}
