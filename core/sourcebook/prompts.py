"""Prompts from Jinja2 templates: the packaged ones, or an operator's own files. Rendered in Jinja's sandbox."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sourcebook import settings
from sourcebook.documents import Passage
from sourcebook.errors import ConfigError
from sourcebook.hidden import without_hidden
from sourcebook.interfaces import LLM, Message

if TYPE_CHECKING:
    from typing import Any

    from jinja2 import Template

_FENCE = re.compile(r"<(?=\s*/?\s*passage\b)", re.IGNORECASE)


def fenced(text: str) -> str:
    """Text that cannot close its own fence, nor hide anything."""
    return _FENCE.sub("&lt;", without_hidden(text))


class Prompts:
    """The three templates of a pipeline, compiled once. Raises `ConfigError` for one that is missing or broken."""

    def __init__(self, options: settings.Prompts) -> None:
        self._system = _template("system", options.system)
        self._question = _template("question", options.question)
        self._condense = _template("condense", options.condense)

    def answer(
        self, question: str, passages: Sequence[Passage], history: Sequence[Message] = ()
    ) -> tuple[Message, ...]:
        """System, history, and the question with its numbered passages."""
        numbered = [
            {
                "title": _attribute(p.title),
                "where": _attribute(str(p.places[0])) if p.places else "",
                "text": p.prompt_text,
            }
            for p in passages
        ]
        asked = self._question.render(question=question, passages=numbered)
        return (Message("system", self._system.render().strip()), *history, Message("user", asked.strip()))

    def condense(self, question: str, history: Sequence[Message]) -> tuple[Message, ...]:
        """Asks for the question on its own."""
        return (Message("user", self._condense.render(question=question, history=history).strip()),)


def _attribute(text: str) -> str:
    """A file's or heading's name within quotation marks, which it cannot end."""
    return " ".join(text.replace('"', "'").split())


def fit(
    llm: LLM[Any], prompts: Prompts, question: str, passages: Sequence[Passage], history: Sequence[Message], answer: int
) -> tuple[tuple[Message, ...], tuple[Passage, ...], int]:
    """Messages, the passages that fit the model's window beside `answer` tokens, and how many were left out.

    The last passages go first, then the oldest turns, at last the first passage: the question itself always stays.
    """
    room = llm.context_window - answer
    kept, turns = list(passages), list(history)
    while True:
        messages = prompts.answer(question, kept, turns)
        if sum(llm.count(m.content) for m in messages) <= room or not (kept or turns):
            return messages, tuple(kept), len(passages) - len(kept)
        if len(kept) > 1 or not turns:
            kept.pop()
        else:
            turns.pop(0)


def _template(name: str, path: Path | None) -> Template:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(autoescape=False, trim_blocks=False, keep_trailing_newline=True)
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
