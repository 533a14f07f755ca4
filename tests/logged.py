"""What is logged, as a server's process would write it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from sourcebook import logs
from sourcebook.configuration import Configuration


class Log(io.StringIO):
    """A stream that the log goes to."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each line, where they are JSON."""
        return [orjson.loads(line) for line in self.getvalue().splitlines()]

    def of(self, logger: str) -> list[dict[str, Any]]:
        """Those of one logger."""
        return [line for line in self.lines if line["logger"] == logger]


@contextmanager
def logged(configuration: Configuration) -> Iterator[Log]:
    """Log into a stream, as the configuration says."""
    root, level = logging.getLogger(), logging.getLogger().level
    log = Log()
    handler = logs.configure(configuration, log)
    try:
        yield log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        for name in handler.named:
            logging.getLogger(name).setLevel(logging.NOTSET)
