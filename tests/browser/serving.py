"""A real `sourcebook serve` for the browser, with a data folder and a configuration of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kill.harness import Server

from .watching import with_key

PATIENCE = 90.0
_SETTINGS = """
limits = {requests = 0, failures = 0}
retrievers.qdrant.idle_seconds = 0
"""
_MODEL = """
pipelines.default.llm = ["fake"]
llms.fake = {{use = "openai", base_url = "{url}", model = "fake"}}
"""


class Sourcebook(Server):
    """A ready server, and what a test prepares on it through the API, as `headers` say."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})
        self.headers: dict[str, str] = {}
        self._admin: Mapping[str, str] = {}

    def made(self, path: str, body: Any) -> Any:
        """What a POST made."""
        reply = self.call("POST", path, json=body, headers=self.headers)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def read(self, path: str) -> Any:
        """What a GET gives."""
        reply = self.call("GET", path, headers=self.headers)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def notebook(self, title: str = "Harbour", **values: Any) -> str:
        """A new notebook's id."""
        return str(self.made("/notebooks", {"title": title, **values})["id"])

    def text(self, notebook: str, name: str, text: str, **values: Any) -> Any:
        """A pasted text, ingested."""
        added = self.made(f"/notebooks/{notebook}/sources/text", {"name": name, "text": text, **values})
        return self.ended(added["id"])

    def file(self, notebook: str, path: Path) -> Any:
        """An uploaded file, ingested."""
        put = self.call(
            "PUT", f"/notebooks/{notebook}/sources/{path.name}", content=path.read_bytes(), headers=self.headers
        )
        assert put.status_code in (200, 202), put.text
        return self.ended(put.json()["id"])

    def ended(self, source: str) -> Any:
        """The source, once it is ready or has failed."""
        deadline = time.monotonic() + PATIENCE
        while (shown := self.read(f"/sources/{source}"))["state"] not in ("ready", "failed"):
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
        return shown

    def key(self, owner: str, *permissions: str) -> str:
        """The secret of a new key. The first is an administrator's, who makes all others: from then on all need one."""
        if not self._admin:
            self._admin = with_key(self._key("root", "admin"))
        return self._key(owner, *(permissions or ("read", "write")))

    def _key(self, owner: str, *permissions: str) -> str:
        made = self.call("POST", "/keys", json={"owner": owner, "permissions": permissions}, headers=self._admin)
        assert made.status_code == 201, made.text
        return str(made.json()["secret"])

    def revoke(self, owner: str) -> None:
        """Switch off every key of an owner."""
        for key in self.call("GET", "/keys", headers=self._admin).json()["items"]:
            if key["owner"] == owner:
                assert self.call("DELETE", f"/keys/{key['id']}", headers=self._admin).status_code == 204


@contextmanager
def serving(folder: Path, model: str = "", settings: str = "", owners: dict[str, str] | None = None) -> Iterator[Any]:
    """A ready server. `model`: the address of a model's server, in the place of the extractive answerer.

    `owners`: filled with a key for each of its names.
    """
    more = _MODEL.format(url=model) if model else ""
    (folder / "sourcebook.toml").write_text(_SETTINGS + more + settings, encoding="utf-8")
    server = Sourcebook(folder)
    try:
        server.start()
        if owners is not None:
            owners.update({name: server.key(name) for name in owners})
        yield server
    finally:
        if server.process is not None:
            server.close()
