"""`worker`, `db`, `jobs`, `owners`, `backup`, `restore`, `export`, `import`: an installation run from a terminal.

Each on data folders of its own. A command fails as it does on a terminal: a sentence, a remedy, an exit code.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from sourcebook.database.tables import SCHEMA
from sourcebook_api import cli

pytestmark = pytest.mark.slow  # a process of the command line each

TIDES = "# Tides\n\nHigh water at Tolvane is at six.\n"
NO_PARSER = b"\x00\x01"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """One command as the console script runs it, in the installation of a folder."""

    def command(folder: Path, *words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["sourcebook", "-c", str(folder / "sourcebook.toml"), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else int(code is not None), out, err)

    return command


def installation(folder: Path, extra: str = "") -> Path:
    """A folder with a configuration whose data lies in it."""
    folder.mkdir(exist_ok=True)
    text = f'[storage]\npath = "{folder}/data"\n[retrievers.qdrant]\nidle_seconds = 0\n{extra}'
    (folder / "sourcebook.toml").write_text(text)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty installation."""
    return installation(tmp_path / "home")


def filled(run: Run, home: Path, owner: str = "local") -> str:
    """A notebook with one source that is ready; the source's id."""
    (home / "tides.md").write_text(TIDES)
    done = run(home, "ingest", "Notes", home / "tides.md", "--owner", owner, "--json")
    assert done.code == 0, done.err
    return str(done.json[0]["id"])


def queued(run: Run, home: Path, owner: str = "local") -> str:
    """A job that waits: the one of an imported notebook, since `import` runs no worker."""
    other = installation(home.parent / "other")
    filled(run, other)
    assert run(other, "export", "Notes", home / "notes.zip").code == 0
    done = run(home, "import", home / "notes.zip", "--owner", owner)
    assert done.code == 0, done.err
    assert "1 sources are ingested by the next worker" in done.err
    (job,) = run(home, "jobs", "list", "--state", "queued", "--json").json
    return str(job["id"])


# worker


def started(home: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sourcebook_api", "-c", str(home / "sourcebook.toml"), "worker", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_worker_does_what_waits_and_ends_at_a_signal(run: Run, home: Path, stop: signal.Signals) -> None:
    job = queued(run, home)
    worker = started(home, "--workers", "2")
    try:
        assert worker.stderr is not None
        said = worker.stderr.readline()
        assert said.startswith("2 jobs at a time from sqlite")
        while run(home, "jobs", "list", "--json").json:  # all but done; the test's timeout bounds it
            pass
        worker.send_signal(stop)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.communicate()
    states = {j["id"]: j["state"] for j in run(home, "jobs", "list", "--state", "done", "--json").json}
    assert states[job] == "done"
    assert "High water" in run(home, "search", "Notes", "high water").out


def test_a_worker_takes_no_number_of_jobs_that_is_none(run: Run, home: Path) -> None:
    done = run(home, "worker", "--workers", "0")
    assert done.code == 2
    assert "--workers" in done.err


def test_a_worker_says_what_is_wrong_with_its_configuration(run: Run, home: Path) -> None:
    installation(home, "[jobs]\nworkres = 2\n")
    done = run(home, "worker")
    assert done.code == 3
    assert "did you mean 'workers'" in done.err


# db


def test_a_schema_is_missing_made_and_there(run: Run, home: Path) -> None:
    before = run(home, "db", "current", "--json")
    assert (before.code, before.json) == (1, {"current": None, "needed": SCHEMA})
    assert not (home / "data").exists(), "whoever only asks makes nothing"
    upgraded = run(home, "db", "upgrade")
    assert (upgraded.code, upgraded.err.strip()) == (0, f"Upgraded from nothing to {SCHEMA}.")
    again = run(home, "db", "upgrade")
    assert (again.code, again.err.strip()) == (0, f"The database has schema {SCHEMA}.")
    now = run(home, "db", "current")
    assert (now.code, now.out.strip()) == (0, f"{SCHEMA} (needed: {SCHEMA})")


def test_a_schema_of_a_later_version_is_refused_by_name(run: Run, home: Path) -> None:
    run(home, "db", "upgrade")
    with sqlite3.connect(home / "data" / "sourcebook.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert run(home, "db", "current", "--json").json == {"current": "9999", "needed": SCHEMA}
    done = run(home, "db", "upgrade")
    assert done.code == 1
    assert "9999" in done.err
    assert "a later one" in done.err


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("postgresql://nobody:hidden@127.0.0.1:9/none", 1, "database"),
        ("nonsense://x", 3, "storage.database"),
        ("no url", 3, "storage.database"),
    ],
)
def test_a_database_that_cannot_be_had_is_named(run: Run, home: Path, url: str, code: int, said: str) -> None:
    (home / "sourcebook.toml").write_text(f'[storage]\npath = "{home}/data"\ndatabase = "{url}"\n')
    for command in ("upgrade", "current"):
        done = run(home, "db", command)
        assert done.code == code, done.err
        assert said in done.err
        assert "Traceback" not in done.err
        assert "hidden" not in done.err


# jobs


@pytest.mark.slow
def test_a_job_is_listed_cancelled_and_retried_by_its_id_alone(run: Run, home: Path) -> None:
    job = queued(run, home, owner="ada")
    assert f"{job}  ingest  queued" in run(home, "jobs", "list").out
    done = run(home, "jobs", "cancel", job)
    assert (done.code, done.err.strip()) == (0, f"{job} is cancelled.")
    assert [j["id"] for j in run(home, "jobs", "list", "--state", "cancelled", "--json").json] == [job]
    done = run(home, "jobs", "retry", job)
    assert done.code == 0, done.err
    assert "is queued again" in done.err
    done = run(home, "jobs", "retry", job)
    assert done.code == 1
    assert f"The job {job} is queued, and cannot be retried." in done.err


def test_a_failed_job_tells_why(run: Run, home: Path) -> None:
    (home / "what.xyz").write_bytes(NO_PARSER)
    assert run(home, "ingest", "Notes", home / "what.xyz").code == 1
    listed = run(home, "jobs", "list", "--state", "failed")
    assert listed.code == 0
    assert "failed" in listed.out
    assert "parser" in listed.out


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_job_that_is_not_there_is_said(run: Run, home: Path, action: str) -> None:
    done = run(home, "jobs", action, "job_none")
    assert done.code == 1
    assert "There is no job job_none." in done.err
    assert "`sourcebook jobs list`" in done.err


@pytest.mark.parametrize("words", [("--state", "nearly"), ("--limit", "0"), ("--limit", "many"), ("--sate", "done")])
def test_a_list_of_jobs_that_makes_no_sense_is_refused(run: Run, home: Path, words: tuple[str, str]) -> None:
    done = run(home, "jobs", "list", *words)
    assert done.code == 2
    assert words[0] in done.err
    assert done.out == ""


@pytest.mark.slow
def test_limit_bounds_the_list(run: Run, home: Path) -> None:
    filled(run, home)
    (home / "more.md").write_text("# More")
    run(home, "ingest", "Notes", home / "more.md")
    assert len(run(home, "jobs", "list", "--state", "done", "--json").json) == 2
    assert len(run(home, "jobs", "list", "--state", "done", "--limit", "1", "--json").json) == 1


# owners


@pytest.mark.slow
def test_an_owner_is_removed_with_everything_and_it_is_written_down(run: Run, home: Path) -> None:
    filled(run, home, owner="ada")
    filled(run, home, owner="bob")
    assert run(home, "keys", "create", "--owner", "ada").code == 0
    done = run(home, "owners", "remove", "ada", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["keys"] == 1
    assert run(home, "jobs", "list", "--json").json == []
    assert run(home, "search", "Notes", "water", "--owner", "bob").code == 0
    with sqlite3.connect(home / "data" / "sourcebook.db") as database:
        names = [name for (name,) in database.execute("SELECT name FROM owners")]
    database.close()
    assert "ada" not in names
    last = json.loads((home / "data" / "audit.log").read_text().splitlines()[-1])
    assert (last["action"], last["owner"]) == ("owners remove", "ada")


def test_an_owner_is_removed_only_where_somebody_says_yes(run: Run, home: Path, monkeypatch: Any) -> None:
    filled(run, home, owner="ada")
    monkeypatch.setattr("sys.stdin", StringIO(""))
    done = run(home, "owners", "remove", "ada")
    assert done.code == 1
    assert run(home, "search", "Notes", "water", "--owner", "ada").code == 0


def test_an_owner_that_is_not_there_is_said_before_anything_is_asked(run: Run, home: Path) -> None:
    done = run(home, "owners", "remove", "ghost")
    assert done.code == 1
    assert "There is no owner 'ghost'." in done.err
    assert "Delete everything" not in done.out + done.err


# backup and restore


@pytest.mark.slow
def test_a_backup_is_restored_into_an_empty_installation_and_no_other(run: Run, home: Path, tmp_path: Path) -> None:
    filled(run, home)
    file = tmp_path / "all.zip"
    done = run(home, "backup", file)
    assert done.code == 0, done.err
    assert f"{file}: 1 sources, 1 files, {len(TIDES)} bytes" in done.err
    fresh = installation(tmp_path / "fresh")
    done = run(fresh, "restore", file)
    assert done.code == 0, done.err
    assert "Restored 1 sources, 1 files" in done.err
    assert run(fresh, "doctor", "--repair").code == 0
    assert "High water" in run(fresh, "search", "Notes", "high water").out
    done = run(fresh, "restore", file)
    assert done.code == 1
    assert "is not empty" in done.err
    assert "new data folder" in done.err


@pytest.mark.parametrize("where", ["folder", "missing/all.zip"])
@pytest.mark.parametrize("command", ["backup", "export"])
def test_a_file_that_cannot_be_written_is_said(run: Run, home: Path, command: str, where: str) -> None:
    filled(run, home)
    (home / "folder").mkdir()
    words = (command, "Notes", home / where) if command == "export" else (command, home / where)
    done = run(home, *words)
    assert done.code == 1
    assert f"{home / where} cannot be written" in done.err
    assert "Traceback" not in done.err
    assert not list(home.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["restore", "import"])
@pytest.mark.parametrize("how", ["missing", "folder", "junk", "cut", "changed", "of the other kind"])
def test_a_file_that_is_none_of_ours_is_refused(run: Run, home: Path, command: str, how: str) -> None:
    file = home / "file.zip"
    other = installation(home.parent / "other")
    if how == "folder":
        file.mkdir()
    elif how == "junk":
        file.write_bytes(b"PK nothing")
    elif how != "missing":
        filled(run, other)
        backup = (command == "restore") != (how == "of the other kind")
        assert run(other, *(("backup", file) if backup else ("export", "Notes", file))).code == 0
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    if how == "changed":
        change(file)
    done = run(home, command, file)
    assert done.code == 1, done.err
    assert file.name in done.err
    assert "Traceback" not in done.err
    assert run(home, "notebooks", "list", "--json").json == []


def change(file: Path) -> None:
    """Other bytes in one entry, under the hashes of before."""
    with zipfile.ZipFile(file) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    blob = next(name for name in entries if name.startswith("blobs/"))
    entries[blob] = entries[blob].swapcase()
    with zipfile.ZipFile(file, "w") as new:
        for name, data in entries.items():
            new.writestr(name, data)


# export and import


@pytest.mark.slow
def test_a_notebook_is_taken_to_another_installation_and_owner(run: Run, home: Path, tmp_path: Path) -> None:
    filled(run, home)
    file = tmp_path / "notes.zip"
    done = run(home, "export", "Notes", file)
    assert done.code == 0, done.err
    assert "1 sources" in done.err
    there = installation(tmp_path / "there")
    done = run(there, "import", file, "--owner", "bob")
    assert done.code == 0, done.err
    assert done.err.startswith("nb_")
    found = ""
    for _ in range(20):  # what is queued is done while a command with workers runs, and it waits for none of it
        assert run(there, "doctor", "--repair").code == 0
        if found := run(there, "search", "Notes", "high water", "--owner", "bob").out:
            break
    assert "High water" in found
    assert run(there, "notebooks", "list", "--json").json == []  # not `local`'s


def test_a_notebook_that_is_not_there_is_answered_with_those_that_are(run: Run, home: Path) -> None:
    filled(run, home)
    done = run(home, "export", "Nots", home / "notes.zip")
    assert done.code == 1
    assert "'Notes'" in done.err
    assert not (home / "notes.zip").exists()


@pytest.mark.parametrize("command", ["backup", "restore", "export", "import"])
def test_a_missing_argument_is_wrong_usage(run: Run, home: Path, command: str) -> None:
    done = run(home, command)
    assert done.code == 2
    assert "Missing argument" in done.err
