"""The process behind a `Resident`: it confines itself, loads its parser once, and reads documents until it is told off.

`python -I -m sourcebook.jail_worker FD CONFIG`. On the socket FD it gets, per document, one byte with two open files:
the document's socket and the document. The end of the socket is the end of the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sourcebook import confinement
from sourcebook.interfaces import Parser
from sourcebook.jail_child import FILE, Config, Memory, answer, load_parser, readable_folders
from sourcebook.jail_frames import ComponentRef

READY = b"R"
"""Said once, before the first document; the parser is loaded with that."""

_OUT_OF_THE_WAY = 10  # a parser's file is always `FILE`
# Names and certificates, for a parser that may use the network.
_NETWORK_FOLDERS = ("/etc", "/run/systemd/resolve")


@dataclass(frozen=True)
class WorkerConfig:
    """How it is started: `module` holds the parser; `read` are more folders that it may read."""

    jail: Config
    module: str
    read: tuple[str, ...] = ()
    network: bool = False

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def main(number: str, config_text: str) -> None:
    """Until the serving process closes its end."""
    config: WorkerConfig = TypeAdapter(WorkerConfig).validate_json(config_text)
    control = socket.socket(fileno=_aside(int(number)))
    sys.path.extend(config.jail.search_path)
    limits, base = config.jail.limits, confinement.address_space()
    memory = Memory(limits, base)
    states = confinement.confine(
        limits, _readable(config), os.getppid(), base, config.jail.layers, network=config.network
    )
    parsers: dict[str, Parser[Any]] = {}

    def load(ref: ComponentRef) -> Parser[Any]:
        if ref.target not in parsers:  # one instance a process: its settings never change
            parsers[ref.target] = load_parser(ref)
        return parsers[ref.target]

    control.sendall(READY)
    while True:
        _, fds, _, _ = socket.recv_fds(control, 1, 2)
        if len(fds) < 2:
            return
        connection, file = map(_aside, fds)
        os.dup2(file, FILE)
        os.close(file)
        with socket.socket(fileno=connection) as asked, contextlib.suppress(ConnectionError):
            answer(asked, memory, states, load)


def _aside(number: int) -> int:
    """The same open file under a number that nothing else is moved to."""
    moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    os.close(number)
    return moved


def _readable(config: WorkerConfig) -> list[Path]:
    """Also where the parser's package lies, should that be outside `sys.path` (an editable install)."""
    spec = importlib.util.find_spec(config.module.partition(".")[0])
    ours = [Path(p) for p in (spec.submodule_search_locations or () if spec else ())]
    named = [Path(p) for p in (*config.read, *(_NETWORK_FOLDERS if config.network else ()))]
    return [*readable_folders(), *(p for p in (*ours, *named) if p.is_dir())]


if __name__ == "__main__":
    main(*sys.argv[1:])
