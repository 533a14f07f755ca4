"""Language models that stream an answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sourcebook.documents import Passage
from sourcebook.events import Delta
from sourcebook.interfaces.components import Component, S


@dataclass(frozen=True)
class Message:
    """One turn: `role` is system, user or assistant."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class LLMRequest:
    """What is asked of a model. `passages` are numbered from 1, as `messages` quotes them.

    `options` are the caller's own (temperature, max_tokens, ...), passed through where the server knows them.
    """

    messages: tuple[Message, ...]
    question: str
    passages: tuple[Passage, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class LLM(Component[S]):
    """Streams an answer. `generates` is False for one that only quotes.

    `stream` yields `Reasoning` and `Text` as they come, at most one `Finish` and then maybe `Usage`. It ends after the
    server did; a stream without `Finish` was cut. Failures are raised as `LLMError`, never yielded. Closing the
    iterator (`aclose`) ends the upstream within 100 ms. Nothing is opened before the first `anext`.
    """

    generates: ClassVar[bool] = True
    context_window: int = 8192

    @abstractmethod
    def stream(self, request: LLMRequest) -> AsyncIterator[Delta]:
        """The answer, piece by piece."""

    def count(self, text: str) -> int:
        """How many tokens `text` has; an estimate on the high side where no tokenizer is at hand."""
        return len(text.encode()) // 3 + 1
