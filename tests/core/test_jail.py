"""The parser jail from outside: what goes in, what comes out, and what is left of a process that behaved badly."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from jail_parsers import Lines, Words

from sourcebook.confinement import LAYERS, missing
from sourcebook.documents import join_segments
from sourcebook.errors import (
    ConfigError,
    DocumentError,
    Encrypted,
    LimitExceeded,
    Malformed,
    NoText,
    ParserDied,
    PluginError,
)
from sourcebook.interfaces import ComponentSettings
from sourcebook.jail import ComponentRef, Jail, JailLimits, Parsed
from sourcebook.jail_frames import MESSAGE, HEADER
from sourcebook.testing.parsers import parse as parse_here

T = TypeVar("T")
Run = Callable[[Awaitable[T]], T]
HERE = Path(__file__).parent
