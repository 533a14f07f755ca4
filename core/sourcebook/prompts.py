"""Prompts from Jinja2 templates: the packaged ones, or an operator's own files. Rendered in Jinja's sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sourcebook import settings
from sourcebook.documents import Passage, Place
from sourcebook.errors import ConfigError
from sourcebook.hidden import without_hidden
from sourcebook.interfaces import LLM, Message

if TYPE_CHECKING:
    from typing import Any

    from jinja2 import Template

_HISTORY = 3  # one part in so many of the window, at most, is for what was said before
_FENCE = re.compile(r"<(?=\s*/?\s*passage\b)", re.IGNORECASE)


def fenced(text: str) -> str:
    """Text that cannot close its own fence, nor hide anything."""
    shown = without_hidden(text)
    return _FENCE.sub("&lt;", shown) if "<" in shown else shown


class Prompts:
    """The three templates of a pipeline, compiled once. Raises `ConfigError` for one that is missing or broken."""

    def __init__(self, options: settings.Prompts) -> None:
        self._system = ""  # it is given nothing, so it is always the same
        self._question = _template("question", options.question)
        self._condense = _template("condense", options.condense)
        self._try(options)

    def _try(self, options: settings.Prompts) -> None:
        """Render each once with made-up values: what cannot be rendered is told at the start, not to a client."""
        from jinja2 import TemplateError

        place = Place(page=1, path=("Heading",))
        passage = Passage("p", "s", "n", "d", "g", 0, 0, 4, "Text", title="Title", places=(place,))
        history = (Message("user", "Before?"), Message("assistant", "Then."))
        tries: dict[str, Callable[[], object]] = {
            "system": partial(self._say, options.system),
            "question": partial(self.answer, "Why?", [passage]),
            "condense": partial(self.condense, "Why?", history),
        }
        for name, attempt in tries.items():
            try:
                attempt()
            except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
                path = getattr(options, name) or "the packaged template"
                raise ConfigError(f"prompts.{name}: {path} cannot be rendered: {error}.") from error

    def _say(self, path: Path | None) -> None:
        self._system = _template("system", path).render().strip()

    def answer(
        self, question: str, passages: Sequence[Passage], history: Sequence[Message] = (), more: str = ""
    ) -> tuple[Message, ...]:
        """System, history, and the question with its numbered passages. `more` goes below the instructions."""
        numbered = [
            {
                "title": _attribute(p.title),
                "where": _attribute(str(p.places[0])) if p.places else "",
                "text": p.prompt_text,
            }
            for p in passages
        ]
        asked = self._question.render(question=question, passages=numbered)
        system = f"{self._system}\n\n{more}".strip()
        return (Message("system", system), *history, Message("user", asked.strip()))

    def condense(self, question: str, history: Sequence[Message]) -> tuple[Message, ...]:
        """Asks for the question on its own."""
        return (Message("user", self._condense.render(question=question, history=history).strip()),)


def _attribute(text: str) -> str:
    """A file's or heading's name within quotation marks, which it cannot end."""
    return " ".join(text.replace('"', "'").split())


@dataclass(frozen=True)
class Fitted:
    """Messages within the model's window, the passages in them, and how many passages and turns were left out.

    `tokens` is what the messages have, of the `room` that there was, as the model estimates.
    """

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    dropped: int
    dropped_turns: int
    tokens: int = 0
    room: int = 0


def fit(
    llm: LLM[Any],
    prompts: Prompts,
    question: str,
    passages: Sequence[Passage],
    history: Sequence[Message],
    answer: int,
    more: str = "",
) -> Fitted:
    """Share the model's window: `answer` tokens stay free, history gets at most a third of the rest, passages follow.

    The oldest turns go first where they are over their share; then the last passages, the other turns, at last the
    first passage. The question itself always stays. `more` is what the client adds to the instructions.
    """
    room = max(llm.context_window - answer, llm.context_window // 4)
    turns, kept = _recent(llm, history, room // _HISTORY), list(passages)
    while True:
        messages = prompts.answer(question, kept, turns, more)
        tokens = sum(llm.count(m.content) for m in messages)
        if tokens <= room or not (kept or turns):
            return Fitted(messages, tuple(kept), len(passages) - len(kept), len(history) - len(turns), tokens, room)
        if len(kept) > 1 or not turns:
            kept.pop()
        else:
            turns.pop(0)


def _recent(llm: LLM[Any], history: Sequence[Message], room: int) -> list[Message]:
    """The latest turns that fit `room` tokens."""
    kept: list[Message] = []
    for turn in reversed(history):
        room -= llm.count(turn.content)
        if room < 0:
            break
        kept.insert(0, turn)
    return kept


def _template(name: str, path: Path | None) -> Template:
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # A misspelt name is an error, not an empty place in every prompt.
    environment = ImmutableSandboxedEnvironment(
        autoescape=False, trim_blocks=False, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters["fenced"] = fenced
    try:
        if path is None:
            text = (files("sourcebook") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return environment.from_string(text)
    except OSError as error:
        raise ConfigError(f"prompts.{name}: {path} cannot be read: {error.strerror}.") from error
    except TemplateError as error:
        raise ConfigError(f"prompts.{name}: {path}: {error}.") from error
