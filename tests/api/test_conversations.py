"""Conversations that are made, edited, gone on with and deleted; and notes that keep an answer's citations alive."""

from __future__ import annotations

from typing import Any

import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of

from .support import Served, events, is_problem

QUESTION = "When does the harbour close?"


def ask(served: Served, notebook: str, **values: Any) -> Any:
    answer = served.http.post("/api/v1/chat", json={"question": QUESTION, "notebooks": [notebook], **values})
    assert answer.status_code == 200, answer.text
    return answer.json()


def talk_of(served: Served, answer: Any, **params: Any) -> Any:
    return served.http.get(f"/api/v1/conversations/{answer['conversation_id']}", params=params).json()


def test_a_conversation_is_made_renamed_and_deleted(served: Served, handbook: str) -> None:
    made = served.http.post("/api/v1/conversations", json={"notebooks": [handbook]})
    url = made.headers["location"]
    assert (made.status_code, made.headers["etag"]) == (201, '"v1"')
    assert served.http.get(url).json()["messages"] == []
    answer = ask(served, handbook, notebooks=[], conversation_id=made.json()["id"])
    shown = served.http.get(url)
    assert shown.json()["title"] == QUESTION
    assert [m["id"] for m in shown.json()["messages"]][1:] == [answer["message_id"]]
    renamed = served.http.patch(url, json={"title": "Hours"}, headers={"If-Match": shown.headers["etag"]})
    assert (renamed.json()["title"], renamed.headers["etag"]) == ("Hours", '"v2"')
    stale = served.http.patch(url, json={"title": "Other"}, headers={"If-Match": '"v1"'})
    is_problem(stale, 412, "edited_meanwhile")
    is_problem(served.http.patch(url, json={"notebooks": ["nb_none"]}), 404, "not_found")
    assert served.http.delete(url).status_code == 204
    for gone in (served.http.get(url), served.http.delete(url), served.http.get(f"/api/v1/citations/{_cite(answer)}")):
        is_problem(gone, 404, "not_found")


def test_conversations_are_listed_by_the_notebook_that_they_are_over(served: Served, handbook: str) -> None:
    others = [served.notebook() for _ in range(2)]
    made = {
        name: served.http.post("/api/v1/conversations", json={"notebooks": ids}).json()["id"]
        for name, ids in {"both": others, "first": others[:1], "handbook": [handbook]}.items()
    }

    def listed(notebook: str) -> list[str]:
        page = served.http.get("/api/v1/conversations", params={"notebook": notebook, "limit": 200}).json()
        return [one["id"] for one in page["items"]]

    assert listed(others[0]) == [made["first"], made["both"]]
    assert listed(others[1]) == [made["both"]]
    assert made["handbook"] in listed(handbook)
    assert listed("nb_none") == []


def _cite(answer: Any) -> str:
    return str(answer["citations"][0]["id"])


@pytest.mark.parametrize(
    ("question", "title"),
    [("  Why\n\nso? ", "Why so?"), ("word " * 40, ("word " * 16).strip() + "…"), ("x" * 100, "x" * 79 + "…")],
)
def test_a_title_is_the_first_question_cut_between_words(
    served: Served, handbook: str, question: str, title: str
) -> None:
    assert talk_of(served, ask(served, handbook, question=question))["title"] == title


def test_a_question_is_edited_and_what_came_after_gives_way(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    first = ask(served, modelled)
    second = ask(served, modelled, question="And the tide?", conversation_id=first["conversation_id"])
    asked = [m for m in talk_of(served, second)["messages"] if m["role"] == "user"]
    edited = ask(
        served,
        modelled,
        question="What colour is the lamp?",
        conversation_id=first["conversation_id"],
        replaces=asked[1]["id"],
    )
    texts = [m["text"] for m in talk_of(served, edited)["messages"] if m["role"] == "user"]
    assert texts == [QUESTION, "What colour is the lamp?"]
    everything = talk_of(served, edited, replaced=True)["messages"]
    assert [bool(m["replaced_at"]) for m in everything] == [False, False, True, True, False, False]
    body = {"question": "x", "conversation_id": first["conversation_id"], "replaces": asked[1]["id"]}
    is_problem(served.http.post("/api/v1/chat", json=body), 404, "not_found")
    body = {"question": "x", "notebooks": [modelled], "replaces": asked[1]["id"]}
    is_problem(served.http.post("/api/v1/chat", json=body), 422, "invalid_request")


def test_an_answer_is_made_again(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    llm.script(Reply(stream_of(["One."])))
    first = ask(served, modelled, options={"temperature": 0.25})
    llm.script(Reply(stream_of(["Two."])))
    url = f"/api/v1/messages/{first['message_id']}/regenerate"
    second = served.http.post(url).json()
    assert (second["text"], second["conversation_id"]) == ("Two.", first["conversation_id"])
    assert llm.requests[-1].json["temperature"] == 0.25
    assert [m["text"] for m in talk_of(served, first)["messages"]] == [QUESTION, "Two."]
    is_problem(served.http.post(url), 409, "message_replaced")
    question = talk_of(served, first)["messages"][0]["id"]
    llm.script(Reply(stream_of(["Three."])))
    with served.http.stream("POST", f"/api/v1/messages/{question}/regenerate", params={"stream": True}) as answer:
        assert list(events(answer))[-1].data["text"] == "Three."


def test_what_did_not_fit_the_window_is_told(served: Served, llm: FakeLLMServer) -> None:
    notebook = served.notebook(pipeline="narrow")
    rules = "".join(f"# Rule {n}\n\n{f'The harbour closes at ten, says rule {n}. ' * 20}\n\n" for n in range(8))
    served.source(notebook, "long.md", rules.encode())
    first = ask(served, notebook)
    second = ask(served, notebook, question="Which harbour rules are there? " * 30, **_in(first))
    llm.script(Reply(stream_of(["Does the harbour close at ten by a rule?"])))  # the condensed question
    third = ask(served, notebook, question="Does the harbour close?", **_in(second))
    told = third["retrieval"]
    assert told["dropped"] > 0
    assert told["dropped_turns"] > 0
    assert len(told["warnings"]) == 2
    assert told["passages"]


def _in(answer: Any) -> dict[str, Any]:
    return {"conversation_id": answer["conversation_id"]}


def test_notes_are_written_edited_listed_and_deleted(served: Served, handbook: str) -> None:
    notes = f"/api/v1/notebooks/{handbook}/notes"
    made = served.http.post(notes, json={"title": "Winter", "text": "Ask Ada."})
    url = made.headers["location"]
    assert (made.status_code, made.headers["etag"], made.json()["citations"]) == (201, '"v1"', [])
    edited = served.http.patch(url, json={"text": "Ask Bob."}, headers={"If-Match": '"v1"'})
    assert (edited.json()["title"], edited.json()["text"], edited.headers["etag"]) == ("Winter", "Ask Bob.", '"v2"')
    is_problem(served.http.patch(url, json={"text": "x"}, headers={"If-Match": '"v1"'}), 412, "edited_meanwhile")
    is_problem(served.http.patch(url, json={"text": "x"}, headers={"If-Match": "v2"}), 412, "edited_meanwhile")
    assert made.json()["id"] in [n["id"] for n in served.http.get(notes).json()["items"]]
    assert served.http.delete(url).status_code == 204
    is_problem(served.http.get(url), 404, "not_found")
    is_problem(served.http.post(notes, json={}), 422, "invalid_request")
    for body in ({"message_id": "msg_none"}, {"message_id": "msg_none", "text": "x"}):
        is_problem(served.http.post(notes, json=body), 404, "not_found")


def test_a_note_keeps_an_answers_citations_alive(served: Served, handbook: str) -> None:
    answer = ask(served, handbook)
    notes = f"/api/v1/notebooks/{handbook}/notes"
    question = talk_of(served, answer)["messages"][0]["id"]
    is_problem(served.http.post(notes, json={"message_id": question}), 422, "not_an_answer")
    note = served.http.post(notes, json={"message_id": answer["message_id"]}).json()
    other = served.http.post(notes, json={"message_id": answer["message_id"], "title": "Twice"}).json()
    assert (note["text"], other["title"]) == (answer["text"], "Twice")
    assert [c["id"] for c in note["citations"]] == [c["id"] for c in answer["citations"]]
    assert served.http.delete(f"/api/v1/conversations/{answer['conversation_id']}").status_code == 204
    kept = served.http.get(f"/api/v1/notes/{note['id']}").json()
    (citation,) = kept["citations"]
    assert citation["quote"] == answer["citations"][0]["quote"]
    assert served.http.get(citation["url"]).status_code == 200
    is_problem(served.http.get(f"/api/v1/conversations/{answer['conversation_id']}"), 404, "not_found")
    for n, one in enumerate((note, other)):
        assert served.http.delete(f"/api/v1/notes/{one['id']}").status_code == 204
        assert served.http.get(citation["url"]).status_code == (200 if n == 0 else 404)


def test_a_notes_citations_lose_their_quote_with_their_source(served: Served) -> None:
    notebook = served.notebook()
    source = served.source(notebook)
    answer = ask(served, notebook)
    body = {"message_id": answer["message_id"]}
    note = served.http.post(f"/api/v1/notebooks/{notebook}/notes", json=body).json()
    served.http.delete(f"/api/v1/sources/{source['id']}")
    for _ in range(200):
        (citation,) = served.http.get(f"/api/v1/notes/{note['id']}").json()["citations"]
        if citation["removed_at"]:
            break
    assert (citation["quote"], citation["document_id"]) == ("", None)


def test_nothing_relevant_is_said_and_marked(served: Served, handbook: str, modelled: str, llm: FakeLLMServer) -> None:
    question = "Who composed the opera about Etruscan beekeepers?"
    answer = ask(served, handbook, question=question)
    assert (answer["grounded"], answer["citations"], answer["retrieval"]["passages"]) == (False, [], [])
    ask(served, modelled, question=question)
    assert "nothing was found" in llm.requests[-1].json["messages"][-1]["content"]
    assert ask(served, handbook)["grounded"] is True
