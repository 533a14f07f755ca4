"""The pipelines' own templates as prompts: a question with its passages, and a follow-up on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sourcebook import Caller, Message
from sourcebook.app import Sourcebook
from sourcebook.errors import InvalidInput, NotFound
from sourcebook_plugins.mcp.calling import chosen


@dataclass(frozen=True)
class Prompt:
    """One prompt: what it is of, and its arguments with their meanings; the first ones, `required`, must be given."""

    pipeline: str
    kind: str
    description: str
    arguments: Mapping[str, str]
    required: Sequence[str]


_QUESTION = "What is asked."


def prompts_of(book: Sourcebook) -> dict[str, Prompt]:
    """Two a pipeline: `answer-<pipeline>` and `condense-<pipeline>`."""
    found = {}
    for name in sorted(pipeline.name for pipeline in book.pipelines):
        found[f"answer-{name}"] = Prompt(
            name,
            "answer",
            f"The question with the passages that fit it best, as the pipeline {name!r} puts them to its model.",
            {"question": _QUESTION, "notebooks": "Ids or titles, with commas between; else all of this pipeline."},
            ["question"],
        )
        found[f"condense-{name}"] = Prompt(
            name,
            "condense",
            f"Asks for a follow-up question on its own, as the pipeline {name!r} does before it searches.",
            {"question": _QUESTION, "conversation_id": "The conversation that it follows on."},
            ["question", "conversation_id"],
        )
    return found


async def render(caller: Caller, name: str, given: Mapping[str, str]) -> tuple[Prompt, list[Message]]:
    """A prompt's messages. Raises `NotFound` for a prompt that there is not, `InvalidInput` for its arguments."""
    prompt = prompts_of(caller.book).get(name)
    if prompt is None:
        raise NotFound(f"There is no prompt {name[:100]!r}.", remedy="`prompts/list` tells which there are.")
    if unknown := sorted(given.keys() - prompt.arguments.keys()):
        raise InvalidInput(f"The prompt has no argument {unknown[0]!r}; it has: {', '.join(prompt.arguments)}.")
    if missing := [n for n in prompt.required if not given.get(n, "").strip()]:
        raise InvalidInput(f"The prompt needs the argument {missing[0]!r}.")
    question = given["question"].strip()
    templates = caller.book.answering.prompts(prompt.pipeline)
    if prompt.kind == "condense":
        await caller.book.conversations.get(caller.principal, given["conversation_id"])
        history = await caller.book.conversations.history(given["conversation_id"])
        return prompt, list(templates.condense(question, history))
    notebooks = await _notebooks(caller, prompt.pipeline, given.get("notebooks", ""))
    found = await caller.search(question, notebooks)
    return prompt, list(templates.answer(question, found.passages))


async def _notebooks(caller: Caller, pipeline: str, given: str) -> list[str]:
    if names := [name.strip() for name in given.split(",") if name.strip()]:
        return await chosen(caller, names)
    mine = [n.id for n in await caller.all_notebooks() if n.pipeline == pipeline]
    if not mine:
        raise InvalidInput(
            f"No notebook is on the pipeline {pipeline!r}.", code="no_notebook", remedy="Name the notebooks to ask."
        )
    return mine
