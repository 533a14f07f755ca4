"""The tutorial for authors of plugins, done as it stands: its files written and its commands typed, in order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pages import DOCS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a process for each command

PAGE = (DOCS / "plugins" / "tutorial.md").read_text(encoding="utf-8")
# A block that is no console is a file; the text before it ends with the file's name.
_STEP = re.compile(r"```console\n(?P<typed>.*?)```|`(?P<file>[\w./]+)`:\n\n```\w+\n(?P<text>.*?)```", re.DOTALL)


class Author:
    """Somebody with a fresh environment in which Sourcebook is installed, beginning in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.here = folder / "work"
        self.here.mkdir()
        venv.create(folder / "venv", with_pip=False)
        (self.site,) = (folder / "venv").glob("lib/python*/site-packages")
        # As if all that we have were installed in it: our own environment's packages, and their .pth files.
        (self.site / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def type(self, line: str) -> str:
        """What a command prints. Raises where it fails."""
        program, *arguments = shlex.split(line)
        if program == "cd":
            self.here /= arguments[0]
            return ""
        if program == "pip":
            return self.install(*arguments)
        module = {"sourcebook": "sourcebook_api", "pytest": "pytest"}[program]
        quiet = ["-q", "-p", "no:cacheprovider"] if program == "pytest" else []
        command = [str(self.bin / "python"), "-m", module, *arguments, *quiet]
        clean = {n: v for n, v in os.environ.items() if not n.startswith(("SOURCEBOOK_", "PYTHONPATH"))}
        done = subprocess.run(command, cwd=self.here, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, verb: str, editable: str, what: str) -> str:
        """What pip would leave behind. It would fetch what the extra names, and warn where there is no such extra."""
        assert (verb, editable, what) == ("install", "-e", ".[test]")
        project = tomllib.loads((self.here / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert any(need.startswith("pytest") for need in project["optional-dependencies"]["test"])
        stem = project["name"].replace("-", "_")
        info = self.site / f"{stem}.dist-info"
        info.mkdir(exist_ok=True)
        head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        points = [f"{name} = {module}\n" for name, module in project["entry-points"]["sourcebook"].items()]
        (info / "METADATA").write_text(head, encoding="utf-8")
        (info / "entry_points.txt").write_text("[sourcebook]\n" + "".join(points), encoding="utf-8")
        (self.site / f"{stem}.pth").write_text(f"{self.here}\n", encoding="utf-8")
        return ""


def steps() -> Iterator[tuple[str, str]]:
    """A file's name and its text, or '$' and a command."""
    for step in _STEP.finditer(PAGE):
        if step["file"]:
            yield step["file"], step["text"]
        else:
            yield from (("$", line.removeprefix("$ ")) for line in step["typed"].splitlines())


def test_every_block_is_a_file_or_commands() -> None:
    """Else one might be passed over below."""
    assert len(re.findall("^```$", PAGE, re.MULTILINE)) == len(_STEP.findall(PAGE))


def test_all_of_it_works_in_the_order_in_which_it_is_written(tmp_path: Path) -> None:
    author, printed = Author(tmp_path), {}
    for name, text in steps():
        if name == "$":
            printed[text] = author.type(text)
        else:
            (author.here / name).write_text(text, encoding="utf-8")
    assert re.search(r"^sourcebook-subrip +active", printed["sourcebook plugins list"], re.MULTILINE)
    assert "The harbour opens at dawn." in printed["sourcebook parse film.srt --parser subrip"]
    search = next(said for line, said in printed.items() if line.startswith("sourcebook search"))
    assert "The harbour opens at dawn." in search
    checked = next(said for line, said in printed.items() if line.startswith("sourcebook plugins check"))
    assert re.search(r"^parsers\.subrip +\d\d passed +0 failed +0 not run", checked, re.MULTILINE), checked
