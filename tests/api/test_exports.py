"""Notes and conversations as files, over HTTP, read back by our own parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of

from .support import Served, is_problem
from .test_conversations import ask

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
ANSWER = "The harbour closes at ten in the evening [1]. The **lamp** on the mole is green [1][2]."


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that knows its address."""
    links = {"links": {"public_url": "https://books.example"}}
    with Served(tmp_path_factory.mktemp("public"), links) as server:
        yield server


def kept(served: Served, notebook: str, answer: Any, **body: Any) -> Any:
    made = served.http.post(f"/api/v1/notebooks/{notebook}/notes", json={"message_id": answer["message_id"], **body})
    assert made.status_code == 201, made.text
    return made.json()


def two_sources(served: Served) -> str:
    """A notebook, answered by the fake model, in which a question finds two passages."""
    notebook = served.notebook(pipeline="model")
    served.source(notebook)
    served.source(notebook, "lamp.md", b"# Lamps\n\nThe lamp on the mole is green, says the harbour board.\n")
    return notebook


def export(served: Served, path: str, kind: str, lang: str = "en") -> Any:
    answer = served.http.get(f"/api/v1/{path}/export", params={"format": kind, "lang": lang})
    assert answer.status_code == 200, answer.text
    return answer


def read_back(served: Served, data: bytes) -> str:
    """The text of an exported Word document, as the server reads one that is uploaded."""
    source = served.source(served.notebook(), "export.docx", data)
    assert source["state"] == "ready", source["problem"]
    return str(served.http.get(f"/api/v1/sources/{source['id']}/text").json()["text"])


def test_a_note_is_exported_with_its_references(public: Served) -> None:
    notebook = public.notebook()
    public.source(notebook)
    note = kept(public, notebook, ask(public, notebook), title="Hours")
    got = export(public, f"notes/{note['id']}", "md")
    assert got.headers["content-type"] == "text/markdown; charset=utf-8"
    assert 'attachment; filename="Hours.md"' in got.headers["content-disposition"]
    assert "sandbox" in got.headers["content-security-policy"]
    title, text, references = re.split(r"\n\n(?:## References\n\n)?", got.text.strip(), maxsplit=2)
    assert title == "# Hours"
    assert "[1]" in text
    assert "**handbook.md**, Harbour: “The harbour closes at ten in the evening.”" in references
    (link,) = re.findall(r"<https://books\.example(/open/[^>]+)>", references)
    assert public.http.get(link).status_code == 200
    word = export(public, f"notes/{note['id']}", "docx")
    assert word.headers["content-type"] == DOCX
    told = read_back(public, word.content)
    assert told.startswith("Hours\n")
    assert "handbook.md, Harbour: “The harbour closes at ten in the evening.”" in told


def test_without_a_public_address_no_link_is_made(served: Served, handbook: str) -> None:
    note = kept(served, handbook, ask(served, handbook))
    assert "/open/" not in export(served, f"notes/{note['id']}", "md").text


def test_a_conversation_numbers_every_passage_once(served: Served, llm: FakeLLMServer) -> None:
    notebook = two_sources(served)
    llm.script(Reply(stream_of([ANSWER])))
    first = ask(served, notebook)
    llm.script(Reply(stream_of(["Does it?"])), Reply(stream_of(["It is green [2], I think [9]."])))
    ask(served, notebook, question="And the lamp?", conversation_id=first["conversation_id"])
    path = f"conversations/{first['conversation_id']}"
    text = export(served, path, "md").text
    assert text.startswith("# When does the harbour close?\n\n## When does the harbour close?\n\n")
    assert "## And the lamp?" in text
    body, _, references = text.partition("## References")
    numbers = [int(n) for marker in re.findall(r"\[([\d, ]+)\]", body) for n in marker.split(",")]
    assert {*numbers} == {int(n) for n in re.findall(r"^\\\[(\d+)\\\]", references, re.MULTILINE)}
    assert 9 not in numbers
    assert ("handbook" in references, "lamp.md" in references) == (True, True)
    told = read_back(served, export(served, path, "docx").content)
    assert "The lamp on the mole is green" in told


def test_a_removed_source_is_said_to_be_removed_at_once(served: Served) -> None:
    notebook = served.notebook()
    source = served.source(notebook)
    note = kept(served, notebook, ask(served, notebook))
    (before,) = note["citations"]
    assert (before["source_name"], before["places"], before["removed_at"]) == (
        "handbook.md",
        [{"path": ["Harbour"], "paragraph": 2}],
        None,
    )
    assert served.http.delete(f"/api/v1/sources/{source['id']}").status_code == 202
    (after,) = served.http.get(f"/api/v1/notes/{note['id']}").json()["citations"]
    assert after["removed_at"]
    assert (after["source_name"], after["quote"], after["document_id"], after["places"]) == (None, "", None, None)
    text = export(served, f"notes/{note['id']}", "md").text
    assert "the source has been removed" in text
    assert "handbook" not in text
    assert "die Quelle wurde gelöscht" in export(served, f"notes/{note['id']}", "md", "de").text


def test_a_selection_keeps_the_citations_that_it_names(served: Served, llm: FakeLLMServer) -> None:
    notebook = two_sources(served)
    llm.script(Reply(stream_of(["It closes at ten in the evening [1]. The lamp is green [2]."])))
    answer = ask(served, notebook)
    assert {c["n"] for c in answer["citations"]} == {1, 2}
    note = kept(served, notebook, answer, text="The lamp is green [2].")
    assert (note["text"], note["title"]) == ("The lamp is green [2].", "The lamp is green [2].")
    assert [c["n"] for c in note["citations"]] == [2]
    assert kept(served, notebook, answer, text="Nothing is named.")["citations"] == []


HOSTILE = "=cmd|' /C calc'!A0\u202e../../etc/passwd\u0007<b>"


@pytest.mark.parametrize("kind", ["md", "docx"])
def test_hostile_titles_make_harmless_names(served: Served, handbook: str, kind: str) -> None:
    made = served.http.post(
        f"/api/v1/notebooks/{handbook}/notes", json={"title": HOSTILE, "text": "![x](//evil.example)"}
    )
    got = export(served, f"notes/{made.json()['id']}", kind)
    said = got.headers["content-disposition"]
    assert re.fullmatch(r"attachment; filename=\"[\w .()-]+\"; filename\*=UTF-8''[\w.%!'()-]+", said), said
    assert not re.search(r"=\"?[=+@.-]|%2F|%5C|%0|%E2%80%AE", said.replace("filename*=UTF-8''", ""))
    if kind == "md":
        assert "![" not in got.text


def test_a_name_that_is_nothing_but_signs_is_given_one(served: Served, handbook: str) -> None:
    made = served.http.post(f"/api/v1/notebooks/{handbook}/notes", json={"title": "///...", "text": "x"}).json()
    assert 'filename="export.md"' in export(served, f"notes/{made['id']}", "md").headers["content-disposition"]


def test_another_format_is_refused_and_a_word_document_has_a_limit(served: Served, handbook: str) -> None:
    notes = f"/api/v1/notebooks/{handbook}/notes"
    note = served.http.post(notes, json={"text": "x"}).json()["id"]
    for wrong in ({"format": "pdf"}, {"lang": "xx"}):
        is_problem(served.http.get(f"/api/v1/notes/{note}/export", params=wrong), 422, "invalid_request")
    talk = served.http.post("/api/v1/conversations", json={"notebooks": [handbook], "title": ""}).json()["id"]
    assert export(served, f"conversations/{talk}", "md").text == "# Conversation\n"
    assert export(served, f"conversations/{talk}", "md", "de").text == "# Gespräch\n"
