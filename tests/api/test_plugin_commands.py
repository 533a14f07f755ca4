"""`plugins new|list|show|check`, `parse`, `chunk`, and the commands that plugins add."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fpdf import FPDF
from typer.testing import CliRunner

from sourcebook.errors import PluginError
from sourcebook.scaffolding import write
from sourcebook_api.cli import cli

pytestmark = pytest.mark.slow

CONFIG = '[plugins]\nenabled = ["acme-notes"]\n'
COMMAND = """

@hookimpl
def register_commands(cli):
    @cli.command()
    def shout(word: str, times: int = 1):
        print(word.upper() * times)
"""


def run(*arguments: str, site: Path | None = None, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    clean = {n: v for n, v in os.environ.items() if not n.startswith("SOURCEBOOK_")}
    done = subprocess.run(
        [sys.executable, "-m", "sourcebook_api", *arguments],
        env={**clean, "PYTHONPATH": str(site or "")},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip would leave it, with a new parser that is also given a command."""
    folder = tmp_path_factory.mktemp("site")
    module = write("acme-notes", "parser", folder)[2]
    (folder / "acme_notes.py").write_text(module.read_text() + COMMAND)
    info = folder / "acme_notes-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-notes\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(
        "[sourcebook]\nacme_notes = acme_notes\n[sourcebook.commands]\nshout = acme_notes\n"
    )
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "sourcebook.toml").write_text(CONFIG)
    (tmp_path / "tides.acme-notes").write_text("High water at six.\n\nLow water at noon.\n")
    return tmp_path


def test_a_new_plugin_is_written_and_what_to_do_next_is_said(tmp_path: Path) -> None:
    done = run("plugins", "new", "my-llm", "--kind", "llm", cwd=tmp_path)
    assert sorted(done.stdout.split()) == [
        "my-llm/README.md",
        "my-llm/my_llm.py",
        "my-llm/pyproject.toml",
        "my-llm/tests/test_my_llm.py",
    ]
    assert "pip install -e 'my-llm[test]'" in done.stderr
    assert "exists already" in run("plugins", "new", "my-llm", "--kind", "llm", cwd=tmp_path, code=3).stderr


def test_plugins_are_listed_and_shown_with_the_schema_of_their_settings(site: Path, here: Path) -> None:
    assert (
        "acme-notes     active  acme-notes 0.1.0  parsers: acme_notes"
        in run("plugins", "list", site=site, cwd=here).stdout
    )
    shown = json.loads(run("plugins", "show", "acme-notes", site=site, cwd=here).stdout)
    assert shown["state"] == "active"
    assert shown["settings"]["parsers"]["acme_notes"]["properties"]["encoding"]["default"] == "utf-8"
    (here / "sourcebook.toml").write_text("")
    assert "off" in run("plugins", "list", site=site, cwd=here).stdout.partition("acme-notes")[2].split("\n")[0]


def test_a_plugin_is_checked_by_its_contracts(site: Path, here: Path) -> None:
    done = run("plugins", "check", "acme-notes", "--samples", ".", site=site, cwd=here)
    head, row, *_ = done.stdout.splitlines()  # what needs the jail is not run: the folder is not on its path
    assert head.startswith("acme-notes 0.1.0: imported in ")
    assert row.split()[:5] == ["parsers.acme_notes", "9", "passed", "0", "failed"]


def changed(site: Path, into: Path, change: Callable[[str], str]) -> Path:
    """The plugin with another text of its module."""
    for path in site.iterdir():
        if path.is_file():
            (into / path.name).write_text(change(path.read_text()))
        elif path.suffix == ".dist-info":
            (into / path.name).mkdir()
            for file in path.iterdir():
                (into / path.name / file.name).write_text(file.read_text())
    return into


def test_a_plugin_that_hangs_fails_its_check_and_is_named_with_the_sample(
    site: Path, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sleeps = "        __import__('time').sleep(100)\n"
    body = re.compile(r"(    def parse\(.*\n)")
    broken = changed(site, tmp_path_factory.mktemp("hangs"), lambda text: body.sub(r"\1" + sleeps, text))
    began = time.monotonic()
    check = ("plugins", "check", "acme-notes", "--samples", ".", "--deadline", "0.2", "--json")
    [row] = json.loads(run(*check, site=broken, cwd=here, code=1).stdout)["rows"]
    assert any("The parser 'acme_notes' on tides.acme-notes was not done within 0.2 s" in f for f in row["failures"])
    assert row["passed"] > 0  # what does not call it
    assert time.monotonic() - began < 60


def test_a_broken_plugin_fails_its_check_and_says_where(
    site: Path, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def change(text: str) -> str:
        text = text.replace("enumerate(", "enumerate(__import__('random').sample(")
        return text.replace('split("\\n\\n"), start=1', 'split("\\n\\n"), k=1), start=1')

    broken = changed(site, tmp_path_factory.mktemp("broken"), change)
    (here / "tides.acme-notes").write_text("\n\n".join(map(str, range(400))))
    report = json.loads(
        run("plugins", "check", "acme-notes", "--samples", ".", "--json", site=broken, cwd=here, code=1).stdout
    )
    [row] = report["rows"]
    assert any(f.startswith("test_it_is_deterministic") for f in row["failures"])


def test_one_that_is_not_installed_cannot_be_checked(here: Path) -> None:
    assert "No plugin 'acme-nobody' is installed" in run("plugins", "check", "acme-nobody", cwd=here, code=1).stderr


def said(*arguments: str) -> Any:
    """In this process: built-in parsers need no folder of their own."""
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def tides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tides.txt").write_text("High water at six.\n\nLow water at noon.\n")
    return "tides.txt"


def test_parse_shows_blocks_places_and_cost(tides: str) -> None:
    result = said("parse", tides)
    assert "paragraph [20, 38)" in result.stdout
    assert "    Low water at noon." in result.stdout
    assert "parser:   text/" in result.stderr
    assert "ms in the warm jail" in result.stderr
    found = json.loads(said("parse", tides, "--json").stdout)
    assert found["ranges"] == [["paragraph", 0, 18, 0], ["paragraph", 20, 38, 0]]
    assert found["memory"] > 1_000_000


def test_parse_asks_the_parser_that_is_named(tides: str) -> None:
    assert said("parse", tides, "--parser", "markdown", "--text").stdout == "High water at six.\n\nLow water at noon.\n"
    with pytest.raises(PluginError, match="No active plugin has the parser 'nobody'"):
        said("parse", tides, "--parser", "nobody")


def test_chunk_shows_every_range(tides: str) -> None:
    found = json.loads(said("chunk", tides, "--chunker", "recursive", "--json").stdout)
    text = "High water at six.\n\nLow water at noon."
    assert [r["text"] for r in found["ranges"]] == [text[r["start"] : r["end"]] for r in found["ranges"]]
    assert "  [0, " in said("chunk", tides).stdout


def test_the_password_of_a_file_is_asked_for_and_never_taken_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(text="The ferry leaves at seven.")
    pdf.set_encryption(owner_password="owner", user_password="sesame")
    monkeypatch.chdir(tmp_path)
    Path("ferry.pdf").write_bytes(bytes(pdf.output()))
    for command in ("parse", "chunk"):
        opened = CliRunner().invoke(cli, [command, "ferry.pdf", "--password", "--json"], input="sesame\n")
        assert opened.exit_code == 0, opened.output
        assert "The ferry leaves at seven." in opened.stdout
        for arguments in ([], ["--password", "sesame"], ["--password=sesame"]):
            assert CliRunner().invoke(cli, [command, "ferry.pdf", *arguments]).exit_code != 0


def test_a_plugins_command_is_listed_from_metadata_and_loaded_when_used(site: Path, here: Path) -> None:
    assert "Added by acme-notes." in run("--help", site=site, cwd=here).stdout
    assert run("shout", "ahoy ", "--times", "2", site=site, cwd=here).stdout == "AHOY AHOY \n"
    (here / "sourcebook.toml").write_text("")
    error = run("shout", "ahoy", site=site, cwd=here, code=1).stderr
    assert "it is off: not in [plugins] enabled" in error
    assert 'enabled = ["acme-notes"]' in error


def test_help_imports_no_plugin(site: Path, here: Path) -> None:
    code = (
        "import sys\nsys.argv = ['sourcebook', '--help']\nfrom sourcebook_api.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*[m for m in sys.modules if m == 'acme_notes' or m.startswith('sourcebook_plugins')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == ""
