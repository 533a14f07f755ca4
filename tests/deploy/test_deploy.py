"""The files of deploy/ fit each other, the configuration and the program, as far as reading them can tell."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from sourcebook.configuration import Configuration, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("api1", "api2", "worker1", "worker2", "migrate")


def settings_of(service: str, folder: Path) -> Configuration:
    """What the service would run with: its environment over the file that it mounts, secrets from a folder of ours."""
    (folder / "database").write_text("postgresql+psycopg://sourcebook:word@postgres/sourcebook\n")
    (folder / "llm_key").write_text("sk-test\n")
    environment = {k: v.replace("/run/secrets", str(folder)) for k, v in SERVICES[service]["environment"].items()}
    return load(ROOT / "config" / "production.toml", environment)


@pytest.mark.parametrize("service", OURS)
def test_a_service_of_compose_has_settings_that_lead_to_the_other_services(service: str, tmp_path: Path) -> None:
    settings = settings_of(service, tmp_path).settings
    database = sa.make_url(settings.storage.database)
    assert database.host in SERVICES
    postgres = SERVICES["postgres"]["environment"]
    assert (database.username, database.database) == (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"])
    qdrant = re.fullmatch(r"http://(\w+):6333", settings.retrievers["qdrant"]["url"])
    assert qdrant is not None
    assert qdrant[1] in SERVICES
    mounts = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES[service]["volumes"]}
    assert mounts[settings.blob_stores["files"]["folder"]] in COMPOSE["volumes"]
    assert (DEPLOY / mounts["/etc/sourcebook/sourcebook.toml"]).resolve() == ROOT / "config" / "production.toml"
    assert str(settings.storage.path) in {tmpfs.split(":")[0] for tmpfs in SERVICES[service]["tmpfs"]}


def test_every_secret_and_volume_of_compose_is_declared_and_used() -> None:
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])
    named = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", ())}
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        for key, value in service.get("environment", {}).items():
            if key.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], key


def test_two_servers_do_no_jobs_and_two_workers_listen_nowhere(tmp_path: Path) -> None:
    assert [settings_of(name, tmp_path).settings.jobs.workers for name in ("api1", "api2")] == [0, 0]
    assert all(settings_of(name, tmp_path).settings.jobs.workers > 0 for name in ("worker1", "worker2"))
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["nginx"]


def test_the_proxy_passes_on_to_the_servers_of_compose_at_the_port_of_the_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    port = settings_of("api1", tmp_path).settings.server.port
    assert re.findall(r"^\s*server (\S+) max_fails", text, re.MULTILINE) == [f"api1:{port}", f"api2:{port}"]
    beat = load(None, {}).settings.runs.heartbeat
    patience = [int(seconds) for seconds in re.findall(r"(?:proxy_read|send)_timeout (\d+)s;", text)]
    assert patience
    assert min(patience) > 2 * beat


@pytest.mark.parametrize("service", OURS)
def test_every_command_of_compose_and_of_the_image_exists(service: str) -> None:
    (default,) = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    command = SERVICES[service].get("command", yaml.safe_load(default))
    is_a_command([*command])


def is_a_command(arguments: list[str]) -> None:
    asked = [sys.executable, "-m", "sourcebook_api", *arguments, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_copies_what_there_is_installs_what_is_declared_and_runs_as_nobody_special() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    stages = text.split("\nFROM ")[1:]
    assert len(stages) == 2
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", text, re.MULTILINE)
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras.split(","):
        assert f"\n{extra} = [" in declared, extra
    assert re.search(r"^USER 10001$", stages[1], re.MULTILINE)
    assert "uid=10001" in " ".join(COMPOSE["x-sourcebook"]["tmpfs"])
    health = re.search(r'CMD \["python", "-c", "(.+)"\]', text)
    assert health is not None
    assert "http://127.0.0.1:8000/livez" in health[1]
    compile(health[1], "healthcheck", "exec")
    assert load(ROOT / "config" / "production.toml", {}).settings.server.port == 8000


def test_whoever_stops_a_server_waits_longer_than_it_drains(tmp_path: Path) -> None:
    server = settings_of("api1", tmp_path).settings.server
    needed = server.drain + server.shutdown_grace
    assert int(SERVICES["api1"]["stop_grace_period"].removesuffix("s")) > needed
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "sourcebook.service").read_text(), re.MULTILINE)
    assert int(stop) > needed


def test_the_production_file_is_one_that_config_check_passes() -> None:
    asked = [sys.executable, "-m", "sourcebook_api", "--config", "config/production.toml", "config", "check"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", ["sourcebook.service", "sourcebook-worker.service"])
def test_the_units_commands_exist_and_systemd_takes_them(unit: str, tmp_path: Path) -> None:
    text = (DEPLOY / unit).read_text(encoding="utf-8")
    for line in re.findall(r"^ExecStart(?:Pre)?=/opt/sourcebook/bin/sourcebook (.+)$", text, re.MULTILINE):
        is_a_command(shlex.split(line))
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    ours = Path(sys.executable).with_name("sourcebook")
    (tmp_path / unit).write_text(text.replace("/opt/sourcebook/bin/sourcebook", str(ours)), encoding="utf-8")
    done = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if unit in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_every_package_of_debian_that_tests_use_is_listed_once() -> None:
    lines = (ROOT / "apt.txt").read_text(encoding="utf-8").split("\n")
    assert "nginx" in lines
    assert len(lines) == len(set(lines))
