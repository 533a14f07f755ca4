"""Sources read again over HTTP: after a parser's update, with a password, and from their address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fpdf import FPDF

from tests.plugins.making import PROTECTED

from .support import Served, events, is_problem

SECRET = "open sesame 4711"


class Page(BaseHTTPRequestHandler):
    """One page, whose text the test changes."""

    text = b"# Tides\n\nHigh water is at six."
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", "text/markdown")
        self.end_headers()
        self.wfile.write(self.text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture(scope="module")
def website() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/tides.md"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def served(website: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port = int(website.split(":")[2].split("/")[0])
    fetchers = {"web": {"allow_private": True, "ports": [port]}}
    with Served(tmp_path_factory.mktemp("reading"), {"fetchers": fetchers}) as server:
        yield server


def encrypted_pdf(text: str = "The ferry leaves at seven.") -> bytes:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(text=text)
    pdf.set_encryption(owner_password="owner", user_password=SECRET)
    return bytes(pdf.output())


def upload(served: Served, notebook: str, data: bytes, **fields: str) -> Any:
    url = f"/api/v1/notebooks/{notebook}/sources"
    answer = served.http.post(url, files={"file": ("ferry.pdf", data, "application/pdf")}, data=fields)
    assert answer.status_code == 202, answer.text
    return settled(served, answer.json()["items"][0]["source"]["id"])


def settled(served: Served, source_id: str) -> Any:
    source = served.http.get(f"/api/v1/sources/{source_id}").json()
    ended(served, source["job_id"])
    return served.http.get(f"/api/v1/sources/{source_id}").json()


def ended(served: Served, job_id: str) -> Any:
    with served.http.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        return list(events(answer))[-1].data


def test_a_password_given_with_the_form_opens_the_file_and_is_stored_nowhere(served: Served) -> None:
    source = upload(served, served.notebook(), encrypted_pdf(), password=SECRET)
    assert (source["state"], source["problem"]) == ("ready", None)
    text = served.http.get(f"/api/v1/sources/{source['id']}/text").json()["text"]
    assert text == "The ferry leaves at seven."
    for file in Path(served.book.folder).rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_a_page_of_a_protected_file_is_drawn_with_the_password_alone(served: Served) -> None:
    source = upload(served, served.notebook(), encrypted_pdf("The quay is dry."), password=SECRET)
    url = f"/api/v1/sources/{source['id']}/pages/1.png"
    for answer in (
        served.http.get(url),
        served.http.post(url, json={}),
        served.http.post(url, json={"password": "guess"}),
        served.http.get(url),  # still: nothing was kept
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "encrypted")
        assert "POST" in answer.json()["remedy"]
    plain = served.http.post(url, json={"password": SECRET})
    assert (plain.headers["content-type"], plain.headers["cache-control"]) == ("image/png", "no-store")
    marked = served.http.post(url, json={"password": SECRET}, params={"start": 4, "end": 8})
    assert marked.content.startswith(b"\x89PNG")
    assert marked.content != plain.content


def test_an_archive_is_opened_with_its_password(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources"
    file = {"file": ("notes.zip", PROTECTED, "application/zip")}
    answer = served.http.post(url, files=file, data={"password": "sesame"})
    assert settled(served, answer.json()["items"][0]["source"]["id"])["state"] == "ready"
    names = {source["name"] for source in served.http.get(url).json()["items"]}
    assert {"a.md", "b.txt"} <= {name.rpartition("/")[2] for name in names}


def test_a_file_without_its_password_fails_and_is_opened_by_reading_it_again(served: Served) -> None:
    notebook, data = served.notebook(), encrypted_pdf("The lamp is green.")
    source = upload(served, notebook, data)
    assert (source["state"], source["problem"]["code"]) == ("failed", "encrypted")
    assert "password" in source["problem"]["remedy"]
    wrong = served.http.post(f"/api/v1/sources/{source['id']}/reparse", json={"password": "guess"})
    assert wrong.status_code == 202
    assert ended(served, wrong.json()["job_id"])["problem"]["code"] == "encrypted"
    right = served.http.post(f"/api/v1/sources/{source['id']}/reparse", json={"password": SECRET})
    assert ended(served, right.json()["job_id"])["state"] == "done"
    assert settled(served, source["id"])["state"] == "ready"


def test_the_same_file_uploaded_again_with_its_password_is_read(served: Served) -> None:
    notebook, data = served.notebook(), encrypted_pdf("The mole is long.")
    first = upload(served, notebook, data)
    assert first["state"] == "failed"
    second = upload(served, notebook, data, password=SECRET)
    assert (second["id"], second["state"]) == (first["id"], "ready")


def test_a_form_has_no_other_text_field(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources"
    for fields in ({"comment": "x"}, {"password": ""}, {"password": "x" * 1001}):
        answer = served.http.post(url, files={"file": ("a.md", b"# A")}, data=fields)
        is_problem(answer, 422, "invalid_request")


def test_reading_again_keeps_what_was_read_until_the_new_reading_is_ready(served: Served) -> None:
    source = served.source(served.notebook())
    again = served.http.post(f"/api/v1/sources/{source['id']}/reparse")
    assert again.status_code == 202
    body = again.json()
    assert (body["changed"], body["source"]["state"]) == (True, "ready")
    assert ended(served, body["job_id"])["state"] == "done"
    after = served.http.get(f"/api/v1/sources/{source['id']}").json()
    assert (after["state"], after["pending"], after["passages"]) == ("ready", None, source["passages"])
    assert after["document"]["id"] != source["document"]["id"]


def test_an_address_is_fetched_again_and_read_where_its_bytes_changed(served: Served, website: str) -> None:
    notebook = served.notebook()
    made = served.http.post(f"/api/v1/notebooks/{notebook}/sources/url", json={"url": website}).json()
    source = settled(served, made["id"])
    url = f"/api/v1/sources/{source['id']}/refresh"
    same = served.http.post(url)
    assert (same.status_code, same.json()["changed"], same.json()["job_id"]) == (200, False, None)
    Page.text = b"# Tides\n\nHigh water is at nine."
    changed = served.http.post(url)
    assert (changed.status_code, changed.json()["changed"]) == (202, True)
    assert ended(served, changed.json()["job_id"])["state"] == "done"
    after = served.http.get(f"/api/v1/sources/{source['id']}").json()
    assert after["sha256"] != source["sha256"]
    assert served.http.get(f"/api/v1/sources/{source['id']}/content").content == Page.text
    found = served.http.post("/api/v1/search", json={"question": "high water", "notebooks": [notebook]}).json()["items"]
    assert ["nine" in p["text"] for p in found] == [True]


def test_a_page_that_is_gone_leaves_the_source_as_it_was(served: Served, website: str) -> None:
    notebook = served.notebook()
    made = served.http.post(f"/api/v1/notebooks/{notebook}/sources/url", json={"url": website}).json()
    source = settled(served, made["id"])
    Page.status = 404
    try:
        is_problem(served.http.post(f"/api/v1/sources/{source['id']}/refresh"), 502, "fetch_failed")
    finally:
        Page.status = 200
    assert settled(served, source["id"]) == source


def test_an_uploaded_file_has_no_address_to_be_fetched_from(served: Served) -> None:
    source = served.source(served.notebook())
    is_problem(served.http.post(f"/api/v1/sources/{source['id']}/refresh"), 409, "no_url")


def test_a_file_that_failed_under_a_wrong_name_is_read_under_the_right_one(served: Served) -> None:
    url = f"/api/v1/notebooks/{served.notebook()}/sources"
    key = {"Idempotency-Key": "a-wrong-name"}
    wrong: dict[str, Any] = {"files": {"file": ("tides.docx", b"# Tides\n\nHigh water at six.")}, "headers": key}
    first = served.http.post(url, **wrong).json()["items"][0]
    failed = settled(served, first["source"]["id"])
    assert failed["state"] == "failed"
    again = served.http.post(url, **wrong)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert served.http.get(f"/api/v1/sources/{failed['id']}").json()["job_id"] == failed["job_id"]  # nothing was begun
    right = served.http.put(f"{url}/tides.md", content=b"# Tides\n\nHigh water at six.")
    assert (right.status_code, right.json()["id"], right.json()["name"]) == (202, failed["id"], "tides.md")
    ready = settled(served, failed["id"])
    assert (ready["state"], ready["media_type"], ready["problem"]) == ("ready", "text/markdown", None)
    assert served.http.put(f"{url}/tides.md", content=b"# Tides\n\nHigh water at six.").status_code == 200
