"""A folder is kept in step with a notebook: the same bytes change nothing, new bytes are a new generation."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from .support import Served, is_problem

OLD, NEW = b"# Lamp\n\nThe lamp is green.\n", b"# Lamp\n\nThe lamp is violet now.\n"


def found(server: Served, notebook: str, **more: Any) -> list[str]:
    asked = {"question": "What colour is the lamp?", "notebooks": [notebook], **more}
    return [i["text"].removeprefix("Lamp\n\n") for i in server.http.post("/api/v1/search", json=asked).json()["items"]]


def settled(server: Served, source_id: str) -> Any:
    """The source once nothing of it is pending."""
    for _ in range(600):
        shown = server.http.get(f"/api/v1/sources/{source_id}").json()
        if shown["state"] in ("ready", "failed") and shown["pending"] is None:
            return shown
        time.sleep(0.05)
    raise AssertionError(shown)


def test_a_name_that_is_put_again_gets_the_new_bytes(served: Served) -> None:
    notebook = served.notebook()
    url = f"/api/v1/notebooks/{notebook}/sources/lamp.md"
    first = served.http.put(url, content=OLD)
    source = settled(served, first.json()["id"])
    assert (served.http.put(url, content=OLD).status_code, source["version"]) == (200, 1)
    again = served.http.put(url, content=NEW)
    assert (again.status_code, again.json()["id"]) == (202, source["id"])
    changed = settled(served, source["id"])
    assert (changed["sha256"], changed["size"]) == (hashlib.sha256(NEW).hexdigest(), len(NEW))
    assert changed["version"] > source["version"]
    assert found(served, notebook) == ["The lamp is violet now."]
    assert len(served.http.get(f"/api/v1/notebooks/{notebook}/sources").json()["items"]) == 1
    assert served.http.get(f"/api/v1/sources/{source['id']}/content").content == NEW


def test_only_where_there_is_none_of_this_name(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources/lamp.md"
    assert served.http.put(url, content=OLD, headers={"If-None-Match": "*"}).status_code == 202
    is_problem(served.http.put(url, content=NEW, headers={"If-None-Match": "*"}), 412, "edited_meanwhile")


def test_content_is_replaced_where_it_is_the_one_that_was_read(served: Served) -> None:
    source = served.source(served.notebook(), "lamp.md", OLD)
    url = f"/api/v1/sources/{source['id']}/content"
    etag = served.http.get(url).headers["etag"]
    same = served.http.put(url, content=OLD, headers={"If-Match": etag})
    assert (same.status_code, same.json()["changed"], same.json()["job_id"]) == (200, False, None)
    is_problem(served.http.put(url, content=NEW, headers={"If-Match": '"other"'}), 412, "edited_meanwhile")
    new = served.http.put(url, content=NEW, headers={"If-Match": etag})
    assert (new.status_code, new.json()["changed"]) == (202, True)
    settled(served, source["id"])
    assert served.http.get(url).headers["etag"] != etag
    is_problem(served.http.put(url, content=OLD, headers={"If-Match": etag}), 412, "edited_meanwhile")


def test_bytes_that_cannot_be_read_leave_what_served(served: Served) -> None:
    notebook = served.notebook()
    source = served.source(notebook, "lamp.txt", b"The lamp is green.")
    served.http.put(f"/api/v1/sources/{source['id']}/content", content=b"  ")
    for _ in range(600):
        shown = served.http.get(f"/api/v1/sources/{source['id']}").json()
        if shown["pending"] is None or shown["pending"]["state"] == "failed":
            break
        time.sleep(0.05)
    assert shown["state"] == "ready"
    assert found(served, notebook) == ["The lamp is green."]


def test_what_filters_know_is_edited_with_its_version(served: Served) -> None:
    notebook = served.notebook()
    source = served.source(notebook, "lamp.md", OLD)
    url = f"/api/v1/sources/{source['id']}"
    etag = served.http.get(url).headers["etag"]
    edited = served.http.patch(url, json={"tags": ["light"], "metadata": {"year": 1}}, headers={"If-Match": etag})
    assert edited.status_code == 200, edited.text
    assert (edited.json()["tags"], edited.json()["metadata"], edited.json()["version"]) == (["light"], {"year": 1}, 2)
    is_problem(served.http.patch(url, json={"name": "x.md"}, headers={"If-Match": etag}), 412, "edited_meanwhile")
    assert served.http.patch(url, json={"name": "../b.md"}).json()["name"] == "b.md"
    settled(served, source["id"])
    for bad in ({"tags": [""]}, {"tags": ["x"] * 51}, {"state": "ready"}, {"metadata": 1}):
        is_problem(served.http.patch(url, json=bad), 422, "invalid_request")


def test_tags_come_with_every_way_in(served: Served) -> None:
    base = f"/api/v1/notebooks/{served.notebook()}/sources"
    text = served.http.post(f"{base}/text", json={"name": "a.md", "text": "A", "tags": ["x"], "metadata": {"y": 1}})
    put = served.http.put(f"{base}/b.md", content=b"# B", params={"tags": ["x", "z"]})
    fields = {"tags": ["x", "w"], "metadata": '{"y": 2}'}
    form = served.http.post(base, files=[("f", ("c.md", b"# C")), ("f", ("d.md", b"# D"))], data=fields)
    assert (text.json()["tags"], text.json()["metadata"]) == (["x"], {"y": 1})
    assert put.json()["tags"] == ["x", "z"]
    assert [i["source"]["tags"] for i in form.json()["items"]] == [["x", "w"]] * 2
    assert form.json()["items"][1]["source"]["metadata"] == {"y": 2}
    for bad in ({"metadata": "[1]"}, {"metadata": "{"}, {"tags": ""}, {"colour": "red"}):
        is_problem(served.http.post(base, files=[("f", ("e.md", b"# E"))], data=bad), 422, "invalid_request")


@pytest.mark.parametrize("header", ["*", 'W/"{}", "x"', '"x", "{}"'])
def test_a_client_that_has_the_bytes_gets_none(served: Served, handbook: str, header: str) -> None:
    source = served.source(handbook)
    url = f"/api/v1/sources/{source['id']}/content"
    given = header.format(source["sha256"])
    answer = served.http.get(url, headers={"If-None-Match": given})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", f'"{source["sha256"]}"')
    assert served.http.get(url, headers={"If-None-Match": f'"{source["sha256"][:-1]}"'}).status_code == 200


def test_a_notebook_that_has_not_changed_is_not_sent(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}"
    etag = served.http.get(url).headers["etag"]
    answer = served.http.get(url, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")
    served.http.patch(url, json={"title": "New"})
    assert served.http.get(url, headers={"If-None-Match": etag}).status_code == 200


def test_an_edit_without_a_version_is_refused_where_the_operator_wants_it(tmp_path: Any) -> None:
    with Served(tmp_path, {"server": {"require_if_match": True}}) as server:
        url = f"/api/v1/notebooks/{server.notebook()}"
        is_problem(server.http.patch(url, json={"title": "x"}), 428, "precondition_required")
        etag = server.http.get(url).headers["etag"]
        assert server.http.patch(url, json={"title": "x"}, headers={"If-Match": etag}).status_code == 200
