"""A notebook that is shared is there for the other owner too, for what was granted and as long as it was."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .support import Served, is_problem


@pytest.fixture(scope="module")
def owners(keyed: Served) -> dict[str, dict[str, str]]:
    return {name: keyed.key(name, "read", "write") for name in ("lena", "milo", "nora")}


@pytest.fixture(scope="module")
def lent(keyed: Served, owners: dict[str, dict[str, str]]) -> tuple[str, Any]:
    """A notebook of Lena's, and a source in it."""
    notebook = keyed.notebook(owners["lena"])
    return notebook, keyed.source(notebook, headers=owners["lena"])


def share(server: Served, notebook: str, who: dict[str, str], owner: str, permission: str) -> Any:
    url = f"/api/v1/notebooks/{notebook}/shares/{owner}"
    return server.http.put(url, json={"permission": permission}, headers=who)


def test_a_reader_reads_searches_and_asks_and_changes_nothing(
    keyed: Served, owners: dict[str, dict[str, str]], lent: tuple[str, Any]
) -> None:
    notebook, source = lent
    lena, milo = owners["lena"], owners["milo"]
    base = f"/api/v1/notebooks/{notebook}"
    is_problem(keyed.http.get(base, headers=milo), 404, "not_found")
    assert share(keyed, notebook, lena, "milo", "read").status_code == 204
    assert keyed.http.get(base, headers=milo).status_code == 200
    assert notebook in [n["id"] for n in keyed.http.get("/api/v1/notebooks", headers=milo).json()["items"]]
    own = keyed.notebook(milo)
    asked = {"question": "When does the harbour close?", "notebooks": [notebook, own]}
    assert keyed.http.post("/api/v1/search", json=asked, headers=milo).json()["items"]
    answer = keyed.http.post("/api/v1/chat", json=asked, headers=milo).json()
    assert answer["citations"][0]["source_id"] == source["id"]
    for path in ("", "/text", "/content", "/passages"):
        assert keyed.http.get(f"/api/v1/sources/{source['id']}{path}", headers=milo).status_code == 200
    # What Milo asked is Milo's: Lena cannot read it.
    conversation = f"/api/v1/conversations/{answer['conversation_id']}"
    is_problem(keyed.http.get(conversation, headers=lena), 404, "not_found")
    refused = [
        keyed.http.patch(base, json={"title": "Mine"}, headers=milo),
        keyed.http.delete(base, headers=milo),
        keyed.http.put(f"{base}/sources/x.md", content=b"# x", headers=milo),
        keyed.http.delete(f"/api/v1/sources/{source['id']}", headers=milo),
        keyed.http.patch(f"/api/v1/sources/{source['id']}", json={"tags": []}, headers=milo),
        keyed.http.put(f"/api/v1/sources/{source['id']}/content", content=b"x", headers=milo),
        keyed.http.get(f"{base}/shares", headers=milo),
        share(keyed, notebook, milo, "nora", "read"),
        keyed.http.get(f"/api/v1/jobs/{source['job_id']}", headers=milo),
    ]
    for one in refused:
        is_problem(one, 404, "not_found")
    is_problem(keyed.http.get(base, headers=owners["nora"]), 404, "not_found")


def test_a_writer_adds_and_follows_and_does_not_share_or_delete_the_notebook(
    keyed: Served, owners: dict[str, dict[str, str]], lent: tuple[str, Any]
) -> None:
    notebook, _ = lent
    lena, nora = owners["lena"], owners["nora"]
    base = f"/api/v1/notebooks/{notebook}"
    assert share(keyed, notebook, lena, "nora", "write").status_code == 204
    put = keyed.http.put(f"{base}/sources/added.md", content=b"# Added\n\nBy Nora.", headers=nora)
    assert put.status_code == 202
    assert keyed.http.get(f"/api/v1/jobs/{put.json()['job_id']}", headers=nora).status_code == 200
    assert keyed.ready(put.json()["id"], lena)["state"] == "ready"
    assert keyed.http.patch(base, json={"title": "Ours"}, headers=nora).status_code == 200
    for one in (
        keyed.http.delete(base, headers=nora),
        keyed.http.get(f"{base}/shares", headers=nora),
        share(keyed, notebook, nora, "milo", "write"),
        keyed.http.delete(f"{base}/shares/milo", headers=nora),
    ):
        is_problem(one, 404, "not_found")


def test_a_share_is_listed_changed_and_ended(
    keyed: Served, owners: dict[str, dict[str, str]], lent: tuple[str, Any]
) -> None:
    lena, milo = owners["lena"], owners["milo"]
    notebook = keyed.notebook(lena)
    base = f"/api/v1/notebooks/{notebook}"
    share(keyed, notebook, lena, "milo", "read")
    share(keyed, notebook, lena, "milo", "write")
    listed = keyed.http.get(f"{base}/shares", headers=lena).json()["items"]
    assert [(s["owner"], s["permission"]) for s in listed] == [("milo", "write")]
    assert keyed.http.delete(f"{base}/shares/milo", headers=lena).status_code == 204
    is_problem(keyed.http.get(base, headers=milo), 404, "not_found")
    asked = {"question": "When?", "notebooks": [notebook]}
    is_problem(keyed.http.post("/api/v1/search", json=asked, headers=milo), 404, "not_found")
    is_problem(keyed.http.delete(f"{base}/shares/milo", headers=lena), 404, "not_shared")
    is_problem(share(keyed, notebook, lena, "nobody", "read"), 404, "no_such_owner")
    is_problem(share(keyed, notebook, lena, "lena", "read"), 422, "already_owner")
    is_problem(share(keyed, notebook, lena, "milo", "admin"), 422, "invalid_request")


def test_a_key_for_local_has_what_was_made_without_keys(tmp_path: Any) -> None:
    with Served(tmp_path) as server:
        notebook = server.notebook()
        other = server.key("ada", "read", "write")
        deadline = time.monotonic() + 20  # a key that is made beside the server is noticed within a second
        while (closed := server.http.get(f"/api/v1/notebooks/{notebook}")).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        is_problem(closed, 401, "unauthenticated")
        is_problem(server.http.get(f"/api/v1/notebooks/{notebook}", headers=other), 404, "not_found")
        local = server.key("local", "read", "write")
        assert server.http.get(f"/api/v1/notebooks/{notebook}", headers=local).status_code == 200
