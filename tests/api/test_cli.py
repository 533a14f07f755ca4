"""The command line, on a data folder of its own, with the real jail and index."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from sourcebook.testing.llm_server import FakeLLMServer, Reply, stream_of
from sourcebook_api.cli import cli
from sourcebook_api.cli.work import where

_NOTE = "# Tides\n\nHigh water at Tolvane is at six.\n\n## Boats\n\nThe ferry leaves at seven."


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, a note that is ingested, and one file that no parser reads."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "sourcebook.toml").write_text(f'[storage]\npath = "{folder}/data"\n')
    (folder / "tides.md").write_text(_NOTE)
    (folder / "what.xyz").write_bytes(b"\x00\x01")
    done = sourcebook(folder, "ingest", "Notes", str(folder / "tides.md"), "--json")
    assert done.exit_code == 0, done.output
    return folder


def sourcebook(folder: Path, *arguments: str) -> Result:
    """One command in this process."""
    return CliRunner().invoke(cli, ["--config", str(folder / "sourcebook.toml"), *arguments])


def test_ingest_prints_what_became_of_each_file(home: Path) -> None:
    done = sourcebook(home, "ingest", "Notes", str(home / "tides.md"), str(home / "what.xyz"), "--json")
    states = {source["name"]: source for source in json.loads(done.stdout)}
    assert states["tides.md"]["state"] == "ready"
    assert states["what.xyz"]["state"] == "failed"
    assert states["what.xyz"]["problem"]["code"] == "unsupported_type"
    assert done.exit_code == 1
    assert "tides.md: these bytes are in 'Notes' already" in done.stderr.replace(f"{home}/", "")


def test_a_path_that_is_not_there_stops_none_of_the_others(home: Path) -> None:
    (home / "boats.md").write_text("The pilot boat is white.")
    done = sourcebook(home, "ingest", "Boats", str(home / "nothere.md"), str(home / "boats.md"), "--json")
    assert done.exit_code == 1
    assert "There is no file" in done.stderr
    assert [source["state"] for source in json.loads(done.stdout)] == ["ready"]


def test_a_title_that_two_notebooks_have_removes_neither(home: Path) -> None:
    (home / "buoy.md").write_text("The buoy is red.")
    for words in (["ingest", "one", "buoy.md"], ["export", "one", "one.zip"], ["import", "one.zip"]):
        done = sourcebook(home, *(str(home / word) if "." in word else word for word in words))
        assert done.exit_code == 0, done.output
    ids = {n["id"] for n in json.loads(sourcebook(home, "notebooks", "list", "--json").stdout)}
    done = sourcebook(home, "notebooks", "remove", "one")
    assert done.exit_code == 1
    assert "2 notebooks are called 'one'" in str(done.exception)
    assert ids == {n["id"] for n in json.loads(sourcebook(home, "notebooks", "list", "--json").stdout)}


def test_search_prints_the_place_and_the_words(home: Path) -> None:
    done = sourcebook(home, "search", "Notes", "When is high water?")
    assert done.exit_code == 0
    assert done.stdout.startswith("[1] tides.md, Tides")
    assert "High water at Tolvane is at six." in done.stdout


def test_ask_puts_each_citation_under_its_claim(home: Path) -> None:
    done = sourcebook(home, "ask", "Notes", "When does the ferry leave?")
    lines = done.stdout.splitlines()
    assert lines[0] == "The ferry leaves at seven. [1]"
    assert lines[1].strip() == "[1] tides.md, Tides > Boats: “The ferry leaves at seven.”"


def test_a_citation_of_a_place_without_headings_says_its_paragraph_or_its_second() -> None:
    assert where("a.txt", [{"paragraph": 4}, {"paragraph": 5}, {"paragraph": 6}]) == "a.txt, paragraph 4, paragraph 5"
    assert where("film.srt", [{"seconds": 62.5}]) == "film.srt, 0:01:02"
    cells = [{"sheet": "Costs", "cells": "B2"}, {}, {"sheet": "Costs", "cells": "B7"}]
    assert where("costs.xlsx", cells) == "costs.xlsx, sheet Costs, B2, B7"


def test_ask_prints_one_event_a_line_for_machines(home: Path) -> None:
    done = sourcebook(home, "ask", "Notes", "When does the ferry leave?", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["type"] for e in events][:2] == ["run.started", "retrieval"]
    assert events[-1]["type"] == "done"
    assert events[-1]["citations"][0]["quote"] == "The ferry leaves at seven."


def test_four_lines_name_a_model_that_answers_the_same_question(home: Path, tmp_path: Path) -> None:
    with FakeLLMServer() as server:
        server.script(Reply(stream_of(["At se", "ven [1", "]."], reasoning=["The ferry", "…"])))
        (tmp_path / "sourcebook.toml").write_text(
            f'[storage]\npath = "{home}/data"\n[pipelines.default]\nllm = ["openai"]\n'
            f'[llms.openai]\nbase_url = "{server.url}"\nmodel = "any"\n'
        )
        done = sourcebook(tmp_path, "ask", "Notes", "When does the ferry leave?")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("At seven [1].")
    assert "The ferry…" in done.stderr


def test_a_model_that_is_not_there_is_named_and_the_exit_code_says_so(home: Path, tmp_path: Path) -> None:
    (tmp_path / "sourcebook.toml").write_text(
        f'[storage]\npath = "{home}/data"\n[pipelines.default]\nllm = "openai"\n'
        '[llms.openai]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "any"\n'
    )
    done = sourcebook(tmp_path, "ask", "Notes", "When does the ferry leave?")
    assert done.exit_code == 1
    assert "error:" in done.stderr
    assert "127.0.0.1" in done.stderr


def test_doctor_finds_nothing_wrong_with_a_fresh_folder(home: Path) -> None:
    done = sourcebook(home, "doctor", "--json")
    findings = {f["check"]: f["ok"] for f in json.loads(done.stdout)}
    assert {"schema", "jail", "jobs", "blobs", "index"} <= findings.keys()
    assert all(findings.values()), done.stdout


def test_a_key_is_made_listed_without_its_secret_and_revoked(home: Path) -> None:
    made = json.loads(sourcebook(home, "keys", "create", "--owner", "ann", "--permission", "read", "--json").stdout)
    assert made["secret"].startswith("sbk_")
    listed = sourcebook(home, "keys", "list").stdout
    assert made["id"] in listed
    assert made["secret"] not in listed
    assert sourcebook(home, "keys", "revoke", made["id"]).exit_code == 0
    assert "revoked" in sourcebook(home, "keys", "list").stdout


def test_config_show_names_the_file_and_masks_secrets(home: Path, tmp_path: Path) -> None:
    (tmp_path / "sourcebook.toml").write_text('[llms.openai]\nbase_url = "http://x/v1"\nmodel = "m"\n')
    (tmp_path / "secrets.toml").write_text('[llms.openai]\napi_key = "canary-1234"\n')
    shown = sourcebook(tmp_path, "config", "show").stdout
    assert f"llms.openai.model = 'm'  # {tmp_path}/sourcebook.toml" in shown
    assert "api_key = '********'" in shown
    assert "canary-1234" not in shown


def test_an_unknown_key_ends_with_code_3_and_the_nearest_known_one(tmp_path: Path) -> None:
    (tmp_path / "sourcebook.toml").write_text("[server]\nprot = 8000\n")
    command = [sys.executable, "-m", "sourcebook_api", "--config", str(tmp_path / "sourcebook.toml"), "config", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "did you mean 'port'" in done.stderr


def test_a_notebook_that_is_not_there_is_answered_with_those_that_are(home: Path) -> None:
    command = [sys.executable, "-m", "sourcebook_api", "--config", str(home / "sourcebook.toml"), "ask", "Nots", "why?"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "'Notes'" in done.stderr


@pytest.mark.slow
def test_keys_and_shares_are_made_listed_and_written_down(tmp_path: Path) -> None:
    main = tmp_path / "sourcebook.toml"
    main.write_text(f'[storage]\npath = "{tmp_path / "data"}"\n[retrievers.qdrant]\nidle_seconds = 0\n')

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, ["--config", str(main), *words])
        assert done.exit_code == 0, done.output
        return done.output

    made = orjson.loads(run("keys", "create", "--owner", "ada", "--requests", "30", "--json"))
    assert (made["limits"], made["used_at"]) == ({"requests": 30}, None)
    run("keys", "create", "--owner", "bob")
    assert "never used" in run("keys", "list")
    (tmp_path / "note.md").write_text("# Note\n\nText.")
    run("ingest", "Shared", str(tmp_path / "note.md"), "--owner", "ada")
    run("notebooks", "share", "Shared", "bob", "--owner", "ada", "--write")
    assert "Shared" in run("notebooks", "list", "--owner", "bob")
    run("notebooks", "share", "Shared", "bob", "--owner", "ada", "--stop")
    assert "Shared" not in run("notebooks", "list", "--owner", "bob")
    run("keys", "revoke", made["id"])
    log = [orjson.loads(line) for line in (tmp_path / "data" / "audit.log").read_bytes().splitlines()]
    assert [line["action"] for line in log] == [
        *("keys create", "keys create", "notebooks share", "notebooks share", "keys revoke")
    ]
    assert made["secret"] not in (tmp_path / "data" / "audit.log").read_text()
