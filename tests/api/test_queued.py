"""Sources that wait to be read: a command says so, and does not look as if it had searched them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sourcebook.accepting import once
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.hosts import with_book
from sourcebook.presence import Presence
from sourcebook_api.cli import cli

WAITING = "2 sources are still to be read; results may be incomplete."
WHO = " `sourcebook serve` or `sourcebook worker` reads them."


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One source that is ready, and two that were accepted where nobody reads, as a restore leaves them."""
    (tmp_path / "sourcebook.toml").write_text(f'[storage]\npath = "{tmp_path}/data"\n')
    (tmp_path / "tides.md").write_text("High water is at six.")
    assert run(tmp_path, "ingest", "Notes", str(tmp_path / "tides.md")).exit_code == 0

    async def accept(book: Sourcebook) -> None:
        me = await book.owners.local()
        (notebook,) = await book.notebooks.named(me, "Notes")
        for n in range(2):
            await book.sources.accept(notebook, f"{n}.md", once(f"Low water is at noon, {n}.".encode()))

    with_book(load(tmp_path / "sourcebook.toml", environ={}), accept)
    return tmp_path


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--config", str(home / "sourcebook.toml"), *words])


@contextmanager
def worker(home: Path) -> Iterator[None]:
    """A process that lives, and is busy with something else."""
    presence = Presence(home / "data" / "workers")
    presence.enter()
    yield
    presence.leave()


def queue(home: Path) -> tuple[bool, str]:
    found = {f["check"]: f for f in json.loads(run(home, "doctor", "--json").stdout)}
    return found["queue"]["ok"], found["queue"]["detail"]


def test_search_and_ask_say_that_sources_are_still_to_be_read_and_by_whom(home: Path) -> None:
    for words in (("search", "Notes", "high water"), ("ask", "Notes", "When is high water?")):
        done = run(home, *words)
        assert WAITING + WHO in done.stderr.splitlines()
        assert "High water is at six." in done.stdout
        assert "sources" not in done.stdout
    told = run(home, "search", "Notes", "high water", "--explain", "--json")
    assert json.loads(told.stdout)["still_read"] == 2
    with worker(home):
        assert WAITING in run(home, "search", "Notes", "high water").stderr.splitlines()


def test_where_all_is_read_nothing_is_said_of_it(home: Path) -> None:
    again = [str(home / f"{n}.md") for n in range(2)]
    for n, path in enumerate(again):
        Path(path).write_text(f"Low water is at noon, {n}.")
    assert run(home, "ingest", "Notes", *again).exit_code == 0
    assert "still" not in run(home, "search", "Notes", "high water").stderr
    assert json.loads(run(home, "search", "Notes", "water", "--explain", "--json").stdout)["still_read"] == 0


def test_doctor_counts_the_jobs_that_wait_and_says_whether_anybody_is_there(home: Path) -> None:
    lonely = "2 jobs wait, and no worker is there to do them: start `sourcebook serve` or `sourcebook worker`"
    assert queue(home) == (True, lonely)
    with worker(home):
        assert queue(home) == (True, "2 jobs wait")
