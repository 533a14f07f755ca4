"""Who did what is written down, and nothing of what it was about."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator

import orjson
import pytest

from sourcebook_api.audit import ids_in

from .support import Served

WORD = "rhinoceros"


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("audited")) as server:
        server.key("root", "admin")
        yield server


def lines(server: Served, count: int) -> list[dict[str, object]]:
    """A line is written when its answer has been given, so the last one may still be to come."""
    found: list[bytes] = []
    for _ in range(200):
        found = (server.book.folder / "audit.log").read_bytes().splitlines()
        if len(found) >= count:
            break
        time.sleep(0.05)
    return [orjson.loads(line) for line in found]


def test_every_change_and_refusal_is_a_line_without_content(audited: Served) -> None:
    ada = audited.key("ada", "read", "write")
    notebook = audited.notebook(ada, title=WORD)
    base = f"/api/v1/notebooks/{notebook}"
    audited.source(notebook, f"{WORD}.md", f"# {WORD}".encode(), ada)
    audited.http.get(base, headers=ada)
    audited.http.patch(base, json={"title": WORD * 2}, headers={**ada, "X-Request-ID": "trace-7"})
    audited.http.get("/api/v1/keys", headers=ada)
    audited.http.get(f"/api/v1/{WORD}", headers={"Authorization": f"Bearer {WORD}"})
    audited.http.delete(base, headers=ada)
    seen = lines(audited, 6)
    assert [(line["action"], line["status"]) for line in seen] == [
        ("POST /api/v1/notebooks", 201),
        ("PUT /api/v1/notebooks/{notebook_id}/sources/{name}", 202),
        ("PATCH /api/v1/notebooks/{notebook_id}", 200),
        ("GET ?", 403),
        ("GET ?", 401),
        ("DELETE /api/v1/notebooks/{notebook_id}", 204),
    ]
    assert {line["owner"] for line in seen} == {"ada", None}
    assert all(str(line["key_id"]).startswith("key_") for line in seen if line["owner"])
    assert (seen[2]["request_id"], seen[2]["ids"], seen[2]["address"]) == ("trace-7", [notebook], "127.0.0.1")
    text = (audited.book.folder / "audit.log").read_text()
    assert WORD not in text
    assert ada["Authorization"].split()[1] not in text
    assert stat.S_IMODE((audited.book.folder / "audit.log").stat().st_mode) == 0o600


def test_only_ids_are_taken_from_an_address() -> None:
    source, passage = "src_01k8v3q4zt6w9x2y5b7c8d9e0f", "8a0a7b1e-4a55-5c7f-9d43-3d2f5e6c7b10"
    assert ids_in(f"/api/v1/sources/{source}/{passage}/secret_plan.pdf") == [source, passage]
