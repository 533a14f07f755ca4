"""Runs the shell blocks of one section of the README, as written, and fails where one of them does.

A block whose first command is `sourcebook serve` is started beside the others, on a free port that then stands for
8000 in every other block. Uses nothing but the standard library: it also runs where only the wheel is installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def blocks(section: str) -> list[str]:
    """The shell blocks below a heading, up to the next one."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", readme, re.DOTALL | re.MULTILINE)
    if match is None:
        sys.exit(f"README.md has no section {section!r}")
    return _BLOCK.findall(match.group(1))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until `/readyz` answers 200."""
    for _ in range(300):
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server was not ready in 30 seconds")


def main() -> None:
    """Run the section that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--section", required=True)
    parser.add_argument("--bin", type=Path, help="run in an empty folder, with this first on the PATH")
    arguments = parser.parse_args()
    found = blocks(arguments.section)
    if not found:
        sys.exit(f"the section {arguments.section!r} has no shell block")
    folder = ROOT
    environment = dict(os.environ)
    if arguments.bin:
        folder = Path(tempfile.mkdtemp())
        shutil.copytree(ROOT / "api/sourcebook_api/demo", folder / "api/sourcebook_api/demo")
        environment["PATH"] = f"{arguments.bin.resolve()}:{environment['PATH']}"
    port = free_port()
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for block in found:
            script = block.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace(".venv/bin/sourcebook", "sourcebook")
            if not arguments.bin:
                script = block
            print(f"--- {arguments.section}:\n{script}", flush=True)
            if script.startswith("sourcebook serve"):
                command = script.split()
                servers.append(subprocess.Popen([*command, "--port", str(port)], cwd=folder, env=environment))
                wait_until_ready(f"http://127.0.0.1:{port}", servers[-1])
                continue
            subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, check=True)
    finally:
        for server in servers:
            server.terminate()
            server.wait(30)
        if arguments.bin:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
