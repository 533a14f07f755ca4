"""`sourcebook config`: begins a configuration, checks all of it, and describes it to editors."""

from __future__ import annotations

import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema_rs import Draft202012Validator
from typer.testing import CliRunner, Result

from sourcebook.errors import ConfigError
from sourcebook_api.cli import cli, main

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(cli, list(arguments))


def written(folder: Path, text: str) -> Path:
    """A configuration of that text."""
    file = folder / "sourcebook.toml"
    file.write_text(text)
    return file


def ended(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the console script itself."""
    monkeypatch.setattr("sys.argv", ["sourcebook", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


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


NAMES = """
[plugins]
disabled = ["pdff", "docx"]
[plugins.mount]
webuii = "/page"
[pipelines.default.search]
weights = { sparse = 1.0, "dense@ghost" = 1.0, "dense:any@qdrant" = 1.0 }
relevance = { word = 0.3, lexical = 2.0, dense = 0.4, rerank = -1.0 }
"""


def test_names_of_plugins_and_legs_that_there_are_not_are_mistakes(tmp_path: Path) -> None:
    done = run("--config", str(written(tmp_path, NAMES)), "config", "check")
    search = "pipelines.default.search"
    assert [(i["key"], i["message"]) for i in done.exception.details["issues"]] == [  # type: ignore[union-attr]
        ("plugins.mount.webuii", "there is no plugin 'webuii'; did you mean 'webui'?"),
        ("plugins.disabled", "there is no built-in plugin 'pdff'; did you mean 'pdf'?"),
        (f"{search}.weights", "there is no leg 'sparse'; there are: dense, lexical"),
        (f"{search}.weights", "'dense@ghost' names no retriever of this pipeline; there are: qdrant"),
        (f"{search}.relevance", "nothing is measured by 'word'; did you mean 'words'?"),
        (f"{search}.relevance", "nothing is measured by 'lexical'; there are: dense, rerank, words"),
    ]


def test_a_start_refuses_what_check_does_and_says_the_same(tmp_path: Path) -> None:
    file = written(tmp_path, f'[storage]\npath = "{tmp_path}/data"\n[server]\nport = 0\n{NAMES}')
    command = [sys.executable, "-m", "sourcebook_api", "--config", str(file)]
    checked, started = (
        subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=60)
        for words in (("config", "check"), ("serve",))
    )
    assert (checked.returncode, started.returncode) == (3, 3)
    assert "error: 6 mistakes:" in checked.stderr
    assert started.stderr == checked.stderr


def test_what_is_no_database_url_but_begins_like_one_is_told_without_it(tmp_path: Path) -> None:
    done = run(
        "--config", str(written(tmp_path, '[storage]\ndatabase = "postgresql://me:hunter2@h:x/y"')), "config", "check"
    )
    assert isinstance(done.exception, ConfigError)
    assert [i["key"] for i in done.exception.details["issues"]] == ["storage.database"]
    assert "hunter2" not in str(done.exception.problem())


def test_each_mistake_has_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "port = 80\n[server]\nport = 'x'\n[llms.a]\nuse = 'ghost'\n[jobs]\nworker = 1")
    code, _, said = ended(capsys, monkeypatch, "--config", str(file), "config", "check")
    assert code == 3
    first, *lines = said.splitlines()
    assert first == "error: 4 mistakes:"
    assert [line.split(": ")[1] for line in lines[:4]] == ["server.port", "jobs.worker", "port", "llms.a"]
    assert all(line.startswith(f"  {file}: ") for line in lines[:4])


def test_a_wrong_configuration_is_json_where_json_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "port = 80\n")
    for command in ("check", "show"):
        code, out, _ = ended(capsys, monkeypatch, "--config", str(file), "config", command, "--json")
        problem = orjson.loads(out)
        assert (code, problem["code"]) == (3, "config_invalid")
        assert [i["key"] for i in problem["issues"]] == ["port"]
    file.write_text("[server\n")
    code, out, _ = ended(capsys, monkeypatch, "--config", str(file), "config", "check", "--json")
    assert (code, orjson.loads(out)["code"]) == (3, "config_invalid")


def test_show_prints_every_value_of_a_wrong_configuration_and_then_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "[server]\nport = 'x'\nhost = '::1'\nworkers = true")
    code, out, said = ended(capsys, monkeypatch, "--config", str(file), "config", "show")
    lines = out.splitlines()
    assert f"server.host = '::1'  # {file}" in lines
    assert f"server.port = 8000  # default: not valid in {file}" in lines
    assert f"server.workers = 1  # default: not valid in {file}" in lines
    assert code == 3
    assert "server.port" in said
    assert "server.workers" in said


def test_a_mistake_in_an_instance_as_a_whole_is_told_at_the_instance(tmp_path: Path) -> None:
    file = written(tmp_path, "[chunkers.markdown]\nsize = 100\noverlap = 90\n[chunkers.recursive]\nsize = true")
    done = run("--config", str(file), "config", "check")
    found = {i["key"]: i["message"] for i in done.exception.details["issues"]}  # type: ignore[union-attr]
    assert set(found) == {"chunkers.markdown", "chunkers.recursive.size"}
    assert not found["chunkers.markdown"].startswith("Value error")
    assert ".:" not in str(done.exception)


def test_true_is_no_number_in_the_settings_of_an_instance_either(tmp_path: Path) -> None:
    text = """
    fetchers.web = { ports = [80, true] }
    embedders.openai = { model = "m", timeouts = { connect = true } }
    chunkers.recursive = { size = true }
    parsers.pdf = { ocr = true, max_pages = 5 }
    """
    done = run("--config", str(written(tmp_path, text)), "config", "check")
    found = {i["key"]: i["message"] for i in done.exception.details["issues"]}  # type: ignore[union-attr]
    assert set(found) == {"fetchers.web.ports.1", "embedders.openai.timeouts.connect", "chunkers.recursive.size"}
    assert set(found.values()) == {"a number is needed here, and this is true or false"}
