"""`doctor --connect` and `config check --connect`: what they print, and how they exit."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from sourcebook.testing.llm_server import FakeLLMServer, json_reply
from sourcebook_api.cli import cli

KEY = "canary-e5512"


@pytest.fixture
def main(tmp_path: Path, llm: FakeLLMServer) -> Path:
    """A configuration with a model that answers."""
    file = tmp_path / "sourcebook.toml"
    file.write_text(
        f'[storage]\npath = "{tmp_path / "data"}"\n[retrievers.qdrant]\nidle_seconds = 0\n'
        f'[llms.mine]\nuse = "openai"\nbase_url = "{llm.url}"\nmodel = "fake"\napi_key = "{KEY}"\n'
    )
    return file


def run(main: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--config", str(main), *arguments])


def test_check_connects_to_nothing_unless_it_is_asked_to(main: Path, llm: FakeLLMServer) -> None:
    before = len(llm.requests)
    done = run(main, "config", "check")
    assert done.exit_code == 0, done.output
    assert len(llm.requests) == before


def test_a_server_that_answers_is_told_and_the_stores_are_examined_then(main: Path) -> None:
    for command in (["config", "check"], ["doctor"]):
        done = run(main, *command, "--connect")
        assert done.exit_code == 0, done.output
        assert "ok    llms.mine: http://127.0.0.1:" in done.stdout
        assert ("ok    schema: " in done.stdout) == (command == ["doctor"])
        assert KEY not in done.output


def test_a_server_that_refuses_is_told_in_words_with_a_remedy_and_its_own_exit_code(
    main: Path, llm: FakeLLMServer
) -> None:
    for command in (["config", "check"], ["doctor"]):
        llm.script(json_reply({"error": {"message": f"wrong key {KEY}"}}, 401))
        done = run(main, *command, "--connect")
        assert done.exit_code == 4
        assert "FAIL  llms.mine: it does not accept our credential (" in done.stdout
        assert "      Set a valid `api_key` for mine." in done.stdout
        assert "schema" not in done.stdout
        assert KEY not in done.output


def test_both_print_json(main: Path, llm: FakeLLMServer) -> None:
    llm.script(json_reply({"error": {"message": "no such model"}}, 404))
    done = run(main, "doctor", "--connect", "--json")
    assert done.exit_code == 4
    (found,) = orjson.loads(done.stdout)
    assert (found["check"], found["ok"], found["data"]["code"]) == ("llms.mine", False, "not_found")
    done = run(main, "config", "check", "--connect", "--json")
    assert done.exit_code == 0, done.output
    shown = orjson.loads(done.stdout)
    assert [(c["check"], c["ok"]) for c in shown["connections"]] == [("llms.mine", True)]
    assert shown["files"] == [str(main)]


def test_a_wrong_configuration_is_told_before_anything_is_asked(main: Path, llm: FakeLLMServer) -> None:
    main.write_text(main.read_text().replace("model =", "modle ="))
    before = len(llm.requests)
    for command in (["config", "check"], ["doctor"]):
        done = run(main, *command, "--connect")
        assert done.exit_code not in (0, 4)
        assert "modle" in str(done.exception)
    assert len(llm.requests) == before


def test_where_nothing_is_to_be_connected_to_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "sourcebook.toml"
    file.write_text(f'[storage]\npath = "{tmp_path / "data"}"\n')
    done = run(file, "config", "check", "--connect")
    assert done.exit_code == 0
    assert "names no server to connect to" in done.output
