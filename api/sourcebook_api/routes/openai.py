"""`/v1`: notebooks as models, for every client that speaks OpenAI's API."""

from __future__ import annotations

import base64
from contextlib import aclosing
from typing import Annotated, Any, cast

from fastapi import APIRouter, Body, Request, Response

from sourcebook.embeddings import embed
from sourcebook.errors import InvalidInput, NotFound, SourcebookError
from sourcebook.events import Event
from sourcebook.interfaces import Embedder, Message
from sourcebook.notebooks import Notebook
from sourcebook.pipelines import Pipelines
from sourcebook.run import Run
from sourcebook_api import openai_wire as wire
from sourcebook_api.access import Asking, Caller, Wired
from sourcebook_api.openapi import problems
from sourcebook_api.schemas.openai import (
    ChatCompletion,
    ChatCompletionRequest,
    EmbeddingList,
    EmbeddingsRequest,
    ModelList,
    ModelShown,
    OpenAIError,
)
from sourcebook_api.sse import EventStream, unless_gone

router = APIRouter(prefix="/v1", tags=["openai"])

_NOTEBOOK = "nb_01k8v3q4zt6w9x2y5b7c8d9e0f"
_MESSAGES = [{"role": "user", "content": "When does the harbour close?"}]
_CHAT = {
    "whole": {"value": {"model": _NOTEBOOK, "messages": _MESSAGES}},
    "streamed": {"value": {"model": _NOTEBOOK, "messages": _MESSAGES, "stream": True}},
}
_EMBED = {"one": {"value": {"model": _NOTEBOOK, "input": "The harbour closes at ten."}}}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ChatCompletion,
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "The answer; with `stream`, as chunks up to `[DONE]`.",
    },
    # Named here so that its schema is in the document: every other error has the same.
    400: {"model": OpenAIError, **problems(400)[400]},
}
_PAGE = 200


@router.get("/models", responses={400: _STREAM[400]})
async def list_models(asking: Asking) -> ModelList:
    """Every notebook that this key may read, as a model."""
    found: list[ModelShown] = []
    cursor: str | None = None
    while True:
        page = await asking.book.notebooks.listing(asking.principal, _PAGE, cursor)
        found += [_model(notebook) for notebook in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return ModelList(data=found)


@router.get("/models/{model}", responses=problems(404))
async def get_model(asking: Asking, model: str) -> ModelShown:
    """One notebook, by its id or its title, as a model."""
    return _model(await _notebook(asking, model))


@router.post("/chat/completions", response_model=ChatCompletion, responses={**problems(404, 502), **_STREAM})
async def create_chat_completion(
    asking: Asking, request: Request, body: Annotated[ChatCompletionRequest, Body(openapi_examples=_CHAT)]
) -> Response | ChatCompletion:
    """Answer the last message from the notebook that `model` names, citing its sources.

    Citations are `annotations` of the type `url_citation`; their addresses open the cited words in any browser.
    """
    _refuse_what_is_not_there(body)
    run = await _ask(asking, body)

    def link_of(citation_id: str) -> str:
        return asking.book.links.url(citation_id, str(request.base_url))

    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        chunks = wire.Chunks(run.id, body.model, link_of, include_usage=usage)
        return EventStream(wire.chunks_of(run, chunks), asking.book.settings.runs.heartbeat)
    events = await unless_gone(request.receive, _events(run))
    if events is None:
        return Response(status_code=499)  # nobody is there to read it
    if run.error is not None:  # half an answer would pass for a whole one here
        raise run.error
    return ChatCompletion.model_validate(wire.completion(run, body.model, events, link_of))


@router.post("/embeddings", responses={**problems(404, 502), 400: _STREAM[400]})
async def create_embeddings(
    asking: Asking, wired: Wired, body: Annotated[EmbeddingsRequest, Body(openapi_examples=_EMBED)]
) -> EmbeddingList:
    """Embed texts with the embedder of a notebook's pipeline, or with one that the configuration names."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not all(isinstance(text, str) and text for text in texts):
        raise _bad("Only texts can be embedded here, not tokens.", "input")
    embedder = await _embedder(asking, wired.pipelines, body.model)
    space = next((s for s in embedder.spaces if s.kind == "dense"), embedder.spaces[0])
    if body.dimensions not in (None, space.dimensions):
        raise _bad(f"The vectors of this model have {space.dimensions} dimensions.", "dimensions")
    data: list[dict[str, Any]] = []
    for first in range(0, len(texts), embedder.max_batch):
        vectors = (await embed(embedder, texts[first : first + embedder.max_batch], body.input_type))[space.name]
        for vector in vectors:
            packed = body.encoding_format == "base64"
            shown: Any = base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist()
            data.append({"object": "embedding", "index": len(data), "embedding": shown})
    tokens = sum(len(text.encode()) // 3 + 1 for text in texts)
    return EmbeddingList(data=data, model=body.model, usage={"prompt_tokens": tokens, "total_tokens": tokens})


def _refuse_what_is_not_there(body: ChatCompletionRequest) -> None:
    """Raise `InvalidInput` for what would change the answer and is not done here."""
    if body.tools or body.functions:
        field = "tools" if body.tools else "functions"
        raise _bad("Tools are not offered here: answers come from the notebook's sources.", field, "tools_unsupported")
    if body.n not in (None, 1):
        raise _bad("One answer is given to one question.", "n")
    if body.logprobs:
        raise _bad("There are no logprobs here.", "logprobs")
    if body.response_format and body.response_format.get("type", "text") != "text":
        raise _bad("Answers are text with citations; there is no other format.", "response_format")
    if body.modalities and body.modalities != ["text"]:
        raise _bad("Answers are text.", "modalities")
    for message in body.messages:
        if isinstance(message.content, list) and any(p.type not in ("text", "input_text") for p in message.content):
            raise _bad("Only text can be asked here.", "messages")


async def _ask(asking: Caller, body: ChatCompletionRequest) -> Run:
    """Begin the answer. What the client says of earlier turns is the history; its system messages are wishes."""
    last = len(body.messages) - 1
    while last >= 0 and body.messages[last].role != "user":
        last -= 1
    question = body.messages[last].text().strip() if last >= 0 else ""
    if not question:
        raise _bad("There is no message of the role `user` with text.", "messages")
    named = await _notebook(asking, body.model)
    notebooks = list(dict.fromkeys([named.id, *body.sourcebook.notebooks]))
    turns = [m for m in body.messages[:last] if m.role in ("user", "assistant") and m.text()]
    wishes = [m.text() for m in body.messages if m.role in ("system", "developer") and m.text()]
    return await asking.ask(
        question,
        notebooks,
        history=[Message(cast(Any, m.role), m.text()) for m in turns],
        sources=body.sourcebook.sources,
        filters=body.sourcebook.filters,
        limit=body.sourcebook.limit,
        mode=body.sourcebook.mode,
        weights=body.sourcebook.weights,
        options=body.options(),
        instructions="\n\n".join(wishes),
        origin="openai",
        grace=0.0,
    )


async def _events(run: Run) -> list[Event]:
    async with aclosing(run.follow()) as frames:
        return [frame.event async for frame in frames]


async def _notebook(asking: Caller, model: str) -> Notebook:
    """A notebook by id or title. Raises `NotFound`, code `model_not_found`."""
    found = await asking.book.notebooks.find(asking.principal, model)
    if found is None:
        raise NotFound(
            f"There is no notebook {model!r}.",
            code="model_not_found",
            remedy="GET /v1/models lists the notebooks that this key may read.",
            param="model",
        )
    await asking.book.plugins.authorize(asking.principal, "read", found.id)
    return found


async def _embedder(asking: Caller, pipelines: Pipelines, model: str) -> Embedder[Any]:
    """That of a notebook's pipeline, or an instance by its name. Raises `NotFound`, code `model_not_found`."""
    named = next((p.embedder for p in pipelines if p.embedder and p.embedder.instance == model), None)
    if named is not None:
        return cast(Embedder[Any], named)
    notebook = await _notebook(asking, model)
    embedder = pipelines[notebook.pipeline].embedder
    if embedder is None:
        raise NotFound(
            f"The pipeline of {model!r} has no embedder: it searches by words alone.",
            code="model_not_found",
            remedy="Name an `embedder` in the pipeline, or the model of one that has it.",
            param="model",
        )
    return embedder


def _model(notebook: Notebook) -> ModelShown:
    created = int(notebook.created_at.timestamp())
    return ModelShown(id=notebook.id, created=created, name=notebook.title, description=notebook.description)


def _bad(detail: str, param: str, code: str = "bad_request") -> SourcebookError:
    return InvalidInput(detail, code=code, param=param)
