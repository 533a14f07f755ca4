"""`/v1`, byte by byte, over a real socket. `make interop` asks the same of the real clients."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import orjson
import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, chunk, json_reply, stream_of

from .support import HANDBOOK, Served

ANSWER = ["The harbour closes ", "at ten in the evening [1]", "."]
MESSAGES = [{"role": "user", "content": "When does the harbour close?"}]


def asked(notebook: str, **values: Any) -> dict[str, Any]:
    return {"model": notebook, "messages": MESSAGES, **values}


def post(served: Served, body: Any, **more: Any) -> httpx.Response:
    return served.http.post("/v1/chat/completions", json=body, **more)


def chunks(answer: httpx.Response) -> list[Any]:
    """The data of every event but the last, which is `[DONE]`."""
    events = [e for e in answer.text.split("\n\n") if e and not e.startswith(":")]
    assert all(e.startswith("data: ") and "\n" not in e for e in events)
    assert events[-1] == "data: [DONE]"
    return [orjson.loads(e[6:]) for e in events[:-1]]


def error_of(answer: httpx.Response, status: int, code: str) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["code"] == code
    return error


def test_notebooks_are_models(served: Served, modelled: str) -> None:
    listed = served.http.get("/v1/models").json()
    assert listed["object"] == "list"
    (mine,) = [m for m in listed["data"] if m["id"] == modelled]
    assert (mine["object"], mine["owned_by"], mine["name"]) == ("model", "sourcebook", "Test")
    assert isinstance(mine["created"], int)
    assert served.http.get(f"/v1/models/{modelled}").json() == mine
    error_of(served.http.get("/v1/models/nothing"), 404, "model_not_found")


def test_every_notebook_is_listed_however_many_there_are(served: Served) -> None:
    before = {m["id"] for m in served.http.get("/v1/models").json()["data"]}
    made = {served.notebook() for _ in range(203)}
    assert {m["id"] for m in served.http.get("/v1/models").json()["data"]} == before | made


def test_a_stream_is_role_reasoning_content_annotations_finish_done(
    served: Served, modelled: str, llm: FakeLLMServer
) -> None:
    llm.script(Reply(stream_of(ANSWER, ["Hm, ", "tides."])))
    answer = post(served, asked(modelled, stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = chunks(answer)
    assert {c["object"] for c in found} == {"chat.completion.chunk"}
    assert len({(c["id"], c["created"], c["model"]) for c in found}) == 1
    assert all("usage" not in c for c in found)
    deltas = [c["choices"][0]["delta"] for c in found]
    assert deltas[0] == {"role": "assistant", "content": ""}
    kinds = [next(iter(d), "") for d in deltas[1:]]
    assert kinds == ["reasoning_content"] * 2 + ["content"] * 2 + ["annotations", "content", ""]
    assert "".join(d.get("content", "") for d in deltas) == "".join(ANSWER)
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "Hm, tides."
    assert [c["choices"][0]["finish_reason"] for c in found] == [None] * (len(found) - 1) + ["stop"]
    assert found[-1]["sourcebook"]["grounded"] is True


def test_a_citation_is_an_annotation_whose_address_opens_the_words(
    served: Served, modelled: str, llm: FakeLLMServer
) -> None:
    llm.script(Reply(stream_of(ANSWER)))
    answer = post(served, asked(modelled)).json()
    message = answer["choices"][0]["message"]
    assert (message["role"], message["content"], message["refusal"]) == ("assistant", "".join(ANSWER), None)
    (found,) = message["annotations"]
    assert found["type"] == "url_citation"
    citation = found["url_citation"]
    said = message["content"][citation["start_index"] : citation["end_index"]]
    assert said == "The harbour closes at ten in the evening"
    assert citation["url"].startswith(f"{served.url}/open/")
    assert citation["title"] == "handbook.md"
    page = httpx.get(citation["url"])
    assert page.status_code == 200
    assert "<mark" in page.text


def test_usage_is_told_when_it_is_asked_for(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    llm.script(Reply(stream_of(ANSWER)))
    found = chunks(post(served, asked(modelled, stream=True, stream_options={"include_usage": True})))
    assert [c.get("usage") for c in found[:-1]] == [None] * (len(found) - 1)
    assert all("usage" in c for c in found)
    last = found[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"] > 0
    llm.script(Reply(stream_of(ANSWER)))
    assert post(served, asked(modelled)).json()["usage"] == last["usage"]


def test_earlier_turns_are_history_and_system_messages_are_wishes(
    served: Served, modelled: str, llm: FakeLLMServer
) -> None:
    turns = [
        {"role": "system", "content": "Answer like a pirate."},
        {"role": "user", "content": [{"type": "text", "text": "Is there a lamp?"}]},
        {"role": "assistant", "content": "Yes, on the mole."},
        {"role": "user", "content": "Which colour is it?"},
    ]
    llm.script(Reply(stream_of(["Which colour is the lamp on the mole?"])))  # the condensed question
    llm.script(Reply(stream_of(["Green [1]."])))
    post(served, asked(modelled, messages=turns, temperature=0.5, max_completion_tokens=99, stop="END"))
    sent = llm.requests[-1].json
    assert [m["role"] for m in sent["messages"]] == ["system", "user", "assistant", "user"]
    assert sent["messages"][0]["content"].endswith("Answer like a pirate.")
    assert sent["messages"][1]["content"] == "Is there a lamp?"
    assert "The lamp on the mole is green." in sent["messages"][3]["content"]
    assert (sent["temperature"], sent["max_tokens"], sent["stop"]) == (0.5, 99, ["END"])


def test_unknown_fields_are_ignored(served: Served, modelled: str) -> None:
    body = asked(modelled, user="me", store=False, metadata={"a": "b"}, tools=[], service_tier="auto", n=1)
    assert post(served, body).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}], "tools_unsupported"),
        ("functions", [{"name": "f"}], "tools_unsupported"),
        ("n", 2, "bad_request"),
        ("logprobs", True, "bad_request"),
        ("response_format", {"type": "json_object"}, "bad_request"),
        ("modalities", ["audio"], "bad_request"),
        ("messages", [{"role": "system", "content": "x"}], "bad_request"),
        ("messages", [{"role": "user", "content": " "}], "bad_request"),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "bad_request"),
    ],
)
def test_what_is_not_done_here_is_refused_clearly(
    served: Served, modelled: str, field: str, value: Any, code: str
) -> None:
    for stream in (True, False):
        error = error_of(post(served, {**asked(modelled, stream=stream), field: value}), 400, code)
        assert (error["param"], error["type"]) == (field, "invalid_request_error")
        assert error["message"]


def test_every_error_has_openais_shape(served: Served, keyed: Served, modelled: str, llm: FakeLLMServer) -> None:
    assert error_of(post(served, asked("nb_none")), 404, "model_not_found")["param"] == "model"
    assert error_of(post(served, {"model": modelled}), 422, "invalid_request")["param"] == "messages"
    error_of(served.http.post("/v1/chat/completions", content=b"{"), 422, "invalid_request")
    error_of(served.http.get("/v1/nothing"), 404, "not_found")
    error_of(served.http.put("/v1/models"), 405, "method_not_allowed")
    refused = error_of(post(keyed, asked("x")), 401, "unauthenticated")
    assert refused["type"] == "authentication_error"
    wrong = served.http.get("/v1/models", headers={"Host": "evil.example"})
    error_of(wrong, 421, "host_not_allowed")
    large = served.http.post("/v1/chat/completions", content=b"x" * 5_000_000)
    error_of(large, 413, "too_large")
    llm.script(json_reply({"error": {"message": "slow down"}}, 401))
    assert error_of(post(served, asked(modelled)), 502, "llm_refused")["type"] == "server_error"


def test_a_model_that_breaks_off_is_an_error_and_never_a_short_answer(
    served: Served, modelled: str, llm: FakeLLMServer
) -> None:
    for _ in range(2):
        llm.script(Reply([chunk({"content": "Ten "}), "reset"]))
    error_of(post(served, asked(modelled)), 502, "llm_truncated")
    found = chunks(post(served, asked(modelled, stream=True)))
    assert found[-1]["error"]["code"] == "llm_truncated"
    assert all(c["choices"][0]["finish_reason"] is None for c in found[:-1])


def test_leaving_closes_the_model_at_once(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    for stream in (True, False):
        hold = Hold()
        llm.script(Reply([chunk({"content": "Ten "}), hold]))
        with pytest.raises(httpx.ReadTimeout):
            post(served, asked(modelled, stream=stream), timeout=0.5)
        assert llm.requests[-1].closed.wait(10)


def test_several_notebooks_and_chosen_sources(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    other = served.notebook(pipeline="model")
    source = served.source(other, "lamp.md", b"# Lamps\n\nThe harbour lamp on the pier is blue.\n")
    question = [{"role": "user", "content": "Which harbour lamp is there?"}]
    extras = {"notebooks": [other]}
    llm.script(Reply(stream_of(["Blue [1]."])))
    post(served, asked(modelled, messages=question, sourcebook=extras))
    sent = llm.requests[-1].json["messages"][-1]["content"]
    assert "blue" in sent
    assert "green" in sent
    llm.script(Reply(stream_of(["Blue [1]."])))
    post(served, asked(modelled, messages=question, sourcebook={**extras, "sources": [source["id"]]}))
    assert "green" not in llm.requests[-1].json["messages"][-1]["content"]
    error_of(post(served, asked(modelled, sourcebook={"notebooks": ["nb_none"]})), 404, "not_found")


def test_its_conversations_are_kept_apart(served: Served, modelled: str) -> None:
    post(served, asked(modelled))
    listed = served.http.get("/api/v1/conversations", params={"limit": 200}).json()["items"]
    apart = served.http.get("/api/v1/conversations", params={"origin": "openai"}).json()["items"]
    assert apart
    assert {c["origin"] for c in apart} == {"openai"}
    assert not {c["id"] for c in apart} & {c["id"] for c in listed}


def test_embeddings(served: Served, modelled: str, embedded: str) -> None:
    def embed(**values: Any) -> httpx.Response:
        return served.http.post("/v1/embeddings", json={"model": embedded, **values})

    one = embed(input="The harbour closes at ten.").json()
    assert (one["object"], one["model"], one["data"][0]["object"]) == ("list", embedded, "embedding")
    several = embed(input=[HANDBOOK, "The harbour closes at ten."]).json()
    assert [d["index"] for d in several["data"]] == [0, 1]
    assert several["data"][1]["embedding"] == pytest.approx(one["data"][0]["embedding"])
    packed = embed(input="The harbour closes at ten.", encoding_format="base64").json()
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert len(raw) == 4 * len(one["data"][0]["embedding"])
    by_name = served.http.post("/v1/embeddings", json={"model": "fake", "input": "A"}).json()
    assert len(by_name["data"]) == 1
    assert error_of(embed(input=[1, 2, 3]), 400, "bad_request")["param"] == "input"
    assert error_of(embed(input="A", dimensions=7), 400, "bad_request")["param"] == "dimensions"
    none = served.http.post("/v1/embeddings", json={"model": modelled, "input": "A"})
    assert "no embedder" in error_of(none, 404, "model_not_found")["message"]
