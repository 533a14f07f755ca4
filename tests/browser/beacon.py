"""A host that nobody may speak to: `evil.test` and all below it lead here, and every connection is counted."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

HOST = "evil.test"


class Beacon:
    """Counts connections, also those that are no request in the browser's log, as a WebSocket's."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.connections = 0
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # A blocked accept() notices a shutdown, and not a close.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()
