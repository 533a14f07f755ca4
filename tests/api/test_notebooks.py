"""Notebooks over HTTP."""

from __future__ import annotations

from .support import Served, is_problem


def test_a_notebook_is_made_read_listed_edited_and_deleted(served: Served) -> None:
    made = served.http.post("/api/v1/notebooks", json={"title": " Tides ", "metadata": {"year": 2026}})
    assert made.status_code == 201
    notebook = made.json()
    assert (notebook["title"], notebook["metadata"], notebook["version"]) == ("Tides", {"year": 2026}, 1)
    assert made.headers["location"] == f"/api/v1/notebooks/{notebook['id']}"
    assert served.http.get(made.headers["location"]).json() == notebook
    assert notebook in served.http.get("/api/v1/notebooks").json()["items"]
    edited = served.http.patch(made.headers["location"], json={"title": "Ebb"}).json()
    assert (edited["title"], edited["metadata"], edited["version"]) == ("Ebb", {"year": 2026}, 2)
    assert served.http.delete(made.headers["location"]).status_code == 204
    is_problem(served.http.get(made.headers["location"]), 404, "not_found")


def test_an_edit_on_an_old_version_is_refused(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}"
    etag = served.http.get(url).headers["etag"]
    assert served.http.patch(url, json={"title": "One"}, headers={"If-Match": etag}).status_code == 200
    refused = served.http.patch(url, json={"title": "Two"}, headers={"If-Match": etag})
    is_problem(refused, 412, "edited_meanwhile")
    is_problem(served.http.patch(url, json={"title": "Two"}, headers={"If-Match": "W/x"}), 412, "edited_meanwhile")
    assert served.http.patch(url, json={"title": "Two"}, headers={"If-Match": "*"}).json()["title"] == "Two"


def test_a_list_is_read_page_by_page(served: Served) -> None:
    made = [served.notebook(title=f"Page {n}") for n in range(5)]
    first = served.http.get("/api/v1/notebooks", params={"limit": 3}).json()
    second = served.http.get("/api/v1/notebooks", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [n["id"] for n in first["items"] + second["items"]] == made[::-1]
    is_problem(served.http.get("/api/v1/notebooks", params={"cursor": "2"}), 422, "invalid_request")


def test_a_list_is_stable_while_it_is_read(served: Served) -> None:
    made = [served.notebook(title=f"Stable {n}") for n in range(6)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        params: dict[str, str | int] = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = served.http.get("/api/v1/notebooks", params=params).json()
        seen += [n["id"] for n in page["items"]]
        cursor = page["next_cursor"]
        served.notebook(title="Meanwhile")
        served.http.delete(f"/api/v1/notebooks/{seen[-1]}")
    assert seen == made[::-1]


def test_an_unknown_pipeline_is_named_with_the_known_ones(served: Served) -> None:
    problem = is_problem(
        served.http.post("/api/v1/notebooks", json={"title": "x", "pipeline": "none"}), 422, "no_such_pipeline"
    )
    assert "default" in problem["detail"]


def test_fields_that_a_client_may_not_set_are_refused(served: Served) -> None:
    for field in ("owner_id", "id", "version", "index_spec_id"):
        is_problem(served.http.post("/api/v1/notebooks", json={"title": "x", field: "1"}), 422, "invalid_request")
