"""A distribution that somebody else wrote: found by its entry point, and loaded only where it is enabled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # a process of the command line each

DISTRIBUTION = Path(__file__).parent / "third_party" / "sourcebook-shout"
# Run in its own process: what was imported there is what loading imported.
_LOAD = """
import json, sys
from pathlib import Path
from sourcebook.http import Http
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import Plugins
from sourcebook.configuration import load

configuration = load(Path(sys.argv[1]))
plugins = Plugins(configuration.settings.plugins)
plugins.load()
pipelines = Pipelines(plugins, configuration, Path(sys.argv[1]).parent, Http())
try:
    found = pipelines.parser_for("a.shout", "application/octet-stream", {}).ref.target
except Exception as error:
    found = type(error).__name__
info = plugins.infos["sourcebook-shout"]
print(json.dumps({"state": info.state, "reason": info.reason, "version": info.version, "components": info.components,
                  "imported": "sourcebook_shout" in sys.modules, "parser": found}))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as pip would leave it: the module, and what its pyproject says as metadata."""
    project = tomllib.loads((DISTRIBUTION / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    points = "".join(f"{n} = {v}\n" for n, v in project["entry-points"]["sourcebook"].items())
    (info / "entry_points.txt").write_text(f"[sourcebook]\n{points}", encoding="utf-8")
    shutil.copy(DISTRIBUTION / "sourcebook_shout.py", folder)
    return folder


def loaded(site: Path, config: str, **environ: str) -> dict[str, Any]:
    """What a process with the folder on its path says of the distribution."""
    file = site.parent / "sourcebook.toml"
    file.write_text(config, encoding="utf-8")
    clean = {n: v for n, v in os.environ.items() if not n.startswith("SOURCEBOOK_")}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(file)],
        env={**clean, "PYTHONPATH": str(site), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_distribution_that_is_not_enabled_is_listed_and_never_imported(site: Path) -> None:
    found = loaded(site, "")
    assert found["state"] == "off"
    assert found["reason"] == "not in [plugins] enabled"
    assert found["version"] == "1.0.0"
    assert not found["imported"]
    assert found["parser"] == "UnsupportedType"


@pytest.mark.parametrize("name", ["sourcebook-shout", "Sourcebook_Shout"])
def test_an_enabled_distribution_is_active_and_its_parser_is_found(site: Path, name: str) -> None:
    found = loaded(site, f'[plugins]\nenabled = ["{name}"]\n')
    assert found["state"] == "active"
    assert found["components"] == {"parsers": ["shout"]}
    assert found["imported"]
    assert found["parser"] == "sourcebook_shout:ShoutParser"


def test_the_environment_may_enable_it_too(site: Path) -> None:
    assert loaded(site, "", SOURCEBOOK_LOAD_PLUGINS="other,sourcebook-shout")["state"] == "active"


def test_one_that_breaks_at_import_has_failed_and_says_why(site: Path) -> None:
    (site / "sourcebook_shout.py").write_text("raise SystemExit('no voice')\n", encoding="utf-8")
    found = loaded(site, '[plugins]\nenabled = ["sourcebook-shout"]\n')
    assert found["state"] == "failed"
    assert found["reason"] == "SystemExit: no voice"
    assert found["parser"] == "UnsupportedType"
