"""`GET /api/v1/runs/{id}/trace` over the wire; whose it is, `test_permissions` asks of every route."""

from __future__ import annotations

from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, json_reply, stream_of

from .support import CANARY, HANDBOOK, Served, events, is_problem

QUESTION = "When does the harbour close?"


def test_an_answers_trace_is_told(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    llm.script(Reply(stream_of(["The harbour closes at ten in the evening [1]."])))
    answer = served.http.post("/api/v1/chat", json={"question": QUESTION, "notebooks": [modelled]}).json()
    got = served.http.get(f"/api/v1/runs/{answer['run_id']}/trace")
    assert got.status_code == 200, got.text
    trace = got.json()
    assert trace["run_id"] == answer["run_id"]
    assert trace["llm"] == "fake"
    assert trace["citations"]["made"] == 1
    assert trace["prompt"]["passages"][0]["passage_id"] == answer["citations"][0]["passage_id"]
    model = next(call for call in trace["calls"] if call["kind"] == "llms")
    assert (model["model"], model["provider"]) == ("fake", "openai")
    for line in HANDBOOK.splitlines():
        assert not line.strip("# ") or line.strip("# ") not in got.text


def test_a_failed_answers_trace_says_at_which_call(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    llm.script(json_reply({"error": {"message": f"no such {CANARY}"}}, 404))
    answer = served.http.post("/api/v1/chat", json={"question": QUESTION, "notebooks": [modelled], "stream": True})
    run_id = next(e.data["run_id"] for e in events(answer))
    got = served.http.get(f"/api/v1/runs/{run_id}/trace")
    trace = got.json()
    assert (trace["outcome"], trace["problem"]) == ("failed", "llm_bad_request")
    assert trace["calls"][-1]["failed"] == "LLMError"
    assert CANARY not in got.text


def test_a_run_that_goes_on_has_no_trace_yet(served: Served, modelled: str, llm: FakeLLMServer) -> None:
    gate = Hold()
    llm.script(Reply([*stream_of(["Ten. "])[:2], gate, *stream_of(["Ten [1]."])]))
    asked = {"question": QUESTION, "notebooks": [modelled], "stream": True}
    with served.http.stream("POST", "/api/v1/chat", json=asked) as answer:
        seen = events(answer)
        path = f"/api/v1/runs/{next(seen).data['run_id']}/trace"
        is_problem(served.http.get(path), 409, "run_running")
        gate.release()
        assert [e.type for e in seen][-1] == "done"
        assert served.http.get(path).json()["outcome"] == "done", "it is there when `done` is"


def test_a_run_without_one_says_so(served: Served, handbook: str) -> None:
    answer = served.http.post("/api/v1/chat", json={"question": QUESTION, "notebooks": [handbook]}).json()

    async def forget() -> None:
        async with served.book.database.write() as c:
            await c.exec_driver_sql("DELETE FROM run_traces")

    served.run(forget())
    is_problem(served.http.get(f"/api/v1/runs/{answer['run_id']}/trace"), 404, "no_trace")
