"""Sources over HTTP: the four ways in, the original bytes, and what was read from them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

import pytest

from .support import HANDBOOK, Served, events, is_problem

PDF = files("sourcebook_api") / "demo" / "tolvane-harbour-handbook.pdf"


@pytest.fixture(scope="module")
def paged(served: Served) -> Any:
    """A PDF that has been ingested."""
    return served.source(served.notebook(), "handbook.pdf", PDF.read_bytes())


def test_each_file_of_a_form_is_accepted_or_refused_on_its_own(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources"
    form: list[tuple[str, Any]] = [
        ("a", ("a.md", b"# A")),
        ("b", ("b.exe", b"MZ")),
        ("a", ("c.txt", b"C", "text/plain")),
    ]
    answer = served.http.post(url, files=form)
    assert answer.status_code == 202
    first, second, third = answer.json()["items"]
    assert (first["created"], first["source"]["media_type"]) == (True, "text/markdown")
    assert (second["source"], second["problem"]["code"], second["problem"]["status"]) == (None, "unsupported_type", 415)
    assert third["source"]["name"] == "c.txt"
    again = served.http.post(url, files=[("a", ("other.md", b"# A"))]).json()["items"][0]
    assert (again["created"], again["source"]["id"]) == (False, first["source"]["id"])
    assert len(served.http.get(url).json()["items"]) == 2


def test_a_form_of_which_nothing_is_accepted_is_a_problem(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources"
    is_problem(served.http.post(url, files=[("a", ("b.exe", b"MZ"))]), 415, "unsupported_type")
    is_problem(served.http.post(url, files=[("a", ("", b"x"))], data={"b": "c"}), 422, "invalid_request")
    is_problem(served.http.post(url, content=b"x"), 415, "not_multipart")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    is_problem(served.http.post(url, content=b"--y", headers=broken), 400, "bad_request")


def test_raw_bytes_are_streamed_in_and_given_back(served: Served) -> None:
    data = b"A line of text.\n" * 100_000

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), 50_000):
            yield data[start : start + 50_000]

    url = f"/api/v1/notebooks/{served.notebook()}/sources/long%20r%C3%A9port.txt"
    made = served.http.put(url, content=pieces())
    assert made.status_code == 202
    source = made.json()
    digest = hashlib.sha256(data).hexdigest()
    assert (source["sha256"], source["size"], source["name"]) == (digest, len(data), "long réport.txt")
    assert served.http.put(url, content=data).status_code == 200
    got = served.http.get(f"/api/v1/sources/{source['id']}/content")
    assert got.content == data
    assert got.headers["etag"] == f'"{digest}"'
    assert got.headers["content-disposition"].startswith("attachment;")
    assert "filename*=UTF-8''long%20r%C3%A9port.txt" in got.headers["content-disposition"]
    assert "sandbox" in got.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-4", 0, 5), ("bytes=10-", 10, None), ("bytes=-7", -7, None), ("bytes=5-999999", 5, None)],
)
def test_a_range_of_the_original_is_given(
    served: Served, handbook: str, asked: str, start: int, end: int | None
) -> None:
    source = served.source(handbook)
    url, data = f"/api/v1/sources/{source['id']}/content", HANDBOOK.encode()
    part = served.http.get(url, headers={"Range": asked})
    assert part.status_code == 206
    assert part.content == data[start:end]
    begin = start % len(data)
    assert part.headers["content-range"] == f"bytes {begin}-{begin + len(part.content) - 1}/{len(data)}"


def test_a_range_is_answered_as_http_says(served: Served, handbook: str) -> None:
    source = served.source(handbook)
    url, size = f"/api/v1/sources/{source['id']}/content", len(HANDBOOK.encode())
    beyond = served.http.get(url, headers={"Range": f"bytes={size}-"})
    is_problem(beyond, 416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    for ignored in ("bytes=4-2", "lines=1-2", "bytes=0-1,3-4", "bytes=-"):
        assert served.http.get(url, headers={"Range": ignored}).status_code == 200
    etag = f'"{source["sha256"]}"'
    assert served.http.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert served.http.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    assert served.http.get(url, headers={"Range": "bytes=0-1", "If-Range": etag}).status_code == 206
    head = served.http.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")


def test_pasted_text_becomes_a_source_whatever_its_name(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources/text"
    for name, stored, kind in (
        ("tides.md", "tides.md", "text/markdown"),
        ("Minutes of v1.2 talks", "Minutes of v1.2 talks", "text/plain"),
        ("plan.pdf", "plan.pdf.txt", "text/plain"),
    ):
        made = served.http.post(url, json={"name": name, "text": f"Text of {name}."})
        assert made.status_code == 202, made.text
        assert (made.json()["name"], made.json()["media_type"]) == (stored, kind)
        assert served.ready(made.json()["id"])["state"] == "ready"


def test_an_address_inside_this_network_is_not_fetched(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources/url"
    with Website() as address:
        is_problem(served.http.post(url, json={"url": address}), 422, "fetch_blocked")
        assert _Page.asked == []
    is_problem(served.http.post(url, json={"url": "gopher://example.org"}), 415, "unsupported_type")


def test_text_is_read_by_code_points_with_its_places(served: Served, handbook: str) -> None:
    source = served.source(handbook)
    url = f"/api/v1/sources/{source['id']}/text"
    whole = served.http.get(url).json()
    assert whole["length"] == source["document"]["length"] == len(whole["text"])
    start = whole["text"].index("The lamp")
    part = served.http.get(url, params={"start": start, "end": start + 8, "places": True}).json()
    assert (part["text"], part["start"], part["end"]) == ("The lamp", start, start + 8)
    assert part["places"][0]["place"]["path"] == ["Harbour"]
    assert all(start <= p["start"] < p["end"] <= start + 8 for p in part["places"])
    assert served.http.get(url, params={"start": 10**6}).json()["text"] == ""
    is_problem(served.http.get(url, params={"start": 5, "end": 4}), 422, "invalid_request")
    is_problem(served.http.get(url, params={"start": -1}), 422, "invalid_request")


def test_a_document_of_another_source_is_not_found(served: Served, handbook: str, paged: Any) -> None:
    source = served.source(handbook)
    url = f"/api/v1/sources/{source['id']}/text"
    is_problem(served.http.get(url, params={"document": paged["document"]["id"]}), 404, "not_found")


def test_no_call_gives_more_text_than_the_limit(served: Served) -> None:
    source = served.source(served.notebook(), "long.txt", b"0123456789" * 25_000)
    url = f"/api/v1/sources/{source['id']}/text"
    first = served.http.get(url).json()
    assert (first["length"], first["end"], len(first["text"])) == (250_000, 200_000, 200_000)
    assert served.http.get(url, params={"start": first["end"], "end": 250_000}).json()["end"] == 250_000


def test_passages_cover_the_text_and_are_found_by_id(served: Served, paged: Any) -> None:
    url = f"/api/v1/sources/{paged['id']}/passages"
    text = served.http.get(f"/api/v1/sources/{paged['id']}/text").json()["text"]
    passages: list[Any] = []
    cursor: str | None = "-1"
    while cursor is not None:
        page = served.http.get(url, params={"limit": 3, "cursor": cursor}).json()
        passages += page["items"]
        cursor = page["next_cursor"]
    assert [p["ordinal"] for p in passages] == list(range(paged["passages"]))
    assert all(text[p["start"] : p["end"]] == p["text"] for p in passages)
    assert served.http.get(f"/api/v1/passages/{passages[1]['passage_id']}").json() == passages[1]
    is_problem(served.http.get("/api/v1/passages/8a0a7b1e-4a55-5c7f-9d43-3d2f5e6c7b10"), 404, "not_found")


def test_a_page_is_drawn_with_the_cited_lines_marked(served: Served, paged: Any) -> None:
    passage = served.http.get(f"/api/v1/sources/{paged['id']}/passages").json()["items"][0]
    page = passage["places"][0]["page"]
    url = f"/api/v1/sources/{paged['id']}/pages/{page}.png"
    plain = served.http.get(url)
    assert plain.headers["content-type"] == "image/png"
    marked = served.http.get(url, params={"start": passage["start"], "end": passage["end"]})
    assert marked.content.startswith(b"\x89PNG")
    assert marked.content != plain.content


def test_a_source_without_pages_has_no_pictures(served: Served, handbook: str) -> None:
    source = served.source(handbook)
    is_problem(served.http.get(f"/api/v1/sources/{source['id']}/pages/1.png"), 404, "no_pages")


def test_a_failed_source_says_why_and_has_no_text(served: Served) -> None:
    source = served.source(served.notebook(), "broken.pdf", b"%PDF-1.7 and nothing more")
    assert (source["state"], source["problem"]["code"]) == ("failed", "corrupt")
    problem = is_problem(served.http.get(f"/api/v1/sources/{source['id']}/text"), 409, "source_failed")
    assert source["problem"]["detail"] in problem["detail"]
    assert problem["problem"]["code"] == "corrupt"
    assert "Reparse" in problem["remedy"]
    assert "Follow its job" not in problem["remedy"]
    assert served.http.get(f"/api/v1/sources/{source['id']}/passages").json()["items"] == []


def test_a_deleted_source_is_gone_at_once_and_its_job_can_be_followed(served: Served) -> None:
    notebook = served.notebook()
    source = served.source(notebook)
    deleted = served.http.delete(f"/api/v1/sources/{source['id']}")
    assert deleted.status_code == 202
    for path in ("", "/text", "/content", "/passages"):
        is_problem(served.http.get(f"/api/v1/sources/{source['id']}{path}"), 404, "not_found")
    found = served.http.post("/api/v1/search", json={"question": "lamp", "notebooks": [notebook]})
    assert found.json()["items"] == []
    with served.http.stream("GET", f"/api/v1/jobs/{deleted.json()['job_id']}/events") as answer:
        last = list(events(answer))[-1]
    assert (last.type, last.data["state"]) == ("done", "done")


def test_a_follower_of_a_notebook_may_leave_at_any_moment(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    notebook = served.notebook()
    followers = served.book.database.signals._waiting
    with served.http.stream("GET", f"/api/v1/notebooks/{notebook}/events") as answer:
        told = events(answer)  # held: the end of the generator would end the connection
        assert next(told).type == "idle"
        assert f"notebook:{notebook}" in followers
    for _ in range(200):  # the server waits for the next event, and is to notice that nobody does with it
        if f"notebook:{notebook}" not in followers:
            break
        time.sleep(0.05)
    assert f"notebook:{notebook}" not in followers
    served.http.get("/livez")
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []


def test_the_progress_of_a_job_ends_with_done(served: Served) -> None:
    made = served.http.put(f"/api/v1/notebooks/{served.notebook()}/sources/a.md", content=b"# A\n\nText.").json()
    with served.http.stream("GET", f"/api/v1/jobs/{made['job_id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = list(events(answer))
    assert [e.type for e in seen[:-1]] == ["progress"] * (len(seen) - 1)
    assert (seen[-1].type, seen[-1].data["state"]) == ("done", "done")
    progress = seen[-1].data["progress"]
    assert {k: progress[k] for k in ("stage", "done", "total", "left")} == {
        "stage": "indexing", "done": 1, "total": 1, "left": 0,
    }  # fmt: skip
    assert progress["rate"] > 0
    with served.http.stream("GET", f"/api/v1/notebooks/{made['notebook_id']}/events") as answer:
        whole = next(events(answer))
    assert (whole.type, whole.data["ready"], whole.data["left"]) == ("idle", 1, 0)
    assert served.http.get(f"/api/v1/jobs/{made['job_id']}").json()["source_id"] == made["id"]
    is_problem(served.http.get("/api/v1/jobs/job_0/events"), 404, "not_found")


class _Page(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - one test's, and emptied by it

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


class Website:
    def __enter__(self) -> str:
        _Page.asked.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
