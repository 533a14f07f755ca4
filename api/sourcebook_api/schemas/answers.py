"""Questions, answers and the runs that make them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from sourcebook_api.schemas.common import Body, Id, Plain, Shown, StoredProblem
from sourcebook_api.schemas.library import FoundPassage, Title

QuestionText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16_000), Plain]
Ids = Annotated[list[Id], Field(min_length=1, max_length=100)]
SourceIds = Annotated[list[Id], Field(max_length=1000)]
NoteText = Annotated[str, Field(max_length=500_000), Plain]
Filters = Annotated[dict[str, Any], Field(max_length=100, description="What is known of a source; see `search`.")]
PassageLimit = Annotated[int, Field(ge=1, le=100, description="How many passages at most (top-k).")]
SearchMode = Annotated[Literal["hybrid", "lexical", "dense"], Field(description="Which legs; else the pipeline's own.")]
Weights = Annotated[
    dict[Id, Annotated[float, Field(ge=0, le=100)]],
    Field(max_length=100, description="Notebook to weight: 1 where none is given, 0 leaves it out."),
]


class NewSearch(Body):
    """A question to find passages for. `sources` narrows to these source ids, `filters` to what is known of them.

    A filter's entries must all hold: `{"tags": ["lease", "contract"], "year": {"gte": 2020}}` is any of two tags and a
    bound; `and`, `or` (lists) and `not` combine. Keys are `source`, `tags`, `name`, `media_type`, `language`, `added`,
    and those of `[filters]` in the configuration. `explain` adds each stage's ranks and scores.
    """

    question: QuestionText
    notebooks: Ids
    limit: PassageLimit | None = None
    sources: SourceIds | None = None
    filters: Filters | None = None
    mode: SearchMode | None = None
    weights: Weights | None = None
    explain: bool = False


class Found(Shown):
    """The best passages, best first. `queries` are what was searched with; times in milliseconds.

    `explanation`, where asked for: `stages` in order, with their times and counts, and `passages` by id, with the rank
    and score in each leg (`legs`), after fusing (`fused`), and after `rerank` and `diversity` where there are any.
    """

    items: list[FoundPassage]
    queries: list[str]
    took_ms: float
    explanation: dict[str, Any] | None = None


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

    `replaces` is the id of an earlier question of that conversation: it and all after it give way to this one. `stream`
    decides between events and one JSON answer; without it the Accept header does.
    """

    question: QuestionText
    notebooks: Annotated[list[Id], Field(default_factory=list, max_length=100)]
    conversation_id: Id | None = None
    replaces: Id | None = None
    sources: SourceIds | None = None
    filters: Filters | None = None
    limit: PassageLimit | None = None
    mode: SearchMode | None = None
    weights: Weights | None = None
    options: ChatOptions = ChatOptions()
    stream: bool | None = None


class ChatAnswer(Shown):
    """A whole answer. `finish`: stop, length, content_filter, other, cancelled or error; `problem` tells of an error.

    `grounded`: whether at least one sentence is supported by what it cites.

    `retrieval`, `usage` and every citation are as in the events of these names. `html` is the text rendered, where that
    was asked for.
    """

    run_id: str
    conversation_id: str
    message_id: str
    message_state: str
    finish: str
    text: str
    reasoning: str
    citations: list[dict[str, Any]]
    grounded: bool
    dropped_citations: int
    retrieval: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    problem: StoredProblem | None = None
    html: str | None = None


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

    `removed_at` says when the cited source was deleted; name and quote are gone then too. `url` opens it without a key.
    `places` say where in the original the quote stands: of a note's citations, and where they were asked for.
    """

    id: str
    n: int
    message_id: str
    source_id: str | None
    source_name: str | None
    document_id: str | None
    passage_id: str | None
    start: int
    end: int
    quote: str
    answer_start: int
    answer_end: int
    supported: bool
    removed_at: datetime | None
    url: str
    places: list[dict[str, Any]] | None = None


class MessageShown(Shown):
    """One turn of a conversation. `state`: complete or incomplete. `replaced_at`: when another took its place."""

    id: str
    role: str
    text: str
    reasoning: str
    state: str
    details: dict[str, Any]
    created_at: datetime
    replaced_at: datetime | None
    citations: list[CitationShown]
    html: str | None = None


class NewConversation(Body):
    """An empty conversation over some notebooks. Its first question gives it a title where it has none."""

    title: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), Plain] = ""
    notebooks: Ids


class ConversationChanges(Body):
    """What is to be changed; what is left out stays."""

    title: Title | None = None
    notebooks: Ids | None = None


class ConversationShown(Shown):
    """A thread of questions and answers over some notebooks. `version` goes up with every edit, and is its ETag."""

    id: str
    title: str
    notebooks: list[str]
    origin: str
    version: int
    created_at: datetime
    updated_at: datetime


class WholeConversation(ConversationShown):
    """A conversation with all its messages, oldest first."""

    messages: list[MessageShown]


class NewNote(Body):
    """A note to write (`text`), or an answer to keep with its citations (`message_id`).

    Both: a part of that answer, as it was selected; of the citations those are kept that a `[n]` in it names.
    """

    title: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), Plain] = ""
    text: NoteText | None = None
    message_id: Id | None = None


class NoteChanges(Body):
    """What is to be changed; what is left out stays. A `[n]` in the text goes on to mean citation n of the note."""

    title: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), Plain] | None = None
    text: NoteText | None = None


class NoteShown(Shown):
    """A note. `version` goes up with every edit, and is its ETag."""

    id: str
    notebook_id: str
    title: str
    text: str
    version: int
    created_at: datetime
    updated_at: datetime


class WholeNote(NoteShown):
    """A note with its citations, which stay as long as the note: a `[n]` in the text is the citation with this `n`."""

    citations: list[CitationShown]
    html: str | None = None


class Markdown(Body):
    """A text to be shown as it would be in a note."""

    text: NoteText


class Rendered(Shown):
    """Safe to be put into a page as it is. `null` for texts over 200,000 characters."""

    html: str | None
