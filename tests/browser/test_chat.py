"""The chat: an answer streams in, is stopped, asked again, edited, and survives lost connections once and whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Hold, Recorded, Reply, Step, chunk, stream_of

from .conftest import Visit
from .driving import answered, answers, ask, below, expect, open_notebook, until
from .serving import Sourcebook
from .wire import Wire

if TYPE_CHECKING:
    from playwright.sync_api import Page

TEXT = "The harbour of Tolvane closes at ten in the evening. The lamp on the mole is green."
QUESTION = "When does the harbour close?"
WORDS = [f"word{i} " for i in range(400)]
LOST = {
    *("net::ERR_CONNECTION_RESET", "net::ERR_EMPTY_RESPONSE", "net::ERR_INCOMPLETE_CHUNKED_ENCODING"),
    *("net::ERR_SOCKET_NOT_CONNECTED", "net::ERR_CONNECTION_CLOSED", "net::ERR_CONNECTION_REFUSED"),
}


def held(*parts: list[Step] | Hold) -> Reply:
    """A streamed answer that waits where a `Hold` stands."""
    steps: list[Step] = [chunk({"role": "assistant", "content": ""})]
    for part in parts:
        steps += [part] if isinstance(part, Hold) else part
    return Reply([*steps, chunk(finish="stop"), b"data: [DONE]\n\n"])


def content(*texts: str) -> list[Step]:
    return [chunk({"content": text}) for text in texts]


def thoughts(*texts: str) -> list[Step]:
    return [chunk({"reasoning_content": text}) for text in texts]


def streamed(llm: FakeLLMServer) -> Recorded:
    """The last request for an answer."""
    return [r for r in llm.requests if r.path.endswith("/chat/completions")][-1]


@pytest.fixture
def notebook(modelled: Sourcebook) -> str:
    """One with a source."""
    made = modelled.notebook()
    modelled.text(made, "harbour.md", TEXT)
    return made


@pytest.fixture
def hold() -> Iterator[Hold]:
    """A point where the model waits; it goes on at the end whatever happened."""
    made = Hold()
    yield made
    made.release()


def test_an_answer_grows_and_its_thoughts_fold_away(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    thinking = Hold()
    llm.script(held(thoughts("First I ", "look it up."), thinking, content("It closes "), hold, content("at ten [1].")))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    answer = answers(page).last
    expect(answer.get_by_text("First I look it up.")).to_be_visible()
    thinking.release()
    expect(answer.locator(".prose")).to_have_text("It closes")
    expect(answer.get_by_text("First I look it up.")).to_be_hidden()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    assert not hold._released.is_set()
    hold.release()
    expect(answered(page).locator(".prose")).to_have_text("It closes at ten1.")
    expect(answer.get_by_role("button", name="Citation 1: harbour.md")).to_be_enabled()
    answer.locator("summary").click()
    expect(answer.get_by_text("First I look it up.")).to_be_visible()


def test_an_answer_is_stopped_and_what_was_written_stays(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    llm.script(held(content("It closes "), hold, content("at ten [1].")))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    expect(answers(page).last.locator(".prose")).to_have_text("It closes")
    page.get_by_role("button", name="Stop").click()
    expect(answered(page).get_by_text("Stopped.", exact=True)).to_be_visible()
    assert streamed(llm).closed.wait(10)
    page.reload()
    expect(answers(page)).to_have_count(1)
    expect(answered(page).locator(".prose")).to_have_text("It closes")
    expect(answered(page).get_by_text("Stopped.", exact=True)).to_be_visible()


@pytest.mark.slow
def test_an_answer_is_asked_for_again_and_takes_the_place(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str
) -> None:
    llm.script(Reply(stream_of(["The first answer [1]."])), Reply(stream_of(["The second answer [1]."])))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    answered(page).get_by_role("button", name="Answer again").click()
    expect(answers(page).last).to_contain_text("The second answer")
    answered(page)
    expect(answers(page)).to_have_count(1)
    page.reload()
    expect(answers(page)).to_have_count(1)
    expect(answers(page)).to_contain_text("The second answer")


def test_a_question_is_edited_and_all_after_it_gives_way(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str
) -> None:
    llm.script(
        Reply(stream_of(["One."])),
        Reply(stream_of(["a condensed question"])),
        Reply(stream_of(["Two."])),
        Reply(stream_of(["Three."])),
    )
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    answered(page)
    ask(page, "And the lamp?")
    expect(answers(page)).to_have_count(2)
    expect(answered(page)).to_contain_text("Two.")
    first = page.get_by_role("article", name="You asked").first
    first.hover()
    first.get_by_role("button", name="Edit question").click()
    page.get_by_label("Question", exact=True).first.fill("Which colour has the lamp?")
    page.get_by_role("button", name="Ask anew").click()
    expect(answers(page)).to_have_count(1)
    expect(answered(page)).to_contain_text("Three.")
    page.reload()
    expect(page.get_by_role("article", name="You asked")).to_have_count(1)
    expect(page.get_by_role("article", name="You asked")).to_contain_text("Which colour has the lamp?")
    expect(answers(page)).to_contain_text("Three.")


def test_a_reload_in_the_middle_goes_on_and_ends_with_the_whole_answer_once(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    llm.script(held(thoughts("Let me see."), content(*WORDS[:200]), hold, content(*WORDS[200:], "[1].")))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    expect(answers(page).last).to_contain_text("word199")
    page.reload()
    expect(answers(page).last).to_contain_text("word199")
    expect(answers(page)).to_have_count(1)
    hold.release()
    expect(answered(page).locator(".prose")).to_have_text("".join(WORDS).strip() + "1.")
    expect(answers(page)).to_have_count(1)
    expect(page.get_by_role("article", name="You asked")).to_have_count(1)
    page.reload()
    expect(answered(page).locator(".prose")).to_have_text("".join(WORDS).strip() + "1.")
    expect(answers(page)).to_have_count(1)


def opened(page: Page, question: str) -> None:
    """Open a conversation from the list."""
    page.get_by_title("Conversations").click()
    page.get_by_role("menu", name="Conversations").get_by_role("menuitem", name=question).click()


def test_an_answer_goes_on_while_its_reader_is_elsewhere(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    later = Hold()
    llm.script(held(content(*WORDS[:100]), hold, content(*WORDS[100:200]), later, content(*WORDS[200:], "[1].")))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    expect(answers(page).last).to_contain_text("word99 ")
    page.get_by_role("button", name="New conversation").last.click()
    expect(answers(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    page.get_by_title("Conversations").click()
    expect(page.get_by_role("menu").get_by_role("img", name="Being answered")).to_be_visible()
    page.keyboard.press("Escape")
    hold.release()
    opened(page, QUESTION)
    expect(answers(page)).to_have_count(1)
    expect(answers(page)).to_contain_text("word199")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.goto("/#/")
    expect(page.get_by_role("heading", name="Notebooks", exact=True)).to_be_visible()
    page.wait_for_timeout(6000)  # more than the server's patience with a run that nobody follows
    assert not streamed(llm).closed.is_set()
    later.release()
    page.goto(f"/#/n/{notebook}")
    expect(answered(page).locator(".prose")).to_have_text("".join(WORDS).strip() + "1.")
    expect(answers(page).get_by_role("button", name="Citation 1: harbour.md")).to_be_enabled()
    expect(answers(page)).to_have_count(1)
    expect(page.get_by_role("article", name="You asked")).to_have_count(1)
    assert page.evaluate("sessionStorage.getItem('runs')") is None


@pytest.mark.slow
def test_what_was_out_of_sight_at_a_reload_goes_on_too(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    llm.script(held(content(*WORDS[:100]), hold, content(*WORDS[100:], "[1].")))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    expect(answers(page).last).to_contain_text("word99 ")
    page.goto("/#/status")
    page.reload()
    page.wait_for_timeout(6000)
    hold.release()
    page.goto(f"/#/n/{notebook}")
    expect(answered(page).locator(".prose")).to_have_text("".join(WORDS).strip() + "1.")
    expect(answers(page)).to_have_count(1)


@pytest.mark.slow
def test_one_is_stopped_and_the_others_go_on(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str
) -> None:
    holds = [Hold() for _ in range(4)]
    llm.script(*[held(content(f"Answer {n} "), hold, content("is whole.")) for n, hold in enumerate(holds)])
    page = visit(modelled).page
    open_notebook(page, notebook)
    for n in range(4):
        ask(page, f"Question {n}?")
        expect(answers(page).last).to_contain_text("Answer")
        page.get_by_role("button", name="New conversation").last.click()
    ask(page, "One too many?")
    expect(page.get_by_role("alert").filter(has_text="Four answers are being written")).to_be_visible()
    opened(page, "Question 2?")
    page.get_by_role("button", name="Stop").click()
    expect(answered(page).get_by_text("Stopped.", exact=True)).to_be_visible()
    for n in (0, 1, 3):
        holds[n].release()
        opened(page, f"Question {n}?")
        expect(answered(page)).to_contain_text("is whole")
        expect(answers(page)).to_have_count(1)


@pytest.mark.slow
def test_an_answer_that_is_stopped_before_its_first_word_can_be_asked_for_again(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    llm.script(held(hold, content("Never.")), Reply(stream_of(["At ten [1]."])))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    page.get_by_role("button", name="Stop").click()
    answered(page).get_by_role("button", name="Answer again").click()
    expect(answers(page).last).to_contain_text("At ten")
    expect(answered(page).get_by_role("button", name="Citation 1: harbour.md")).to_be_enabled()
    expect(answers(page)).to_have_count(1)


def test_a_connection_that_is_cut_is_made_again(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    later = Hold()
    llm.script(held(content(*WORDS[:100]), hold, content(*WORDS[100:200]), later, content(*WORDS[200:], "[1].")))
    with Wire(int(modelled.url.rpartition(":")[2])) as wire:
        watched = visit(wire)
        watched.expected |= LOST  # to the end: whatever is open is cut there too
        page = watched.page
        open_notebook(page, notebook)
        ask(page, QUESTION)
        expect(answers(page).last).to_contain_text("word99 ")
        assert wire.cut() > 0
        hold.release()
        expect(answers(page).last).to_contain_text("word199")
        wire.mended = False
        assert wire.cut() > 0
        later.release()
        page.wait_for_timeout(1500)  # less than the server's patience with a run that nobody follows
        wire.mended = True
        expect(answered(page).locator(".prose")).to_have_text("".join(WORDS).strip() + "1.")
        expect(answers(page)).to_have_count(1)
    (conversation,) = modelled.read(f"/conversations?notebook={notebook}")["items"]
    messages = modelled.read(f"/conversations/{conversation['id']}")["messages"]
    assert [(m["role"], m["state"]) for m in messages] == [("user", "complete"), ("assistant", "complete")]
    assert messages[1]["text"] == "".join(WORDS) + "[1]."


@pytest.mark.slow
def test_a_page_that_was_offline_goes_on(visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str) -> None:
    watched = visit(modelled)
    page = watched.page
    open_notebook(page, notebook)
    with watched.expecting("net::ERR_INTERNET_DISCONNECTED"):
        watched.context.set_offline(True)
        ask(page, QUESTION)
        page.wait_for_timeout(700)
        watched.context.set_offline(False)
        expect(answered(page)).to_contain_text("A scripted answer.")
    expect(answers(page)).to_have_count(1)
    (conversation,) = modelled.read(f"/conversations?notebook={notebook}")["items"]
    assert len(modelled.read(f"/conversations/{conversation['id']}")["messages"]) == 2


@pytest.mark.slow
def test_a_model_that_fails_is_told_with_its_remedy(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str
) -> None:
    llm.script(Reply([b'{"error": {"message": "no such model"}}'], 404, {"content-type": "application/json"}))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    problem = answered(page).locator(".note.bad")
    expect(problem).to_be_visible()
    problem.get_by_role("button", name="Try again").click()
    expect(answers(page).last).to_contain_text("A scripted answer.")
    expect(answers(page)).to_have_count(1)


@pytest.mark.slow
def test_only_ticked_sources_are_asked(visit: Visit, modelled: Sourcebook, notebook: str) -> None:
    other = modelled.text(notebook, "ferry.md", "The ferry to Candle Rock leaves on Thursdays.")["id"]
    page = visit(modelled).page
    open_notebook(page, notebook)
    page.get_by_role("checkbox", name="Use harbour.md for answers").uncheck()
    expect(page.get_by_text("Answers from 1 of 2 sources")).to_be_visible()
    with page.expect_request("**/api/v1/chat") as asked:
        ask(page, QUESTION)
    assert (asked.value.post_data_json or {})["sources"] == [other]
    answered(page)
    page.get_by_role("checkbox", name="Use ferry.md for answers").uncheck()
    ask(page, "And now?")
    expect(page.get_by_role("alert").filter(has_text="No source is ticked")).to_be_visible()


@pytest.mark.slow
def test_conversations_are_listed_named_and_deleted(visit: Visit, modelled: Sourcebook, notebook: str) -> None:
    page = visit(modelled).page
    open_notebook(page, notebook)
    for question in ("When does the harbour close?", "Which colour has the lamp?"):
        ask(page, question)
        answered(page)
        page.get_by_role("button", name="New conversation").last.click()
    chooser = page.get_by_title("Conversations")
    chooser.click()
    talks = page.get_by_role("menu", name="Conversations")
    expect(talks.get_by_role("menuitem")).to_have_count(2)
    talks.get_by_role("menuitem", name="When does the harbour close?").click()
    expect(page.get_by_role("article", name="You asked")).to_contain_text("When does the harbour close?")
    page.get_by_role("button", name="Actions for this conversation").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("dialog").get_by_label("Title").fill("Closing time")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(chooser).to_contain_text("Closing time")
    page.get_by_role("button", name="Actions for this conversation").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("article")).to_have_count(0)
    (left,) = modelled.read(f"/conversations?notebook={notebook}")["items"]
    assert left["title"] == "Which colour has the lamp?"


@pytest.mark.slow
def test_a_conversation_is_opened_at_its_end(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str
) -> None:
    asked = {"question": "Question 0?", "notebooks": [notebook], "stream": False}
    for turn in range(3):
        # A question that follows another is condensed by the model first.
        condensed = [Reply(stream_of(["a question"]))] if turn else []
        llm.script(*condensed, Reply(stream_of([f"Paragraph {i} of turn {turn}. " * 12 + "\n\n" for i in range(12)])))
        asked["conversation_id"] = modelled.made("/chat", asked)["conversation_id"]
    page = visit(modelled).page
    open_notebook(page, notebook)
    page.get_by_title("Conversations").click()
    page.get_by_role("menu", name="Conversations").get_by_role("menuitem", name="Question 0?").click()
    expect(answers(page)).to_have_count(3)
    expect(answers(page).last.get_by_role("button", name="Copy with citations")).to_be_in_viewport()
    page.reload()
    expect(answers(page)).to_have_count(3)
    expect(answers(page).last.get_by_role("button", name="Copy with citations")).to_be_in_viewport()


@pytest.mark.slow
def test_a_reader_who_scrolls_up_is_left_alone(
    visit: Visit, modelled: Sourcebook, llm: FakeLLMServer, notebook: str, hold: Hold
) -> None:
    long = [f"Paragraph {i}. " * 12 + "\n\n" for i in range(30)]
    llm.script(held(content(*long), hold, content(*long, "The end.")))
    page = visit(modelled).page
    open_notebook(page, notebook)
    ask(page, QUESTION)
    expect(answers(page).last).to_contain_text("Paragraph 29.")
    until(page, lambda: below(page) < 60)
    page.get_by_role("region", name="Conversation").hover()
    page.mouse.wheel(0, -1500)
    until(page, lambda: below(page) > 1000)
    hold.release()
    expect(answered(page)).to_contain_text("The end.")
    assert below(page) > 1000
