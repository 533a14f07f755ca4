"""The jailed child that was forked ahead: it has confined itself, and waits for its document."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from sourcebook.jail_child import CONNECTION, FILE

PAUSE = 0.03
"""Seconds in which nothing was read, after which it warms up: sooner, that would take time from documents."""

_DOCUMENT, _WARM_UP = b"D", b"W"


@dataclass
class Spare:
    """As the server sees it. `way`: over which the files come to it."""

    pid: int
    way: socket.socket
    warm: bool = False

    def give(self, files: tuple[int, int]) -> bool:
        """Hand it a document's files; False where it is dead."""
        try:
            socket.send_fds(self.way, [_DOCUMENT], files)
        except OSError:
            self.way.close()
            return False
        return True

    def warm_up(self) -> None:
        """Have it read a sample, once."""
        self.warm = True
        with contextlib.suppress(OSError):  # should it be dead, the next document finds out
            self.way.send(_WARM_UP)


def untaken(way: socket.socket) -> bool:
    """Whether a child that is gone never took its files: then they lie unread in its end of the way."""
    with way:
        try:
            way.recv(1, socket.MSG_DONTWAIT)
        except ConnectionResetError:
            return True
        except OSError:
            pass
        return False


def wait_for_files(rehearse: Callable[[], None]) -> None:
    """In the child, which waits on `CONNECTION`: its document's files, at the numbers that it knows."""
    with socket.socket(fileno=CONNECTION) as way:
        said, fds, _, _ = socket.recv_fds(way, 1, 2)
        if said == _WARM_UP:
            rehearse()
            _, fds, _, _ = socket.recv_fds(way, 1, 2)
    if len(fds) < 2:  # the server is gone
        os._exit(0)
    for fd, number in zip(fds, (CONNECTION, FILE), strict=True):
        os.dup2(fd, number)
        os.close(fd)
