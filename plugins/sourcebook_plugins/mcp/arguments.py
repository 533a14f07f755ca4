"""What the tools take, and what they give: the models behind their schemas. Offsets are code points."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

QuestionText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16_000)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Names = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=500)]],
    Field(max_length=100, description="Ids or titles of notebooks; empty for all, the 100 newest at most."),
]
SourceIds = Annotated[list[Id] | None, Field(max_length=1000, description="Only these sources.")]
Filters = Annotated[
    dict[str, Any] | None,
    Field(description='What must be so of a source, as in {"tags": ["lease"], "added": {"gte": "2026-01-01"}}.'),
]
Limit = Annotated[int | None, Field(ge=1, le=100, description="How many passages at most; else the pipeline's own.")]


class Arguments(BaseModel):
    """What a tool is called with. An argument that it does not have is an error, not a wish that goes unheard."""

    model_config = ConfigDict(extra="forbid")


class ListNotebooks(Arguments):
    """A page of the notebooks."""

    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None


class Search(Arguments):
    """A question, and where to look."""

    question: QuestionText
    notebooks: Names = []
    sources: SourceIds = None
    filters: Filters = None
    limit: Limit = None
    mode: Literal["hybrid", "lexical", "dense"] | None = None


class Ask(Arguments):
    """A question to answer."""

    question: QuestionText
    notebooks: Names = []
    conversation_id: Annotated[Id | None, Field(description="Of an earlier answer, to ask further.")] = None
    sources: SourceIds = None
    filters: Filters = None
    limit: Limit = None


class ReadSource(Arguments):
    """A range of a source's text."""

    source_id: Id
    start: Annotated[int, Field(ge=0, le=2**31, description="First code point.")] = 0
    end: Annotated[int | None, Field(ge=0, le=2**31, description="Behind the last; else 20,000 from the start.")] = None
    document_id: Annotated[Id | None, Field(description="As a citation names it; else the newest.")] = None


class AddSource(Arguments):
    """A text or an address. One of the two is given."""

    notebook: Annotated[str, Field(min_length=1, max_length=500, description="Id or title of the notebook.")]
    text: Annotated[str | None, Field(min_length=1, description="The text itself.")] = None
    url: Annotated[str | None, Field(max_length=4000, description="An address to fetch now.")] = None
    name: Annotated[
        str, Field(min_length=1, max_length=300, description="Of a text; a name such as notes.md says how it is read.")
    ] = "note.md"
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=100)] = []
    metadata: dict[str, Any] = {}
    wait_seconds: Annotated[float, Field(ge=0, le=300, description="How long to wait until it can be asked.")] = 30


class NotebookShown(BaseModel):
    """One notebook."""

    id: str
    title: str
    description: str
    pipeline: str
    updated_at: datetime


class Notebooks(BaseModel):
    """A page of notebooks, newest first."""

    items: list[NotebookShown]
    next_cursor: str | None = None


class PassageShown(BaseModel):
    """`text` stands at `[start, end)` of the document; `where` says it for a person, `places` for a program."""

    n: int
    source_id: str
    document_id: str
    title: str
    start: int
    end: int
    text: str
    where: str
    places: list[dict[str, Any]]
    score: float
    uri: str


class Passages(BaseModel):
    """The best passages, best first."""

    items: list[PassageShown]
    took_ms: float


class CitationShown(BaseModel):
    """`[n]` of the answer: `quote` stands at `[start, end)` of the document. `url` opens it in a browser."""

    n: int
    source_id: str
    document_id: str
    title: str
    start: int
    end: int
    quote: str
    where: str
    places: list[dict[str, Any]]
    answer_start: int
    answer_end: int
    supported: bool
    uri: str
    url: str


class Answer(BaseModel):
    """An answer. `finish`: stop, length, content_filter, other, cancelled or error; `problem` tells of an error.

    `grounded`: whether at least one sentence is supported by what it cites.
    """

    text: str
    citations: list[CitationShown]
    grounded: bool
    finish: str
    conversation_id: str
    message_id: str
    run_id: str
    problem: dict[str, Any] | None = None


class TextShown(BaseModel):
    """`[start, end)` of a text of `length` code points; `next_start` where there is more."""

    source_id: str
    document_id: str
    title: str
    start: int
    end: int
    length: int
    next_start: int | None
    text: str
    where: list[str]


class Added(BaseModel):
    """A source. `new` is false where these bytes were there (one that had failed is read anew). It can be asked when
    its `state` is `ready`.
    """

    source_id: str
    notebook_id: str
    name: str
    state: str
    new: bool
    job_id: str | None
    problem: dict[str, Any] | None = None
    uri: str
