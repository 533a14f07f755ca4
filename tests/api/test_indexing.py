"""A notebook's index over HTTP and on the command line: stale, built anew, rolled back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sourcebook_api.cli import cli

from .support import Served, is_problem


def over(served: Served, job_id: str) -> Any:
    """The job, once it has ended."""
    for _ in range(1200):
        job = served.http.get(f"/api/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "leased"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def test_a_notebook_moves_to_another_pipeline_and_back(served: Served) -> None:
    notebook = served.notebook(title="Moves")
    served.source(notebook)
    url = f"/api/v1/notebooks/{notebook}"
    standing = served.http.get(f"{url}/index").json()
    assert [standing[k] for k in ("stale", "changed", "reindex", "estimate")] == [False, [], None, None]
    is_problem(served.http.post(f"{url}/reindex", json={}), 409, "not_stale")
    is_problem(served.http.post(f"{url}/reindex", json={"pipeline": "none"}), 422, "no_such_pipeline")
    for verb, code in (("cancel", "not_reindexing"), ("rollback", "no_rollback"), ("drop", "no_rollback")):
        is_problem(served.http.post(f"{url}/reindex/{verb}"), 409, code)

    started = served.http.post(f"{url}/reindex", json={"pipeline": "fine"})
    assert started.status_code == 202
    assert started.headers["location"] == f"/api/v1/jobs/{started.json()['job_id']}"
    assert started.json()["estimate"]["parsed"] == 1
    job = over(served, started.json()["job_id"])
    assert (job["state"], job["kind"]) == ("done", "reindex")
    assert (job["progress"]["done"], job["progress"]["total"]) == (1, 1)
    shown = served.http.get(url).json()
    assert (shown["pipeline"], shown["stale"]) == ("fine", False)
    assert served.http.get(f"{url}/index").json()["reindex"]["state"] == "switched"
    asked = {"question": "When does the harbour close?", "notebooks": [notebook]}
    assert served.http.post("/api/v1/search", json=asked).json()["items"]

    back = served.http.post(f"{url}/reindex/rollback")
    assert back.status_code == 202
    assert over(served, back.json()["job_id"])["state"] == "done"
    assert served.http.get(url).json()["pipeline"] == "default"
    dropping = served.http.post(f"{url}/reindex/drop")
    assert over(served, dropping.json()["job_id"])["state"] == "done"
    assert served.http.post("/api/v1/search", json=asked).json()["items"]


def sourcebook(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--config", str(folder / "sourcebook.toml"), *arguments])


@pytest.mark.slow
def test_the_command_line_says_what_is_stale_what_it_costs_and_mends_it(tmp_path: Path) -> None:
    basic = f'[storage]\npath = "{tmp_path}/data"\n[retrievers.qdrant]\nidle_seconds = 1\n'
    (tmp_path / "sourcebook.toml").write_text(basic)
    (tmp_path / "tides.md").write_text("# Tides\n\nHigh water at Tolvane is at six.\n\n## Boats\n\nThe ferry leaves.")
    assert sourcebook(tmp_path, "ingest", "Notes", str(tmp_path / "tides.md")).exit_code == 0
    (tmp_path / "sourcebook.toml").write_text(basic + "[chunkers.markdown]\nsize = 50\n")
    assert "stale: chunker changed" in sourcebook(tmp_path, "notebooks", "list").stdout
    assert "High water" in sourcebook(tmp_path, "search", "Notes", "high water").stdout
    dry = sourcebook(tmp_path, "reindex", "Notes", "--dry-run", "--json")
    told = json.loads(dry.stdout)
    assert (told["changed"], told["estimate"]["parsed"], told["estimate"]["calls"]) == (["chunker"], 1, 0)
    done = sourcebook(tmp_path, "reindex", "--all")
    assert done.exit_code == 0, done.output
    assert "1 of 1 sources" in done.stderr
    assert "stale" not in sourcebook(tmp_path, "notebooks", "list").stdout
    back = sourcebook(tmp_path, "reindex", "Notes", "--rollback")
    assert back.exit_code == 0, back.output
    assert "stale" in sourcebook(tmp_path, "notebooks", "list").stdout
    assert sourcebook(tmp_path, "reindex").exit_code == 2
