"""Search and chat."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Body, Query, Request, Response

from sourcebook.errors import InvalidInput
from sourcebook.events import Done, ErrorEvent, Retrieval, RunStarted, UsageEvent
from sourcebook.rendering import to_html
from sourcebook.run import Run
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.routes.reading import shown
from sourcebook_api.routes.runs import RUN_STREAM, event_stream
from sourcebook_api.schemas.answers import ChatAnswer, Found, NewChat, NewSearch
from sourcebook_api.schemas.common import Html
from sourcebook_api.schemas.library import FoundPassage
from sourcebook_api.sse import unless_gone

router = api_router("answers")

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"model": ChatAnswer, "content": RUN_STREAM, "description": "The answer."}
}
_FILTERED = {
    "question": "What does the lease say about repairs?",
    "notebooks": ["nb_01k8v3q4zt6w9x2y5b7c8d9e0f"],
    "filters": {"tags": "contract", "added": {"gte": "2026-01-01"}, "not": {"media_type": "text/plain"}},
    "mode": "hybrid",
    "explain": True,
}
_ASKED = {"question": "When does the harbour close?", "notebooks": ["nb_01k8v3q4zt6w9x2y5b7c8d9e0f"]}


@router.post("/search", responses=problems(404, 502))
async def search(
    asking: Asking,
    body: Annotated[NewSearch, Body(openapi_examples={"plain": {"value": _ASKED}, "filtered": {"value": _FILTERED}})],
) -> Found:
    """The best passages of some notebooks, without an answer."""
    found = await asking.search(
        body.question,
        body.notebooks,
        limit=body.limit,
        sources=body.sources,
        filters=body.filters,
        mode=body.mode,
        weights=body.weights,
        explain=body.explain,
    )
    items = [FoundPassage.model_validate(shown(p)) for p in found.passages]
    explanation = dict(found.explanation) if found.explanation is not None else None
    took_ms = round(found.took_ms, 1)
    return Found(items=items, queries=list(found.queries), took_ms=took_ms, explanation=explanation)


@router.post(
    "/chat",
    response_model=ChatAnswer,
    responses={**problems(404, 502), **_ANSWER},
)
async def chat(
    asking: Asking,
    request: Request,
    body: Annotated[
        NewChat,
        Body(openapi_examples={"json": {"value": _ASKED}, "events": {"value": {**_ASKED, "stream": True}}}),
    ],
    html: Html = False,
) -> Response | ChatAnswer:
    """Answer a question, as events (`stream`, or `Accept: text/event-stream`) or as one JSON object.

    A run that fails before its first word is a problem in JSON; after it, the answer says so in `finish`.
    """
    return await _answered(asking, request, await _ask(asking, body), body.stream, html)


@router.post(
    "/messages/{message_id}/regenerate", response_model=ChatAnswer, responses={**problems(404, 409, 502), **_ANSWER}
)
async def regenerate(
    asking: Asking,
    request: Request,
    message_id: str,
    stream: Annotated[bool | None, Query(description="As in `chat`.")] = None,
    html: Html = False,
) -> Response | ChatAnswer:
    """Answer a question of a conversation again: `message_id` is the question, or its answer.

    The old answer and all after it give way to the new one; `?replaced=true` still shows them.
    """
    run = await asking.ask(**await asking.book.conversations.asked_before(asking.principal, message_id))
    return await _answered(asking, request, run, stream, html)


async def _answered(
    asking: Caller, request: Request, run: Run, stream: bool | None, html: bool
) -> Response | ChatAnswer:
    accepts = "text/event-stream" in request.headers.get("accept", "")
    if accepts if stream is None else stream:
        return event_stream(asking.book, run)
    answer = await unless_gone(request.receive, _whole(run))
    if answer is None:
        return Response(status_code=499)  # nobody is there to read it; the run's grace period decides
    if run.error is not None and not answer.text:
        raise run.error
    if html:
        answer.html = await asyncio.to_thread(to_html, answer.text)
    return answer


async def _ask(asking: Caller, body: NewChat) -> Run:
    notebooks = body.notebooks
    if not notebooks and body.conversation_id is not None:
        conversation = await asking.book.conversations.get(asking.principal, body.conversation_id)
        notebooks = list(conversation.notebooks)
    if body.replaces and body.conversation_id is None:
        raise InvalidInput("A question that replaces another needs the conversation_id of that one.")
    if not notebooks:
        raise InvalidInput("A question needs at least one notebook to be answered from.")
    return await asking.ask(
        body.question,
        notebooks,
        conversation_id=body.conversation_id,
        replaces=body.replaces,
        sources=body.sources,
        filters=body.filters,
        limit=body.limit,
        mode=body.mode,
        weights=body.weights,
        options=body.options.model_dump(exclude_none=True),
    )


async def _whole(run: Run) -> ChatAnswer:
    """Follow a run to its end."""
    parts: dict[str, Any] = {"run_id": run.id}
    async with aclosing(run.follow()) as frames:
        async for frame in frames:
            match frame.event:
                case RunStarted(conversation_id=conversation_id):
                    parts["conversation_id"] = conversation_id
                case Retrieval() as event:
                    parts["retrieval"] = event.payload()
                case UsageEvent() as event:
                    parts["usage"] = event.payload()
                case ErrorEvent(problem=problem):
                    parts["problem"] = problem
                case Done() as event:
                    parts |= event.payload()
    return ChatAnswer.model_validate({"reasoning": run.progress.reasoning, **parts})
