"""A plugin that hangs, seen by an operator: the server starts and says so, or refuses and names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .support import Served
from .test_plugin_commands import run

HANG = "import threading\nthreading.Event().wait()\n"
STARTUP = """
import time
from sourcebook import hookimpl
@hookimpl
async def startup(): time.sleep(600)
"""
REASON = "its import was not done within 0.5 s"


def distribution(folder: Path, name: str, source: str) -> None:
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[sourcebook]\n{module} = {module}\n")


def test_one_that_hangs_at_import_is_told_by_the_api_and_readyz_of_a_server_that_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    distribution(site, "acme-hanging-served", HANG)
    monkeypatch.syspath_prepend(str(site))
    table = {"plugins": {"enabled": ["acme-hanging-served"], "import_deadline": 0.5}}
    with Served(tmp_path / "data", table) as server:
        key = server.key("root", "admin", "read")
        shown = {p["name"]: p for p in server.http.get("/api/v1/plugins", headers=key).json()["items"]}
        answer = server.http.get("/readyz?verbose", headers=key)
    assert (shown["acme-hanging-served"]["state"], shown["acme-hanging-served"]["reason"]) == ("failed", REASON)
    assert answer.status_code == 200
    assert f"acme-hanging-served: {REASON}" in answer.json()["parts"]["plugins"]


def test_one_that_hangs_at_import_is_listed_by_the_command_line(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-hanging", HANG)
    (tmp_path / "sourcebook.toml").write_text('[plugins]\nenabled = ["acme-hanging"]\nimport_deadline = 0.5\n')
    done = run("plugins", "list", "--json", site=tmp_path, cwd=tmp_path)
    found = {p["name"]: p for p in json.loads(done.stdout)}
    assert (found["acme-hanging"]["state"], found["acme-hanging"]["reason"]) == ("failed", REASON)


@pytest.mark.slow
def test_a_server_whose_plugin_holds_the_event_loop_at_startup_refuses_and_names_it(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-waiting", STARTUP)
    (tmp_path / "sourcebook.toml").write_text('[plugins]\nenabled = ["acme-waiting"]\nopen_deadline = 8\n')
    done = run("serve", "--port", "0", site=tmp_path, cwd=tmp_path, code=1)
    assert "The plugin acme-waiting failed at startup: it was not done within 8 s" in done.stderr
