"""Search, chat and runs, over a real socket."""

from __future__ import annotations

import httpx
import pytest

from sourcebook.testing.llm_server import ANSWER, FakeLLMServer, Hold, Reply, chunk, json_reply, stream_of

from .support import Served, events, is_problem

QUESTION = "When does the harbour close?"


def asked(notebook: str, **values: object) -> dict[str, object]:
    return {"question": QUESTION, "notebooks": [notebook], **values}


def test_search_gives_passages_that_can_be_opened(served: Served, handbook: str) -> None:
    found = served.http.post("/api/v1/search", json=asked(handbook, limit=3)).json()
    best = found["items"][0]
    assert "closes at ten" in best["text"]
    assert 0 < best["score"] <= 1
    assert found["queries"] == [QUESTION]
    assert served.http.get(f"/api/v1/passages/{best['passage_id']}").json()["text"] == best["text"]


def test_search_is_narrowed_to_the_sources_that_are_named(served: Served, handbook: str) -> None:
    body = asked(handbook, sources=["src_none"])
    assert served.http.post("/api/v1/search", json=body).json()["items"] == []


def test_json_chat_is_one_whole_answer(served: Served, handbook: str) -> None:
    answer = served.http.post("/api/v1/chat", json=asked(handbook)).json()
    assert (answer["finish"], answer["message_state"]) == ("stop", "complete")
    assert "The harbour closes at ten in the evening." in answer["text"]
    (citation,) = answer["citations"]
    text = served.http.get(f"/api/v1/sources/{citation['source_id']}/text").json()["text"]
    assert text[citation["start"] : citation["end"]] == citation["quote"]
    assert answer["retrieval"]["passages"][citation["n"] - 1]["passage_id"] == citation["passage_id"]
    assert answer["usage"]["llm"] == "extractive"
    stored = served.http.get(f"/api/v1/citations/{citation['id']}").json()
    assert (stored["quote"], stored["places"]) == (citation["quote"], citation["places"])
    talk = served.http.get(f"/api/v1/conversations/{answer['conversation_id']}").json()
    assert [m["role"] for m in talk["messages"]] == ["user", "assistant"]
    assert [c["id"] for c in talk["messages"][1]["citations"]] == [citation["id"]]
    assert talk["id"] in [c["id"] for c in served.http.get("/api/v1/conversations").json()["items"]]


def test_a_conversation_goes_on_in_its_notebooks(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    first = served.http.post("/api/v1/chat", json=asked(modelled)).json()
    body = {"question": "And the lamp?", "conversation_id": first["conversation_id"]}
    second = served.http.post("/api/v1/chat", json=body).json()
    assert (second["conversation_id"], second["text"]) == (first["conversation_id"], ANSWER)
    sent = [m["content"] for m in llm.requests[-1].json["messages"]]
    assert any(QUESTION in content for content in sent)
    is_problem(served.http.post("/api/v1/chat", json={"question": "Where?"}), 422, "invalid_request")


def test_events_come_in_order_and_end_with_one_done(served: Served, handbook: str) -> None:
    headers = {"Accept": "text/event-stream"}
    with served.http.stream("POST", "/api/v1/chat", json=asked(handbook), headers=headers) as answer:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        seen = list(events(answer))
    run = seen[0].data["run_id"]
    assert [e.id for e in seen] == [f"{run}:{n}" for n in range(1, len(seen) + 1)]
    types = [e.type for e in seen]
    assert types[:2] == ["run.started", "retrieval"]
    assert (types.count("done"), types[-1]) == (1, "done")
    assert "".join(e.data["delta"] for e in seen if e.type == "content") == seen[-1].data["text"]


def test_content_arrives_before_the_model_has_finished(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    hold = Hold()
    llm.script(Reply([chunk({"content": "Ten "}), hold, *stream_of(["o'clock."])]))
    with served.http.stream("POST", "/api/v1/chat", json=asked(modelled, stream=True)) as answer:
        coming = events(answer)
        first = next(e for e in coming if e.type == "content")
        assert first.data["delta"] == "Ten "
        assert hold.reached.wait(10)
        assert not llm.requests[-1].finished.is_set()
        hold.release()
        assert list(coming)[-1].data["text"] == "Ten o'clock."


def test_leaving_a_stream_closes_the_model(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    hold = Hold()
    llm.script(Reply([chunk({"content": "Ten "}), hold]))
    with served.http.stream("POST", "/api/v1/chat", json=asked(modelled, stream=True)) as answer:
        first = next(e for e in events(answer) if e.type == "content")
    assert llm.requests[-1].closed.wait(10)
    run = first.data["run_id"]
    with served.http.stream("GET", f"/api/v1/runs/{run}/events") as replay:
        done = list(events(replay))[-1]
    assert (done.data["finish"], done.data["text"], done.data["message_state"]) == ("cancelled", "Ten ", "incomplete")


def test_leaving_while_nothing_was_said_closes_the_model_too(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    for body in (asked(modelled, stream=True), asked(modelled, stream=False)):
        hold = Hold()
        llm.script(Reply([hold]))
        with pytest.raises(httpx.ReadTimeout):
            served.http.post("/api/v1/chat", json=body, timeout=0.5)
        assert hold.reached.wait(10)
        assert llm.requests[-1].closed.wait(10)


def test_a_resumed_run_gives_exactly_the_rest(served: Served, handbook: str) -> None:
    with served.http.stream("POST", "/api/v1/chat", json=asked(handbook, stream=True)) as answer:
        seen = list(events(answer))
    run, middle = seen[0].data["run_id"], seen[len(seen) // 2]
    url = f"/api/v1/runs/{run}/events"
    for options in (
        {"headers": {"Last-Event-ID": middle.id}},
        {"params": {"after": middle.data["seq"]}},
    ):
        with served.http.stream("GET", url, **options) as answer:
            rest = list(events(answer))
        assert [(e.id, e.data) for e in rest] == [(e.id, e.data) for e in seen[len(seen) // 2 + 1 :]]
    is_problem(served.http.get(url, headers={"Last-Event-ID": "run_other:3"}), 422, "invalid_request")


def test_two_followers_get_the_same_and_one_leaving_does_not_end_the_other(
    served: Served, modelled: str, llm: FakeLLMServer
) -> None:
    hold = Hold()
    llm.script(Reply([chunk({"content": "Ten "}), hold, *stream_of(["o'clock."])]))
    with served.http.stream("POST", "/api/v1/chat", json=asked(modelled, stream=True)) as first:
        followed = events(first)  # held: dropping it would close the connection
        run = next(followed).data["run_id"]
        second = served.http.send(served.http.build_request("GET", f"/api/v1/runs/{run}/events"), stream=True)
        coming = events(second)
        assert next(coming).type == "run.started"
    assert hold.reached.wait(10)
    hold.release()
    assert list(coming)[-1].data["text"] == "Ten o'clock."
    second.close()


def test_a_cancelled_run_keeps_what_was_made(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    hold = Hold()
    llm.script(Reply([chunk({"content": "Ten "}), hold]))
    with served.http.stream("POST", "/api/v1/chat", json=asked(modelled, stream=True)) as answer:
        coming = events(answer)
        run = next(e for e in coming if e.type == "content").data["run_id"]
        cancelled = served.http.post(f"/api/v1/runs/{run}/cancel")
        assert cancelled.json()["state"] == "cancelled"
        done = list(coming)[-1]
    assert llm.requests[-1].closed.wait(10)
    assert (done.type, done.data["text"]) == ("done", "Ten ")
    assert served.http.post(f"/api/v1/runs/{run}/cancel").json() == served.http.get(f"/api/v1/runs/{run}").json()


def test_a_model_that_fails_before_its_first_word_is_a_problem(
    served: Served, modelled: str, llm: FakeLLMServer
) -> None:
    refused = json_reply({"error": {"message": "no such model"}}, 404)
    llm.script(refused)
    answer = served.http.post("/api/v1/chat", json=asked(modelled))
    problem = is_problem(answer, 502, answer.json()["code"])
    assert problem["code"].startswith("llm_")
    llm.script(refused)
    with served.http.stream("POST", "/api/v1/chat", json=asked(modelled, stream=True)) as streamed:
        assert streamed.status_code == 200
        seen = list(events(streamed))
    assert [e.type for e in seen[-2:]] == ["error", "done"]
    assert seen[-1].data["finish"] == "error"


def test_a_model_that_breaks_off_is_told_of_with_what_it_said(
    served: Served, modelled: str, llm: FakeLLMServer
) -> None:
    llm.script(Reply([chunk({"content": "Ten "}), "reset"]))
    answer = served.http.post("/api/v1/chat", json=asked(modelled))
    assert answer.status_code == 200
    whole = answer.json()
    assert (whole["finish"], whole["text"], whole["message_state"]) == ("error", "Ten ", "incomplete")
    assert whole["problem"]["code"].startswith("llm_")


def test_what_is_wrong_is_told_before_a_stream_begins(served: Served, handbook: str) -> None:
    stream = {"Accept": "text/event-stream"}
    post = served.http.post
    is_problem(post("/api/v1/chat", json=asked("nb_none"), headers=stream), 404, "not_found")
    is_problem(post("/api/v1/chat", json=asked(handbook, question=" "), headers=stream), 422, "invalid_request")
    body = asked(handbook, conversation_id="conv_none")
    is_problem(post("/api/v1/chat", json=body, headers=stream), 404, "not_found")
    is_problem(post("/api/v1/chat", json=asked(handbook, options={"model": "x"})), 422, "invalid_request")
    is_problem(served.http.get("/api/v1/runs/run_none/events"), 404, "not_found")


def test_options_reach_the_model(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    options = {"temperature": 0.5, "max_tokens": 9, "stop": ["END"]}
    served.http.post("/api/v1/chat", json=asked(modelled, options=options))
    assert options.items() <= llm.requests[-1].json.items()
