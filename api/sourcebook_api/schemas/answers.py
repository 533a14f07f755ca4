"""Questions, answers and the runs that make them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from sourcebook_api.schemas.common import Body, Id, Plain, Shown, StoredProblem
from sourcebook_api.schemas.library import FoundPassage

QuestionText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16_000), Plain]
Ids = Annotated[list[Id], Field(min_length=1, max_length=100)]
SourceIds = Annotated[list[Id], Field(max_length=1000)]
PassageLimit = Annotated[int, Field(ge=1, le=100)]


class NewSearch(Body):
    """A question to find passages for. `sources` narrows to these source ids."""

    question: QuestionText
    notebooks: Ids
    limit: PassageLimit | None = None
    sources: SourceIds | None = None


class Found(Shown):
    """The best passages, best first. `queries` are what was searched with; times in milliseconds."""

    items: list[FoundPassage]
    queries: list[str]
    took_ms: float


class ChatOptions(Body):
    """Passed on to the language model, where its server knows them."""

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=4)] | None = None


class NewChat(Body):
    """A question to answer. With a `conversation_id`, `notebooks` may be left out: the conversation's are asked.

    `stream` decides between events and one JSON answer; without it the Accept header does.
    """

    question: QuestionText
    notebooks: Annotated[list[Id], Field(default_factory=list, max_length=100)]
    conversation_id: Id | None = None
    sources: SourceIds | None = None
    limit: PassageLimit | None = None
    options: ChatOptions = ChatOptions()
    stream: bool | None = None


class ChatAnswer(Shown):
    """A whole answer. `finish`: stop, length, content_filter, other, cancelled or error; `problem` tells of an error.

    `retrieval`, `usage` and every citation are as in the events of these names.
    """

    run_id: str
    conversation_id: str
    message_id: str
    message_state: str
    finish: str
    text: str
    reasoning: str
    citations: list[dict[str, Any]]
    dropped_citations: int
    retrieval: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    problem: StoredProblem | None = None


class RunShown(Shown):
    """A run. `state`: running, done, cancelled or failed. `last_seq` numbers its newest event."""

    id: str
    conversation_id: str
    message_id: str | None
    state: str
    last_seq: int
    created_at: datetime
    finished_at: datetime | None


class CitationShown(Shown):
    """A citation: `quote` stands at `[start, end)` of the document, for `[answer_start, answer_end)` of the answer.

    `removed_at` says when the cited source was deleted; the quote is gone then too.
    """

    id: str
    n: int
    message_id: str
    source_id: str | None
    document_id: str | None
    passage_id: str | None
    start: int
    end: int
    quote: str
    answer_start: int
    answer_end: int
    supported: bool
    removed_at: datetime | None
    places: list[dict[str, Any]] | None = None


class MessageShown(Shown):
    """One turn of a conversation. `state`: complete or incomplete."""

    id: str
    role: str
    text: str
    reasoning: str
    state: str
    details: dict[str, Any]
    created_at: datetime
    citations: list[CitationShown]


class ConversationShown(Shown):
    """A thread of questions and answers over some notebooks."""

    id: str
    title: str
    notebooks: list[str]
    created_at: datetime
    updated_at: datetime


class WholeConversation(ConversationShown):
    """A conversation with all its messages, oldest first."""

    messages: list[MessageShown]
