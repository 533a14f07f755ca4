"""`sourcebook config`: begins a configuration, checks all of it, and describes it to editors."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema_rs import Draft202012Validator
from typer.testing import CliRunner, Result

from sourcebook_api.cli import cli

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    """What `config schema` prints."""
    done = run("config", "schema")
    assert done.exit_code == 0, done.output
    return Draft202012Validator(orjson.loads(done.stdout))


def test_what_init_writes_is_valid_and_its_secrets_are_mine_alone(tmp_path: Path) -> None:
    folder = tmp_path / "fresh"
    assert run("config", "init", str(folder)).exit_code == 0
    assert stat.S_IMODE((folder / "secrets.toml").stat().st_mode) == 0o600
    assert (folder / "sourcebook.toml").read_text() == (ROOT / "config" / "sourcebook.toml").read_text()
    checked = run("--config", str(folder / "sourcebook.toml"), "config", "check")
    assert checked.exit_code == 0, checked.output


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "secrets.toml").write_text("mine")
    assert run("config", "init", str(tmp_path)).exit_code != 0
    assert (tmp_path / "secrets.toml").read_text() == "mine"
    assert not (tmp_path / "sourcebook.toml").exists()


def test_check_names_every_wrong_instance_at_once(tmp_path: Path) -> None:
    main = tmp_path / "sourcebook.toml"
    main.write_text(
        '[llms.a]\nuse = "openai"\nbase_ur = "x"\n[llms.b]\nuse = "ghost"\n[pipelines.default]\nembedder = "nobody"\n'
    )
    done = run("--config", str(main), "config", "check")
    assert done.exit_code != 0
    said = str(done.exception) + done.output
    wrong = ("llms.a.base_ur: unknown key; did you mean 'base_url'?", "llms.b: No active plugin has the llm 'ghost'")
    for mistake in (*wrong, "pipelines.default.embedder: No active plugin has the embedder 'nobody'"):
        assert f"{main}: {mistake}" in said


@pytest.mark.parametrize("name", ["production.toml", "sourcebook.toml"])
def test_the_schema_takes_our_own_files(schema: Draft202012Validator, name: str) -> None:
    found = tomllib.loads((ROOT / "config" / name).read_text("utf-8"))
    assert [e.message for e in schema.iter_errors(found)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"server": {"prot": 1}},
        {"llms": {"fast": {"use": "openai", "base_url": "http://x/v1", "model": "m", "modle": "m"}}},
        {"llms": {"fast": {"use": "nobody"}}},
        {"retrievers": {"qdrant": {"compact_above": "many"}}},
        {"retrievers": {"qdrant": {"qantization": "int8"}}},
    ],
)
def test_the_schema_refuses_what_the_server_would(schema: Draft202012Validator, wrong: dict[str, Any]) -> None:
    assert not schema.is_valid(wrong)


def test_check_names_the_cores_mistakes_with_those_of_instances(tmp_path: Path) -> None:
    main = tmp_path / "sourcebook.toml"
    main.write_text(
        """
[server]
prot = 1
port = "nine"
[llms]
gone = 3
[llms.a]
use = "openai"
base_ur = "x"
[pipelines.default]
llm = ["gone", "ghost"]
[pipelines.deep]
extends = "nowhere"
prompts.system = "missing.txt"
"""
    )
    done = run("--config", str(main), "config", "check")
    assert done.exit_code != 0
    issues = {i["key"]: i["message"] for i in done.exception.details["issues"]}  # type: ignore[union-attr]
    assert set(issues) == {
        "server.prot",
        "server.port",
        "llms.gone",
        "llms.a.base_ur",
        "llms.a.model",
        "pipelines.default.llm",
        "pipelines.deep.extends",
        "pipelines.deep.prompts",
    }
    assert "'ghost'" in issues["pipelines.default.llm"]  # and not `gone`, which is told at its own place
    assert "nowhere" in issues["pipelines.deep.extends"]


def test_where_the_plugins_are_wrong_their_components_are_not_judged(tmp_path: Path) -> None:
    main = tmp_path / "sourcebook.toml"
    main.write_text('[plugins]\nenabled = 7\n[pipelines.default]\nllm = ["theirs"]\n')
    done = run("--config", str(main), "config", "check")
    assert [i["key"] for i in done.exception.details["issues"]] == ["plugins.enabled"]  # type: ignore[union-attr]
