"""What a page asks beside the main job: who is it, what is there, how much of it, and something to begin with."""

from __future__ import annotations

import uuid

from sourcebook_api import bundled

from .support import Served, is_problem
from .test_conversations import ask


def test_whoever_asks_is_told_who_they_are(served: Served, keyed: Served) -> None:
    me = served.http.get("/api/v1/me").json()
    assert (me["owner"], me["permissions"], me["local"]) == ("local", ["read", "write", "admin"], True)
    me = keyed.http.get("/api/v1/me", headers=keyed.key("ada", "write", "read")).json()
    assert (me["owner"], me["permissions"], me["local"]) == ("ada", ["read", "write"], False)


def test_pipelines_are_told_to_everybody_and_no_settings_of_theirs(served: Served, keyed: Served) -> None:
    items = keyed.http.get("/api/v1/pipelines", headers=keyed.key("ada", "read"))
    assert {p["name"] for p in items.json()["items"]} == {"default", "secret", "plain"}
    assert "canary" not in items.text
    found = {p["name"]: p for p in served.http.get("/api/v1/pipelines").json()["items"]}
    plain, embedded = found["default"], found["embedded"]
    assert (plain["chunker"], plain["embedder"]) == ({"name": "markdown", "use": "markdown"}, None)
    assert plain["retrievers"] == [{"name": "qdrant", "use": "qdrant"}]
    assert (plain["generates"], found["model"]["generates"]) == (False, True)
    assert embedded["embedder"] == {"name": "fake", "use": "openai"}
    assert found["fine"]["chunker"] == {"name": "fine", "use": "markdown"}


def test_the_example_is_made_with_one_call_and_once_under_a_key(served: Served) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    made, again = (served.http.post("/api/v1/notebooks/example", headers=headers) for _ in range(2))
    assert (made.status_code, again.status_code) == (201, 201)
    notebook = made.json()
    assert again.json() == notebook
    assert notebook["title"] == bundled.TITLE
    sources = served.http.get(f"/api/v1/notebooks/{notebook['id']}/sources").json()["items"]
    assert {s["name"] for s in sources} == {file.name for file in bundled.documents()}
    assert len(sources) == 2
    for source in sources:
        assert served.ready(source["id"])["state"] == "ready"
    question = notebook["metadata"]["questions"][0]
    assert "1871" in ask(served, notebook["id"], question=question)["text"]


def test_a_preview_is_rendered_and_can_do_nothing(served: Served) -> None:
    body = {"text": "**Ebb** ![x](https://evil.example) <script>"}
    html = served.http.post("/api/v1/markdown", json=body).json()["html"]
    assert html == (
        '<p><strong>Ebb</strong> !<a href="https://evil.example" rel="noopener noreferrer nofollow ugc">x</a>'
        " (evil.example) &lt;script&gt;</p>\n"
    )
    assert served.http.post("/api/v1/markdown", json={"text": "x" * 200_001}).json() == {"html": None}


def test_counts_are_told_where_they_are_asked_for(served: Served) -> None:
    notebook = served.notebook()
    url = f"/api/v1/notebooks/{notebook}"
    served.source(notebook)
    ask(served, notebook)
    served.http.post(f"{url}/notes", json={"text": "x"})
    counted = {"sources": 1, "ready": 1, "failed": 0, "working": 0, "notes": 1, "conversations": 1}
    plain = served.http.get(url)
    assert plain.json()["counts"] is None
    whole = served.http.get(url, params={"counts": True}, headers={"If-None-Match": plain.headers["etag"]})
    assert (whole.status_code, whole.json()["counts"]) == (200, counted)
    listed = served.http.get("/api/v1/notebooks", params={"counts": True, "order": "used", "limit": 1}).json()
    assert [(n["id"], n["counts"]) for n in listed["items"]] == [(notebook, counted)]


def test_what_was_used_last_comes_first(served: Served) -> None:
    first, second = served.notebook(title="First"), served.notebook(title="Second")
    served.http.patch(f"/api/v1/notebooks/{first}", json={"description": "x"})
    page = served.http.get("/api/v1/notebooks", params={"order": "used", "limit": 2}).json()
    assert [n["id"] for n in page["items"]] == [first, second]
    params = {"order": "used", "limit": 2, "cursor": page["next_cursor"]}
    more = served.http.get("/api/v1/notebooks", params=params).json()
    assert {first, second}.isdisjoint(n["id"] for n in more["items"])
    params = {"limit": 2, "cursor": page["next_cursor"]}
    is_problem(served.http.get("/api/v1/notebooks", params=params), 422, "invalid_request")


def test_conversations_of_one_notebook_are_listed_and_their_citations_say_where(served: Served) -> None:
    here, there = served.notebook(), served.notebook()
    served.source(here)
    answer = ask(served, here)
    for notebook, found in ((here, [answer["conversation_id"]]), (there, [])):
        listed = served.http.get("/api/v1/conversations", params={"notebook": notebook}).json()["items"]
        assert [c["id"] for c in listed] == found
    url = f"/api/v1/conversations/{answer['conversation_id']}"
    plain, placed = (served.http.get(url, params={"places": places}).json() for places in (False, True))
    assert plain["messages"][1]["citations"][0]["places"] is None
    citation = placed["messages"][1]["citations"][0]
    assert (citation["source_name"], citation["places"]) == ("handbook.md", [{"path": ["Harbour"], "paragraph": 2}])
