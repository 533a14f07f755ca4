"""What all components have: settings, a name, a context to open in."""

from __future__ import annotations

import logging
from abc import ABC
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from sourcebook.http import Http


class ComponentSettings(BaseModel):
    """Base of every component's settings: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def files(self) -> tuple[Path, ...]:
        """Files and folders that a parser or chunker with these settings reads, beside its document: a tokenizer.

        The jail hides every other file from it, but for code.
        """
        return ()


S = TypeVar("S", bound=ComponentSettings)


@dataclass(frozen=True)
class Context:
    """What a component gets at `open`: never the settings of others, never a secret that is not its own.

    `folder` is its own below the data folder and exists; `http` is our client: `request`, `stream`, our errors.
    """

    log: logging.Logger
    folder: Path
    http: Http


class Component(ABC, Generic[S]):
    """Base of what lives in the serving process. `settings` is validated before `__init__`."""

    name: ClassVar[str]
    Settings: ClassVar[type[ComponentSettings]] = ComponentSettings

    def __init__(self, settings: S, instance: str = "") -> None:
        self.settings = settings
        self.instance = instance or type(self).name

    async def open(self, context: Context) -> None:
        """Connect, load, warm up. Called once, before any other call."""

    async def ping(self) -> None:
        """Ask what this talks to whether it is there, and change nothing. Raises what a call would raise.

        For `doctor --connect`, after `open`. Embedders, rerankers and LLMs need none: they are asked one word.
        """

    async def close(self) -> None:
        """Give back what `open` took. Called once, also when `open` failed."""
