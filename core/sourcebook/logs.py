"""The log of a process: one line a record, for a terminal or as JSON, each with the ids of what it was written for.

The standard library's logging does the rest: everything here and in the libraries beneath already speaks it, and what
is added are two formatters. structlog would bring a second way to log, and its processors, to say the same lines.

A configured secret is masked in whatever is logged, also by a library: that is the second line. The first is that
nothing of ours logs one.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from sourcebook.about import ids
from sourcebook.configuration import MASK, Configuration
from sourcebook.settings import Logging

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook

OURS = ("sourcebook", "sourcebook_api", "uvicorn")
"""Loggers that `level` is for, beside those of plugins' packages. All others begin at `warning`, whatever it says."""

_ADDRESSES = "uvicorn.access"  # tells whole addresses, with the names of files; ours tells routes
_LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_SHORT = 4  # characters; a shorter secret stands in half of all words


class Handler(logging.StreamHandler[TextIO]):
    """Ours, which another call of `configure` replaces. `named` are the loggers whose level it has set."""

    named: tuple[str, ...] = ()


def configure(configuration: Configuration, stream: TextIO | None = None) -> Handler:
    """Log as `[logging]` says, to `stream` (default: where it went before, or stderr). May be called again."""
    options = configuration.settings.logging
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if isinstance(handler, Handler)]
    handler = Handler(stream or (ours[0].stream if ours else sys.stderr))
    secrets = configuration.secret_values()
    handler.setFormatter(JsonLines(secrets) if options.format == "json" else ConsoleLines(secrets))
    for other in ours:
        root.removeHandler(other)
        for name in other.named:
            logging.getLogger(name).setLevel(logging.NOTSET)
    handler.named = _set_levels(options)
    root.addHandler(handler)
    return handler


def follow(book: Sourcebook) -> None:
    """Log as the configuration of `book` says after every reload."""
    book.reloading.listeners.append(configure)


def _set_levels(options: Logging) -> tuple[str, ...]:
    logging.getLogger().setLevel(max(_LEVELS[options.level], logging.WARNING))
    ours = (*OURS, *{point.value.partition(".")[0] for point in entry_points(group="sourcebook")})
    levels = {name: _LEVELS[level] for name, level in (dict.fromkeys(ours, options.level) | options.levels).items()}
    levels[_ADDRESSES] = logging.CRITICAL + 1
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return tuple(levels)


class _Lines(logging.Formatter):
    """What both forms tell of a record, with every secret masked."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        super().__init__()
        known = sorted((s for s in secrets if len(s) >= _SHORT), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def masked(self, text: str) -> str:
        """Without any configured secret."""
        return self._secrets.sub(MASK, text) if self._secrets is not None else text

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The ids, and what the record brings along in `extra={"fields": ...}`."""
        given: Mapping[str, Any] = getattr(record, "fields", {})
        return {**ids(), **{k: self.masked(v) if isinstance(v, str) else v for k, v in given.items()}}

    def error(self, record: logging.LogRecord) -> str:
        """The traceback, where there is one."""
        return self.masked(self.formatException(record.exc_info)) if record.exc_info else ""


class JsonLines(_Lines):
    """One object a line: `at`, `level`, `logger`, `message`, the ids, further fields, and `error`, a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """A record."""
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.masked(record.getMessage()),
            **self.fields(record),
        }
        if error := self.error(record):
            told["error"] = error
        # A lone surrogate, as in a file's name, is no JSON; what some readers take for a line's end is JSON as it is.
        line = orjson.dumps(_storable(told), default=str).decode()
        return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


class ConsoleLines(_Lines):
    """`time LEVEL logger: message  name=value ...`, and a traceback below. No record can make another line."""

    def format(self, record: logging.LogRecord) -> str:
        """A record."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        more = "".join(f" {name}={value}" for name, value in self.fields(record).items() if value not in (None, ""))
        said = f"{self.masked(record.getMessage())}{' ' if more else ''}{more}"
        line = f"{at} {record.levelname:<7} {record.name}: {_CONTROL.sub(_escaped, said)}"
        error = self.error(record)
        return str(_storable(f"{line}\n{error}" if error else line))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _storable(inner) for name, inner in value.items()}
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value
